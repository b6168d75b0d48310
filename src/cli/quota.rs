//! Shared by `tope reserve`, `tope commit` and `tope usage`: server, form of the output, amounts, and the printing of
//! balances.

use std::{collections::HashMap, str::FromStr};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt;

use super::watch::{
    json as fields,
    text::{time, values_of},
};
use crate::{
    console::{
        client::{TargetArgs, print_line},
        error::CliError,
    },
    grpc::v1::{Balance, Reservation},
};

/// The server, and the form in which its reply is printed.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// The server to call.
    #[command(flatten)]
    pub server: TargetArgs,

    /// Form of the output
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns, for people.
    Table,
    /// One JSON document, for programs.
    Json,
}

/// A resource and a quantity: `tokens=1000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmountArg {
    /// Id of the resource.
    pub resource: String,
    /// Units of the resource.
    pub quantity: i64,
}

impl FromStr for AmountArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || "must be a resource and a whole number, such as tokens=1000".to_owned();
        let (resource, quantity) = text.rsplit_once('=').ok_or_else(malformed)?;
        let quantity = quantity.replace('_', "").parse().map_err(|_| malformed())?;
        Ok(Self { resource: resource.to_owned(), quantity })
    }
}

/// A label as the argument of a command: `team=search`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelArg {
    /// The key of the label.
    pub key: String,
    /// The value of the label, which may be empty.
    pub value: String,
}

impl FromStr for LabelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("must be a key and a value, such as team=search")?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Returns the labels of the arguments. Of a key that is given several times, the last value counts.
pub(super) fn labels(args: Vec<LabelArg>) -> HashMap<String, String> {
    args.into_iter().map(|LabelArg { key, value }| (key, value)).collect()
}

/// Prints a reservation, if there is one, and balances.
///
/// # Errors
///
/// When stdout is closed.
pub fn print(
    output: Output,
    reservation: Option<&Reservation>,
    balances: &[Balance],
) -> Result<(), CliError> {
    match output {
        Output::Json => {
            let balances: Value = balances.iter().map(fields::balance).collect();
            let document = match reservation {
                Some(reservation) => {
                    json!({ "reservation": fields::reservation(reservation), "balances": balances })
                }
                None => json!({ "balances": balances }),
            };
            print_line(format!("{document:#}"))
        }
        Output::Table => {
            if let Some(reservation) = reservation {
                print_line(reservation_line(reservation))?;
                print_line("")?;
            }
            print_rows(&rows(balances))
        }
    }
}

/// Makes an error from what the command tried to do and the refusal, with the delay after which to try again.
pub fn refused(tried: &str, status: &Status) -> CliError {
    let mut error = CliError::refused(tried, status);
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    if let Some(delay) = retry {
        error = error.with(format!("try again in {} s", delay.as_secs_f64().ceil()));
    }
    error
}

fn reservation_line(reservation: &Reservation) -> String {
    let state = reservation.state().as_str_name().trim_start_matches("RESERVATION_STATE_").to_owned();
    let amounts: Vec<String> = reservation
        .amounts
        .iter()
        .map(|amount| {
            let overrun =
                if amount.overrun > 0 { format!(" (overrun {})", amount.overrun) } else { String::new() };
            format!(
                "{}: {} reserved, {} committed{overrun}",
                amount.resource, amount.reserved, amount.committed
            )
        })
        .collect();
    let until = match state.as_str() {
        "RESERVED" => format!(" until {}", time(reservation.expire_time.as_ref())),
        _ => String::new(),
    };
    format!("{}  {state}{until}  {}", reservation.name, amounts.join("; "))
}

/// Makes one row per balance, below a row of headings. An allowance with a carry-over is shown as a sum.
fn rows(balances: &[Balance]) -> Vec<[String; 8]> {
    let headings =
        ["LIMIT", "RESOURCE", "COUNTS", "ALLOWANCE", "COMMITTED", "RESERVED", "REMAINING", "WINDOW ENDS"];
    let mut rows = vec![headings.map(str::to_owned)];
    rows.extend(balances.iter().map(|balance| {
        let figure = |figure: Option<i64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        let end = time(balance.window_end.as_ref());
        [
            if balance.limit_id.is_empty() { "-".to_owned() } else { balance.limit_id.clone() },
            balance.resource.clone(),
            scope(balance),
            match balance.carried {
                0 => figure(balance.allowance),
                carried => format!("{}+{carried}", balance.allowance.unwrap_or(0).saturating_sub(carried)),
            },
            balance.committed.to_string(),
            balance.reserved.to_string(),
            figure(balance.remaining),
            if end.is_empty() { "never".to_owned() } else { end },
        ]
    }));
    rows
}

/// Names the subjects whose usage a balance counts: `agent=planner`, or `all`.
fn scope(balance: &Balance) -> String {
    let parts: Vec<String> =
        values_of(balance).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    if parts.is_empty() { "all".to_owned() } else { parts.join(",") }
}

/// Prints rows as columns: figures aligned to the right, texts to the left.
fn print_rows(rows: &[[String; 8]]) -> Result<(), CliError> {
    const FIGURES: std::ops::Range<usize> = 3..7;
    let widths: [usize; 8] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if FIGURES.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        print_line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_resource_and_a_whole_number() {
        let amount = |resource: &str, quantity| Ok(AmountArg { resource: resource.to_owned(), quantity });
        assert_eq!("tokens=1000".parse(), amount("tokens", 1_000));
        assert_eq!("a=b=1_000".parse(), amount("a=b", 1_000));
        for text in ["tokens", "tokens=", "tokens=x", "tokens=1.5", "tokens=9223372036854775808", ""] {
            assert!(text.parse::<AmountArg>().is_err(), "{text}");
        }
    }
    #[test]
    fn an_allowance_shows_what_was_carried_over() {
        let balance = |carried| Balance { allowance: Some(150), carried, ..Balance::default() };
        let rows = rows(&[balance(0), balance(50)]);
        assert_eq!([&rows[1][3], &rows[2][3]], ["150", "100+50"]);
    }
}
