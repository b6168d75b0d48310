//! The documents are true: links have targets, code blocks do what the page shows, and cited rules exist.

mod page;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use page::{Page, matches, without_blocks};
use session::Session;

const README_LINES_MAX: usize = 150;
const ARCHITECTURE_WORDS_MAX: usize = 1_500;

/// Folders without documents of this project.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];

/// Folders whose files cite rules and invariants.
const CITING: [&str; 3] = ["src", "tests/it", "proto/tope"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Lists the files below `folder` whose names end in `ending`: sorted paths, relative to the root.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
                open.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                found.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text_of(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} at fault:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut faults = Vec::new();
    let pages = files("", ".md");
    assert!(pages.len() > 40, "the documents are here: {pages:?}");
    for path in &pages {
        for link in links(&text_of(path)) {
            if let Some(fault) = link_at_fault(path, &link) {
                faults.push(format!("{}: ({link}): {fault}", path.display()));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn a_link_without_a_target_is_found() {
    let text = "[a](docs/rules.md#quota) [b](nowhere.md) `[c](code.md)` [d](docs/rules.md#nowhere)\n```\n[e](f.md)\n```\n";
    let links = links(text);
    assert_eq!(links, ["docs/rules.md#quota", "nowhere.md", "docs/rules.md#nowhere"]);
    let at_fault = |link: &String| link_at_fault(Path::new("README.md"), link).is_some();
    assert_eq!(links.iter().map(at_fault).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn the_first_pages_stay_short() {
    let lines = text_of("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, at most {README_LINES_MAX}");
    let words = without_blocks(&text_of("docs/ARCHITECTURE.md")).split_whitespace().count();
    assert!(
        words <= ARCHITECTURE_WORDS_MAX,
        "docs/ARCHITECTURE.md has {words} words, at most {ARCHITECTURE_WORDS_MAX}"
    );
}

#[test]
fn every_cited_rule_exists_and_every_invariant_is_cited() {
    let defined: Vec<String> = text_of("docs/rules.md")
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("**"))
        .map(|(number, _)| number.to_owned())
        .collect();
    let rules: BTreeSet<&str> = defined.iter().map(String::as_str).collect();
    assert_eq!(rules.len(), defined.len(), "each number stands for one rule");
    assert_eq!(cited("I3 and (R4.10), R4.x; I64, AI2, I2s, R41.1"), ["I3", "R4.10", "R41.1"]);

    let mut citations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in
        CITING.iter().flat_map(|folder| [".rs", ".proto"].map(|ending| files(folder, ending))).flatten()
    {
        // The examples in this file are not citations.
        let own = path == Path::new("tests/it/documents.rs");
        for number in cited(&text_of(&path)).into_iter().filter(|_| !own) {
            citations.entry(number).or_default().push(path.display().to_string());
        }
    }
    let unknown = citations.iter().filter(|(number, _)| !rules.contains(number.as_str()));
    assert_none(
        &unknown.map(|(number, places)| format!("{number} of {places:?} is no rule")).collect::<Vec<_>>(),
    );
    let is_tested = |number: &str| {
        citations.get(number).is_some_and(|places| places.iter().any(|place| place.starts_with("tests/")))
    };
    let untested = rules.iter().filter(|number| number.starts_with('I') && !is_tested(number));
    assert_none(&untested.map(|number| format!("no test cites {number}")).collect::<Vec<_>>());
}

/// Covers the tables "Where things are" and "Where do I add …".
#[test]
fn every_file_that_the_architecture_names_exists() {
    let text = without_blocks(&text_of("docs/ARCHITECTURE.md"));
    let code = text.split('`').skip(1).step_by(2);
    let paths: BTreeSet<&str> =
        code.filter(|code| code.contains('/') && !code.contains([' ', ':'])).collect();
    assert!(paths.len() > 30, "{paths:?}");
    let is_there = |path: &&str| ["", "src"].iter().any(|folder| root().join(folder).join(path).exists());
    let gone = paths.iter().filter(|path| !is_there(path));
    assert_none(&gone.map(|path| format!("{path} is not there")).collect::<Vec<_>>());
}

/// `tope serve --help` has the list of settings, and the reference must have the same list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_lists_every_setting() {
    let mut command = crate::harness::process::tope();
    command.args(["serve", "--help"]);
    let help = String::from_utf8(crate::harness::process::run(command).await.stdout).expect("text");
    let reference = text_of("docs/reference.md");
    let none_of_the_table = ["--help", "--demo", "--config", "--print-config"];
    let flags = words_with(&help, "--");
    assert!(flags.len() > 8, "{flags:?}");
    let missing = |flag: &&String| {
        !none_of_the_table.contains(&flag.as_str()) && !reference.contains(&format!("| `{flag}` |"))
    };
    assert_eq!(flags.iter().filter(missing).collect::<Vec<_>>(), Vec::<&String>::new());
    let rows: Vec<&str> =
        reference.lines().filter_map(|line| line.split("| `--").nth(1)?.split('`').next()).collect();
    let gone = rows.iter().filter(|flag| !flags.contains(&format!("--{flag}")));
    assert_none(&gone.map(|flag| format!("--{flag} is no flag of serve")).collect::<Vec<_>>());
}

#[test]
fn the_reference_lists_every_job() {
    let reference = text_of("docs/reference.md");
    for job in &tope::jobs::JOBS {
        assert!(reference.contains(&format!("| `{}` |", job.name)), "{}", job.name);
    }
}

#[test]
fn an_output_matches_except_where_the_page_shows_an_ellipsis() {
    let rows = [
        ("a\n…\nc", "a\nb\nb\nc", true),
        ("a\n…\nc", "a\nc", true),
        ("a\n…", "a\nb", true),
        ("a", "a\nb", false),
        ("a\nb", "a", false),
        ("{\"a\": 1,…}", "{\"a\":1, \"b\":2}", true),
        ("{\"a\": 1,…}", "{\"a\":1, \"b\":2", false),
        ("at 2026-11-26T00:00:00Z", "at 2027-01-01T12:31:09.640Z", true),
        (
            "\"name\": \"d2S3zv3ap8sBoheDm5RwkbgyLABZXRTM\"",
            "\"name\": \"d2S3zv3ap8sBoheDm5Rwkbgy-ABZXRT_\"",
            true,
        ),
        ("\"name\": \"d2S3zv3ap8sBoheDm5RwkbgyLABZXRTM\"", "\"name\": \"d2S3zv3ap8sBoheDm5\"", false),
        ("\"retryDelay\": \"300s\"", "\"retryDelay\":\"299s\"", true),
        ("left 99200", "left 99201", false),
    ];
    for (shown, printed, want) in rows {
        assert_eq!(matches(shown, printed).is_ok(), want, "{shown:?} and {printed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_blocks_of_the_readme_work() {
    run("README.md").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_blocks_of_the_guide_work() {
    run("docs/guide.md").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_blocks_of_the_events_page_work() {
    run("docs/events.md").await;
}

/// Runs the blocks of a page from top to bottom.
async fn run(path: &str) {
    let page = Page::read(path, &text_of(path));
    let mut session = Session::start();
    let mut ran = 0;
    for step in page.steps() {
        session.run(&page, &step).await;
        ran += 1;
    }
    assert!(ran > 3, "{path} has blocks");
}

/// Lists the targets of a page's links, without web pages.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in without_blocks(text).lines() {
        // Text in backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            if !link.contains("://") {
                links.push(link.to_owned());
            }
        }
    }
    links
}

/// Says why a link of a page has no target; `None` if it has one.
fn link_at_fault(page: &Path, link: &str) -> Option<String> {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = match file {
        "" => page.to_owned(),
        file => plain(&page.parent().expect("a file has a folder").join(file)),
    };
    if !root().join(&target).exists() {
        return Some("there is no such file".to_owned());
    }
    let anchor = anchor?;
    let headings = anchors(&text_of(&target));
    (!headings.iter().any(|heading| heading == anchor)).then(|| format!("its headings are {headings:?}"))
}

/// Resolves the `..` in a path.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// Makes the anchors of a page's headings, as the common hosts do.
fn anchors(text: &str) -> Vec<String> {
    let headings = without_blocks(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Lists the numbers of rules and invariants in a text, with repetitions.
fn cited(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_'));
    words
        .map(|word| word.trim_matches('.'))
        .filter(|word| is_number_of_rule(word))
        .map(str::to_owned)
        .collect()
}

fn is_number_of_rule(word: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match word.split_at_checked(1) {
        Some(("I", digit)) => digit.len() == 1 && is_digits(digit),
        Some(("R", rest)) => rest.split_once('.').is_some_and(|(a, b)| is_digits(a) && is_digits(b)),
        _ => false,
    }
}

/// Lists the words of a text that begin with `begin`: sorted, without repetitions.
fn words_with(text: &str, begin: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
    let mut found: Vec<String> = words.filter(|word| word.starts_with(begin)).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}
