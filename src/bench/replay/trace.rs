//! A trace of model calls: a CSV file with the columns TIMESTAMP, ContextTokens and GeneratedTokens.

use std::{fs, path::Path, time::Duration};

use chrono::NaiveDateTime;
use csv::{ReaderBuilder, StringRecord, Trim};

use crate::console::error::CliError;

const TIMESTAMP: &str = "TIMESTAMP";
const CONTEXT: &str = "ContextTokens";
const GENERATED: &str = "GeneratedTokens";

/// One model call of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelCall {
    /// Line of the call in the file, counted from 1, for error messages.
    pub line: u64,
    /// Time from the first call of the trace to this call. Zero if this call began before the first call.
    pub offset: Duration,
    /// Tokens sent to the model.
    pub context: i64,
    /// Tokens that the model generated.
    pub generated: i64,
}

/// Reads a trace to its end, so that a fault in its last line is found before the first call is sent.
///
/// # Errors
///
/// When the file cannot be read, when it lacks a column, or when a value is invalid for its column. The message names
/// the line and the column.
pub fn read(path: &Path) -> Result<Vec<ModelCall>, CliError> {
    let shown = path.display();
    let text =
        fs::read(path).map_err(|error| CliError::caused(format_args!("cannot read {shown}"), &error))?;
    let unreadable = |error: csv::Error| CliError::caused(format_args!("{shown} is not a CSV file"), &error);
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(text.as_slice());
    let columns = Columns::find(reader.headers().map_err(unreadable)?).map_err(|missing| {
        CliError::new(format!("{shown}: line 1: missing column {}", missing.join(", ")))
    })?;
    let mut lines = Lines::new(&text);
    let mut calls = Vec::new();
    let mut first = None;
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = lines.line_of(record.position().map_or(0, csv::Position::byte));
        let at = |fault: String| CliError::new(format!("{shown}: line {line}: {fault}"));
        let time = parse_time(&record, columns.time).map_err(at)?;
        let first = *first.get_or_insert(time);
        calls.push(ModelCall {
            line,
            offset: (time - first).to_std().unwrap_or_default(),
            context: parse_tokens(&record, columns.context, CONTEXT).map_err(at)?,
            generated: parse_tokens(&record, columns.generated, GENERATED).map_err(at)?,
        });
    }
    Ok(calls)
}

/// Positions of the columns, counted from 0.
struct Columns {
    time: usize,
    context: usize,
    generated: usize,
}

impl Columns {
    /// Finds the columns, or returns the names of the missing columns.
    fn find(headers: &StringRecord) -> Result<Self, Vec<&'static str>> {
        let place = |name: &str| headers.iter().position(|header| header == name);
        match (place(TIMESTAMP), place(CONTEXT), place(GENERATED)) {
            (Some(time), Some(context), Some(generated)) => Ok(Self { time, context, generated }),
            _ => Err([TIMESTAMP, CONTEXT, GENERATED]
                .into_iter()
                .filter(|name| place(name).is_none())
                .collect()),
        }
    }
}

/// Counts the lines of the file. The line numbers of the CSV reader are too low by one if lines end in CR LF.
struct Lines<'a> {
    text: &'a [u8],
    counted: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, counted: 0, line: 1 }
    }

    /// Returns the line of the record that begins at `byte`. The CSV reader's `byte` is the first letter of the record,
    /// or a byte of the line end before the record. Must be called in the order of the records.
    fn line_of(&mut self, byte: u64) -> u64 {
        while let Some(&letter) = self.text.get(self.counted) {
            if self.counted as u64 >= byte && !matches!(letter, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(letter == b'\n');
            self.counted += 1;
        }
        self.line
    }
}

fn parse_time(record: &StringRecord, column: usize) -> Result<NaiveDateTime, String> {
    let text = record.get(column).unwrap_or_default();
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.fZ"))
        .map_err(|_| format!("{TIMESTAMP}: {text:?} is not a time like 2023-11-16 18:15:46.680590"))
}

fn parse_tokens(record: &StringRecord, column: usize, name: &str) -> Result<i64, String> {
    let text = record.get(column).unwrap_or_default();
    match text.parse::<i64>() {
        Ok(tokens) if tokens >= 0 => Ok(tokens),
        Ok(_) => Err(format!("{name}: {text:?} is below 0")),
        Err(_) => Err(format!("{name}: {text:?} is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read_text(text: &str) -> Result<Vec<ModelCall>, CliError> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("a writable file");
        read(file.path())
    }

    #[test]
    fn a_trace_is_read_in_its_order_with_offsets_from_its_first_call() {
        let calls = read_text(
            "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n\
             2023-11-16 18:15:48.1805900,396,109\r\n2023-11-16 18:15:40.0,0,0\r\n",
        );
        let expected = [(2, 0, 374, 44), (3, 1_500, 396, 109), (4, 0, 0, 0)];
        let expected = expected.map(|(line, millis, context, generated)| ModelCall {
            line,
            offset: Duration::from_millis(millis),
            context,
            generated,
        });
        assert_eq!(calls, Ok(expected.to_vec()));
    }

    #[test]
    fn columns_may_be_in_any_order_among_other_columns() {
        let calls =
            read_text("Model,GeneratedTokens,TIMESTAMP,ContextTokens\nx, 5 ,2023-11-16T18:15:46Z,7\n")
                .expect("a trace");
        assert_eq!((calls[0].context, calls[0].generated), (7, 5));
    }

    #[test]
    fn a_fault_is_named_with_its_line_and_column() {
        let head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
        let cases = [
            ("", "line 1: missing column TIMESTAMP, ContextTokens, GeneratedTokens"),
            ("TIMESTAMP,GeneratedTokens\n", "line 1: missing column ContextTokens"),
            ("2023-11-16 18:15:46,1,2\n2023-11-16 18:15:46,many,2\n", "line 3: ContextTokens: \"many\""),
            ("2023-11-16 18:15:46,1,-2\n", "line 2: GeneratedTokens: \"-2\" is below 0"),
            ("2023-11-16 18:15:46,1,1.5\n", "line 2: GeneratedTokens: \"1.5\" is not a whole number"),
            ("2023-11-16 18:15:46,1,\n", "line 2: GeneratedTokens: \"\" is not a whole number"),
            ("2023-11-16 18:15:46,99999999999999999999,1\n", "line 2: ContextTokens"),
            ("yesterday,1,2\n", "line 2: TIMESTAMP: \"yesterday\" is not a time"),
            ("2023-11-16 18:15:46,1\n", "line 2: GeneratedTokens: \"\" is not a whole number"),
            ("2023-11-16 18:15:46,1,2\r\n\r\n2023-11-16 18:15:46,x,2\r\n", "line 4: ContextTokens"),
        ];
        for (text, expected) in cases {
            let whole = text.starts_with("TIMESTAMP") || text.is_empty();
            let text = if whole { text.to_owned() } else { format!("{head}{text}") };
            let error = read_text(&text).expect_err("a faulty trace").to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_error_names_a_missing_file() {
        let error = read(Path::new("no/such/trace.csv")).expect_err("no file").to_string();
        assert!(error.contains("cannot read no/such/trace.csv"), "{error}");
    }
}
