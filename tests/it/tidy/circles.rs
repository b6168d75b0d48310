//! Finds circles of files. If a file imports another file, the other file must not import the first file, neither
//! directly nor through other files. A parent and its child may import each other, because the `mod.rs` of a folder
//! exports items of its files.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The path of a file's module: `["store", "books"]` for `src/store/books/mod.rs`.
type Module = Vec<String>;

/// Returns each group of files that import each other, once. The names are sorted.
pub(super) fn circles(sources: &[Source]) -> Vec<String> {
    let modules: BTreeSet<Module> = sources.iter().map(module_of).collect();
    let imports: BTreeMap<Module, BTreeSet<Module>> =
        sources.iter().map(|source| (module_of(source), imports_of(source, &modules))).collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|module| (module, reached_from(module, &imports))).collect();
    let mut circles = BTreeSet::new();
    for (module, others) in &reached {
        let back =
            others.iter().filter(|other| reached.get(**other).is_some_and(|back| back.contains(module)));
        let circle: Vec<String> = back.map(|other| other.join("::")).collect();
        if !circle.is_empty() {
            circles.insert(circle.join(", "));
        }
    }
    circles.into_iter().collect()
}

fn module_of(source: &Source) -> Module {
    let path = source.path.with_extension("");
    let mut names: Module = path.iter().skip(1).map(|name| name.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|name| name == "mod" || names.len() == 1 && name == "lib") {
        names.pop();
    }
    names
}

fn reached_from<'a>(
    module: &Module,
    imports: &'a BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<&Module> = imports[module].iter().collect();
    while let Some(next) = pending.pop() {
        if reached.insert(next) {
            pending.extend(&imports[next]);
        }
    }
    reached
}

/// Returns the other files that a file names, except its parents and children. The unit tests at the end of the file
/// may name any file.
fn imports_of(source: &Source, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let own = module_of(source);
    let code = source.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut imports = BTreeSet::new();
    for path in paths(code) {
        let mut names = path.split("::").map(str::trim);
        let mut full = match names.next() {
            Some("crate") => Module::new(),
            Some("self") => own.clone(),
            Some("super") => own[..own.len().saturating_sub(1)].to_vec(),
            _ => continue,
        };
        for name in names {
            if name == "super" {
                full.pop();
            } else {
                full.push(name.to_owned());
            }
        }
        while !full.is_empty() && !modules.contains(&full) {
            full.pop();
        }
        if !full.is_empty() && !own.starts_with(&full) && !full.starts_with(&own) {
            imports.insert(full);
        }
    }
    imports
}

/// Returns all paths in a piece of code that begin with `crate`, `self` or `super`: the paths of `use`, with one path
/// for each name in braces, and the paths within expressions and types.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for statement in code.split(';').filter_map(|statement| statement.rsplit_once("use ")) {
        expand("", statement.1, &mut paths);
    }
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let end = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            paths.push(code[at..].get(..end.unwrap_or(code.len() - at)).unwrap_or_default().to_owned());
        }
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((inner_prefix, group)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{}", tree.trim()));
        return;
    };
    let prefix = format!("{prefix}{}", inner_prefix.trim());
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &group[begin..at], paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !group[begin..].trim().is_empty() {
        expand(&prefix, &group[begin..], paths);
    }
}

#[test]
fn a_circle_of_imports_is_found_but_parent_and_child_may_import_each_other() {
    let invented = |files: &[(&str, &str)]| -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::invented(path, text)).collect();
        circles(&sources)
    };
    let two = [
        ("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;"),
        ("src/a/b.rs", "use super::{c::{self, C}, B};"),
        ("src/a/c.rs", "fn f() -> crate::a::b::B {}"),
    ];
    assert_eq!(invented(&two), ["a::b, a::c"]);
    assert_eq!(invented(&two[..2]), [""; 0]);
    let three = [
        ("src/a.rs", "pub(super) use crate::{b::B, d};"),
        ("src/b.rs", "use super::c::C;"),
        ("src/c.rs", "use crate::{\n    d::{D, E},\n    a::A,\n};"),
        ("src/d.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}"),
    ];
    assert_eq!(invented(&three), ["a, b, c"]);
}
