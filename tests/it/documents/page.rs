//! The code blocks of a page, in the order in which a reader runs them, with their expected output.
//!
//! The words after the language of a block describe what the reader does with the block. Web sites that show the page
//! hide these words:
//!
//! | block | what the reader does |
//! | --- | --- |
//! | `sh` | types the block; if a `text` or `json` block follows, it is the output, else the commands must succeed |
//! | `sh server` | stops the running server, and starts this server in a new terminal |
//! | `sh background` | starts the block in a new terminal |
//! | `text background` | reads the latest new terminal, which must show this output |
//! | `sh skip` | types the block; a test only checks that the script exists |
//! | `python FILE` | reads a part of that file |
//!
//! In an output, `…` within a line stands for any text, and a line that is only `…` stands for any number of lines.

/// A block of code in a page.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Line that opens the block, counted from 1.
    pub(super) line: usize,
    /// The language, and the words after it.
    pub(super) info: String,
    /// The text inside the block.
    pub(super) text: String,
}

/// A step of a reader.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The reader types the first block. Its output must match the second block.
    Types(Block, Option<Block>),
    /// The reader stops the running server, and starts this server.
    Serves(Block),
    /// The reader starts the block in a new terminal.
    Starts(Block),
    /// The reader reads the output in the latest new terminal.
    Looks(Block),
    /// The reader types the block. A test does not run it.
    Skips(Block),
    /// The reader reads the block, which is a part of this file.
    Reads(Block, String),
}

/// The blocks of code of one page.
pub(super) struct Page {
    path: String,
    blocks: Vec<Block>,
}

impl Page {
    pub(super) fn read(path: &str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<Block> = None;
        for (index, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(info), None) => {
                    open = Some(Block { line: index + 1, info: info.to_owned(), text: String::new() });
                }
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{path}: a block is not closed");
        Self { path: path.to_owned(), blocks }
    }

    /// Returns file and line of a block, for a message.
    pub(super) fn place(&self, block: &Block) -> String {
        format!("{}:{}", self.path, block.line)
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut blocks = self.blocks.iter().cloned().peekable();
        while let Some(block) = blocks.next() {
            let info = block.info.clone();
            match info.split_once(' ').unwrap_or((&info, "")) {
                ("sh", "") => {
                    let output = blocks.next_if(|next| matches!(next.info.as_str(), "text" | "json"));
                    steps.push(Step::Types(block, output));
                }
                ("sh", "server") => steps.push(Step::Serves(block)),
                ("sh", "background") => steps.push(Step::Starts(block)),
                ("text", "background") => steps.push(Step::Looks(block)),
                ("sh", "skip") => steps.push(Step::Skips(block)),
                ("python", file) if !file.is_empty() => steps.push(Step::Reads(block, file.to_owned())),
                _ => panic!("{}: nobody knows what to do with a block of {info:?}", self.place(&block)),
            }
        }
        steps
    }
}

/// Returns the text of a page without its blocks of code.
pub(super) fn without_blocks(text: &str) -> String {
    let mut inside = false;
    let outside = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// Checks that the printed text matches the shown text. Instants, names and whitespace within lines may differ.
///
/// # Errors
///
/// Fails with the first shown line that does not match.
pub(super) fn matches(shown: &str, printed: &str) -> Result<(), String> {
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim().is_empty()).map(normal).collect()
    };
    let (shown_lines, printed) = (lines(shown), lines(printed));
    // `reach[n]` is true if the shown lines so far can match the first n printed lines.
    let mut reach = vec![false; printed.len() + 1];
    reach[0] = true;
    for line in &shown_lines {
        let mut next = vec![false; printed.len() + 1];
        for (place, _) in reach.iter().enumerate().filter(|(_, reached)| **reached) {
            if line == "…" {
                next[place..].fill(true);
            } else if printed.get(place).is_some_and(|printed| is_like(line, printed)) {
                next[place + 1] = true;
            }
        }
        if !next.contains(&true) {
            return Err(line.clone());
        }
        reach = next;
    }
    if reach[printed.len()] { Ok(()) } else { Err("the end, because the printed output goes on".to_owned()) }
}

/// Returns whether a printed line matches a shown line, in which `…` stands for any text.
fn is_like(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Removes the whitespace of a line, and replaces each instant, name, delay and secret by a fixed word.
fn normal(line: &str) -> String {
    let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    let mut normal = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        let found =
            [instant(rest), secret(rest), delay(rest), name(rest, &normal)].into_iter().flatten().next();
        match found {
            Some((length, word)) => {
                normal.push_str(word);
                rest = &rest[length..];
            }
            None => {
                normal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    normal
}

/// Finds an instant like `2026-11-26T11:31:02.118Z` at the start of a text. Returns its length, and the word that
/// replaces it.
fn instant(text: &str) -> Option<(usize, &'static str)> {
    const FORM: &str = "0000-00-00T00:00:00";
    let begin = text.get(..FORM.len())?;
    let is_like = |(form, c): (char, char)| if form == '0' { c.is_ascii_digit() } else { form == c };
    if !FORM.chars().zip(begin.chars()).all(is_like) {
        return None;
    }
    let length = text[FORM.len()..].find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    text[FORM.len() + length..].starts_with('Z').then_some((FORM.len() + length + 1, "<instant>"))
}

/// Finds a secret of a webhook at the start of a text: `whsec_` and base64.
fn secret(text: &str) -> Option<(usize, &'static str)> {
    let encoded = text.strip_prefix("whsec_")?;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let length = encoded.find(|c: char| !is_base64(c)).unwrap_or(encoded.len());
    (length > 0).then_some((text.len() - encoded.len() + length, "<secret>"))
}

/// Finds a delay like `"46769s"` at the start of a text.
fn delay(text: &str) -> Option<(usize, &'static str)> {
    let digits = text.strip_prefix('"')?;
    let length = digits.find(|c: char| !c.is_ascii_digit())?;
    (length > 0 && digits[length..].starts_with("s\"")).then_some((length + 3, "<delay>"))
}

/// Finds the name of a reservation: 32 characters of base64 in quotes.
fn name(text: &str, before: &str) -> Option<(usize, &'static str)> {
    const LENGTH: usize = 32;
    let name = text.get(..LENGTH)?;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let quoted = before.ends_with('"') && text[LENGTH..].starts_with('"');
    (quoted && name.chars().all(is_base64)).then_some((LENGTH, "<name>"))
}
