//! Checks rules of the source, so that docs/ARCHITECTURE.md stays true. Modules import only modules of later layers.
//! Files and functions are short. Tests do not sleep and are not ignored. Each item of the protos has a comment.

mod circles;
mod source;

use std::{fmt::Write as _, path::Path};

use source::Source;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// The modules, from the outermost to the innermost layer. A module may import only modules of later rows.
const LAYERS: [&[&str]; 15] = [
    &["main"],
    &["cli"],
    &["bench"],
    &["server", "console"],
    &["grpc", "http"],
    &["jobs"],
    &["events"],
    &["engine"],
    &["access"],
    &["policy"],
    &["store"],
    &["metrics"],
    &["traces"],
    &["clock", "seldom"],
    &["domain"],
];

/// Modules that belong to no layer. Below: the modules that may import them.
const SETTINGS: [&str; 2] = ["config", "telemetry"];
const SETTINGS_READERS: [&str; 3] = ["main", "cli", "server"];

/// Crates. Only the given modules may name the crate.
const CRATE_HOMES: &[(&str, &[&str])] = &[
    ("tope_migrations", &["store"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("csv", &["bench"]),
    ("hdrhistogram", &["bench"]),
    ("hmac", &["events"]),
    ("indicatif", &["bench"]),
    ("mimalloc", &["main", "metrics"]),
    ("opentelemetry", &["traces"]),
    ("opentelemetry_otlp", &["traces"]),
    ("opentelemetry_sdk", &["traces"]),
    ("prometheus", &["metrics"]),
    ("reqwest", &["access", "events"]),
    ("ring", &["access", "console", "events", "grpc", "store"]),
    ("rustls", &["access", "console", "events", "grpc", "store", "traces"]),
    ("rustls_native_certs", &["console", "store", "traces"]),
    ("sea_orm", &["store"]),
    ("tokio_postgres", &["store"]),
    ("tokio_postgres_rustls", &["store"]),
    ("tokio_cron_scheduler", &["jobs"]),
    ("tokio_rustls", &["console", "grpc"]),
    ("tonic", &["bench", "cli", "console", "grpc", "server", "traces"]),
    ("tonic_health", &["bench", "grpc", "server"]),
    ("tonic_prost", &["bench", "grpc"]),
    ("tonic_reflection", &["grpc", "server"]),
    ("tonic_types", &["bench", "cli", "console", "grpc"]),
    ("x509_cert", &["grpc"]),
];

/// The only crates that `domain` may name. They do no I/O and start no tasks.
const DOMAIN_CRATES: [&str; 7] =
    ["chrono", "chrono_tz", "data_encoding", "foldhash", "sha2", "thiserror", "uuid"];

/// Minimum number of words of a doc comment. A shorter comment does not help a reader who does not know the code.
const DOC_WORDS_MIN: usize = 4;

/// Text that no source may contain, and what to do instead.
const BANNED: [(&str, &str); 6] = [
    ("#[ignore", "a test runs or is deleted"),
    ("should_panic", "assert on the error that is returned"),
    ("thread::sleep", "wait for a condition, with a bound"),
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or leave it out"),
    ("dbg!", "use tracing, or nothing"),
];

#[test]
fn modules_import_only_modules_of_later_layers() {
    let sources = Source::list_rust("src");
    assert!(!sources.is_empty(), "src is empty");
    report(sources.iter().flat_map(imports_at_fault));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    report(circles::circles(&Source::list_rust("src")).into_iter());
}

#[test]
fn each_crate_is_named_only_in_its_modules() {
    report(Source::list_rust("src").iter().flat_map(crates_at_fault));
}

#[test]
fn files_and_functions_are_short() {
    let sources = rust_sources();
    let lines: usize = sources.iter().map(|source| source.text.lines().count()).sum();
    println!("{} files, {} lines on average", sources.len(), lines / sources.len());
    report(sources.iter().flat_map(lengths_at_fault));
}

#[test]
fn no_source_contains_banned_text() {
    report(rust_sources().iter().flat_map(bans_at_fault));
}

#[test]
fn no_doc_comment_is_too_short() {
    report(rust_sources().iter().flat_map(riddles_at_fault));
}

#[test]
fn each_item_of_the_protos_has_a_comment() {
    let protos = Source::list_protos("proto/tope");
    assert!(!protos.is_empty(), "there are no protos");
    report(protos.iter().flat_map(comments_at_fault));
}

/// The sources of the project have no faults. So this test runs each check on sources with faults.
#[test]
fn each_check_finds_the_faults_that_it_is_for() {
    type Check = fn(&Source) -> Vec<String>;
    let long_file = "\n".repeat(FILE_LINES_MAX + 1);
    let long_function = format!("fn long() {{{}}}", "\n    f();".repeat(FUNCTION_LINES_MAX + 1));
    let rows: &[(Check, &str, &str, &[usize])] = &[
        (imports_at_fault, "src/domain/a.rs", "use crate::store::Store;", &[1]),
        (imports_at_fault, "src/clock.rs", "use crate::seldom::Seldom;", &[1]),
        (imports_at_fault, "src/store.rs", "\nuse crate::{domain::id::Id, engine};", &[2]),
        (imports_at_fault, "src/engine/a.rs", "fn f() {\n    crate::grpc::v1::f();\n}", &[2]),
        (imports_at_fault, "src/policy/a.rs", "use super::super::engine::Lane;", &[1]),
        (imports_at_fault, "src/grpc/mod.rs", "use crate::{\n    config::Config,\n};", &[2]),
        (imports_at_fault, "src/cli/a.rs", "use tope::main;", &[1]),
        (imports_at_fault, "src/util.rs", "", &[1]),
        (imports_at_fault, "src/cli/a.rs", "use crate::{config, domain::{store, cli}, store};", &[]),
        (imports_at_fault, "src/store/a.rs", "// crate::grpc\nuse crate::store::b; f(\"crate::grpc\")", &[]),
        (imports_at_fault, "src/main.rs", "use tope::cli;", &[]),
        (crates_at_fault, "src/engine/a.rs", "use sea_orm::Value;", &[1]),
        (crates_at_fault, "src/domain/a.rs", "use tracing::info;", &[1]),
        (crates_at_fault, "src/domain/a.rs", "fn f() -> ::tokio::X {}", &[1]),
        (
            crates_at_fault,
            "src/domain/a.rs",
            "use chrono_tz::Tz; fn f(http: u8) { self.http; a::http::b(); }",
            &[],
        ),
        (lengths_at_fault, "src/domain/a.rs", &long_file, &[1]),
        (lengths_at_fault, "src/domain/a.rs", &long_function, &[1]),
        (lengths_at_fault, "src/domain/a.rs", "trait T { fn f(x: [u8; 2]); }", &[]),
        (bans_at_fault, "tests/it/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", &[2]),
        (bans_at_fault, "tests/it/a.rs", "let c = '\"'; std::thread::sleep(d); // '\"'", &[1]),
        (
            bans_at_fault,
            "tests/it/a.rs",
            "/* todo!() /* */ todo!() */ f(r#\"todo!\"()\"#, \"\\\"todo!\")",
            &[],
        ),
        (riddles_at_fault, "src/a.rs", "/// Whose.\nfn f() {}", &[1]),
        (riddles_at_fault, "src/a.rs", "//! Whose\n//! are they?\n\n/// What this is for.\n// Why.", &[1]),
        (
            comments_at_fault,
            "a.proto",
            "// X.\nmessage X {\n  int64 a = 1;\n  // B.\n  int64 b = 2;\n}",
            &[3],
        ),
        (comments_at_fault, "a.proto", "// S.\nservice S {\n\n  rpc A(B) returns (C);\n}", &[4]),
    ];
    for &(check, path, text, want) in rows {
        let found = check(&Source::invented(path, text));
        let want: Vec<String> = want.iter().map(|line| format!("{path}:{line}: ")).collect();
        let agree = found.len() == want.len() && found.iter().zip(&want).all(|(f, w)| f.starts_with(w));
        assert!(agree, "{path} with {text:?}: found {found:?}, wanted {want:?}");
    }
}

/// Lists the Rust sources, without generated code.
fn rust_sources() -> Vec<Source> {
    ["build.rs", "src", "migrations", "tests", "benches"].into_iter().flat_map(Source::list_rust).collect()
}

fn report(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    let mut text = String::new();
    for fault in &faults {
        let _ = write!(text, "\n  {fault}");
    }
    assert!(faults.is_empty(), "{} at fault:{text}", faults.len());
}

fn fault(source: &Source, offset: usize, what: impl std::fmt::Display) -> String {
    format!("{}:{}: {what}", source.path.display(), source.line_of(offset))
}

/// Returns the top-level module of a file in `src`.
fn module_of(path: &Path) -> String {
    let first = path.components().nth(1).expect("a file of src has a second component");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn imports_at_fault(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    if module == "lib" {
        return Vec::new();
    }
    if layer_of(&module).is_none() && !SETTINGS.contains(&module.as_str()) {
        return vec![fault(source, 0, format!("`{module}` has no place among the layers"))];
    }
    let wrong = |(_, target): &(usize, String)| !may_import(&module, target);
    let imports = imports_of(source).into_iter().filter(wrong);
    imports.map(|(at, target)| fault(source, at, format!("`{module}` must not import `{target}`"))).collect()
}

fn may_import(module: &str, target: &str) -> bool {
    if module == target {
        return true;
    }
    if SETTINGS.contains(&target) {
        return SETTINGS_READERS.contains(&module) || SETTINGS.contains(&module);
    }
    match (layer_of(module), layer_of(target)) {
        (Some(from), Some(to)) => from < to,
        (None, Some(_)) => ["domain", "seldom"].contains(&target),
        // The target is no module of this crate, but a macro or an item of the crate's root.
        (_, None) => true,
    }
}

/// Lists the top-level modules that a file imports, each with its offset.
fn imports_of(source: &Source) -> Vec<(usize, String)> {
    // If a path has more `super` than the depth of the file in its module, the path leaves the top-level module.
    let depth = source.path.components().count() - 1 - usize::from(source.path.ends_with("mod.rs"));
    let roots = ["crate::".to_owned(), "tope::".to_owned(), "super::".repeat(depth)];
    let mut imports = Vec::new();
    for root in roots {
        for at in source.find_words(&root) {
            if !source.code[..at].ends_with("::") {
                imports.extend(first_names(&source.code, at + root.len()));
            }
        }
    }
    imports.sort();
    imports
}

/// Returns the name at `at`. If a group in braces begins there, returns the first name of each path in the group.
fn first_names(code: &str, at: usize) -> Vec<(usize, String)> {
    let Some(group) = code[at..].strip_prefix('{') else {
        return vec![(at, name_at(code, at))];
    };
    let mut names = Vec::new();
    let (mut depth, mut expected) = (0, true);
    for (offset, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && !c.is_whitespace() => {
                expected = false;
                let at = at + 1 + offset;
                names.push((at, name_at(code, at)));
            }
            _ => {}
        }
    }
    names
}

fn name_at(code: &str, at: usize) -> String {
    code[at..].chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect()
}

fn crates_at_fault(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    let refused = |name: &str| match CRATE_HOMES.iter().find(|(homed, _)| *homed == name) {
        _ if module == "domain" => !DOMAIN_CRATES.contains(&name),
        Some((_, homes)) => !homes.contains(&module.as_str()),
        None => false,
    };
    let mut faults = Vec::new();
    for name in dependencies().iter().filter(|name| refused(name)) {
        let found = source.find_words(name).into_iter().filter(|&at| is_crate_at(&source.code, at, name));
        faults.extend(found.map(|at| fault(source, at, format!("`{module}` must not name `{name}`"))));
    }
    faults
}

/// Lists the crates in Cargo.toml, with the names that code uses.
fn dependencies() -> Vec<String> {
    let manifest = include_str!("../../Cargo.toml");
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = section.take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split_once(['=', '.']))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

/// Returns whether the name at `at` begins a path, or is the whole name of a `use`.
fn is_crate_at(code: &str, at: usize, name: &str) -> bool {
    let (before, after) = (code[..at].trim_end(), code[at + name.len()..].trim_start());
    if before.ends_with("use") {
        return after.starts_with(';') || after.starts_with("::") || after.starts_with("as ");
    }
    // If a path begins with `::`, no name comes before the `::`.
    let inner = before
        .strip_suffix("::")
        .is_some_and(|outer| outer.ends_with(|c: char| c.is_alphanumeric() || c == '>'));
    after.starts_with("::") && !inner
}

fn lengths_at_fault(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(fault(source, 0, format!("{lines} lines, at most {FILE_LINES_MAX}")));
    }
    for at in source.find_words("fn") {
        let name = name_at(&source.code, at + "fn ".len());
        let lines = body_of(&source.code[at..]).lines().filter(|line| !line.trim().is_empty()).count();
        if !name.is_empty() && lines > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {lines} lines of code, at most {FUNCTION_LINES_MAX}");
            faults.push(fault(source, at, what));
        }
    }
    faults
}

/// Returns the body of the function at the start of `code`. Empty if the function has no body.
fn body_of(code: &str) -> &str {
    let (mut brackets, mut braces, mut opened) = (0, 0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return "",
            '{' => {
                if braces == 0 {
                    opened = at + 1;
                }
                braces += 1;
            }
            '}' if braces == 1 => return &code[opened..at],
            '}' => braces -= 1,
            _ => {}
        }
    }
    ""
}

fn bans_at_fault(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, instead) in BANNED {
        let found = source.find_words(name).into_iter();
        faults.extend(found.map(|at| fault(source, at, format!("`{name}`: {instead}"))));
    }
    faults
}

/// Finds doc comments with too few words. A section such as `# Errors` is a part of its comment.
fn riddles_at_fault(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let mut words: Option<(usize, usize)> = None;
    for (index, line) in source.text.lines().map(str::trim).chain([""]).enumerate() {
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        match (text, &mut words) {
            (Some(text), None) => words = Some((index, text.split_whitespace().count())),
            (Some(text), Some((_, count))) => *count += text.split_whitespace().count(),
            (None, _) => {
                let short = words.take().filter(|(_, count)| *count < DOC_WORDS_MIN);
                faults.extend(short.map(|(first, count)| {
                    format!("{}:{}: a doc comment of {count} words", source.path.display(), first + 1)
                }));
            }
        }
    }
    faults
}

fn comments_at_fault(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let mut commented = false;
    for (index, line) in source.text.lines().map(str::trim).enumerate() {
        if is_declaration(line) && !commented {
            faults.push(format!("{}:{}: no comment above `{line}`", source.path.display(), index + 1));
        }
        commented = line.starts_with("//");
    }
    faults
}

/// Returns whether a line of a proto declares an item that a caller can see: a service, rpc, message, field …
fn is_declaration(line: &str) -> bool {
    match line.split(' ').next().unwrap_or_default() {
        "service" | "rpc" | "message" | "enum" | "oneof" => true,
        "syntax" | "package" | "import" | "option" | "reserved" => false,
        // A field or a value of an enum has a name and a number.
        first => !first.starts_with("//") && line.contains(" = "),
    }
}
