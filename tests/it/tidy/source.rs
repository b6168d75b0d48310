//! A file as the test `tidy` reads it. Comments and the contents of literals are replaced by spaces, so that only code
//! is left.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of the project.
pub(super) struct Source {
    /// Path relative to the project's root.
    pub(super) path: PathBuf,
    /// The text of the file.
    pub(super) text: String,
    /// The text with spaces instead of comments and contents of literals. It is as long as `text`.
    pub(super) code: String,
}

impl Source {
    /// Lists the `.rs` files below `folder`, or `folder` itself if it is a file. Empty if it does not exist.
    pub(super) fn list_rust(folder: &str) -> Vec<Source> {
        Source::list(folder, "rs", |text| blank(&text))
    }

    /// Lists the protos below `folder`. Their `code` includes comments.
    pub(super) fn list_protos(folder: &str) -> Vec<Source> {
        Source::list(folder, "proto", |text| text)
    }

    /// Makes a Rust file that is not on disk.
    pub(super) fn invented(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.to_owned(), code: blank(text) }
    }

    fn list(folder: &str, extension: &str, code: impl Fn(String) -> String) -> Vec<Source> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut pending = vec![root.join(folder)];
        let mut files = Vec::new();
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                pending.extend(entries.map(|entry| entry.expect("the folder can be read").path()));
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
        files.sort();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let path = path.strip_prefix(root).expect("it was found below the root").to_owned();
            Source { path, code: code(text.clone()), text }
        };
        files.into_iter().map(read).collect()
    }

    /// Returns the line of an offset in `code`, counted from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// Finds all offsets of `word` in the code, except where it is a part of a longer name.
    pub(super) fn find_words(&self, word: &str) -> Vec<usize> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let whole = |&(at, _): &(usize, &str)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !(before.is_some_and(is_name) || word.ends_with(is_name) && after.is_some_and(is_name))
        };
        self.code.match_indices(word).filter(whole).map(|(at, _)| at).collect()
    }
}

/// Replaces the comments and the literals of Rust by spaces. Lines and offsets do not change.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_length(rest),
            '"' => string_length(rest),
            'r' | 'b' | 'c' if !continues_name(&code) => prefixed_literal_length(rest),
            '\'' => char_length(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

fn continues_name(code: &str) -> bool {
    code.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Returns the length of a block comment. Block comments may nest.
fn block_comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of `r"…"`, `r#"…"#`, `b"…"`, `br"…"` or `c"…"`. Zero if the text is a name.
fn prefixed_literal_length(text: &str) -> usize {
    let prefix = text.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(text.len());
    let hashes = text[prefix..].find(|c| c != '#').unwrap_or(0);
    let opening = prefix + hashes;
    if prefix > 2 || !text[opening..].starts_with('"') {
        return 0;
    }
    if !text[..prefix].contains('r') {
        return if hashes == 0 { opening + string_length(&text[opening..]) } else { 0 };
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = opening + 1;
    text[inside..].find(&closing).map_or(text.len(), |at| inside + at + closing.len())
}

/// Returns the length of a character literal. Zero for a lifetime.
fn char_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(text.len(), |at| 3 + at + 1),
        Some(_) => chars.next().filter(|&(_, c)| c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}
