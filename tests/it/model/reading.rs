//! Converts reservations and balances of the server and of the model to the same form, in which they can be compared.

use std::collections::BTreeMap;

use super::{
    books::{Books, Entry, State},
    limit::Key,
    window::{Span, window_start},
};
use crate::harness::{
    v1::{Balance, Reservation, ReservationState},
    *,
};

/// A reservation without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    names: [String; 3],
    state: ReservationState,
    late: bool,
    made: Option<i64>,
    deadline: Option<i64>,
    settled: Option<i64>,
    /// For each resource: its name, the reserved and the committed quantity.
    amounts: Vec<(String, i64, i64)>,
    request_id: String,
}

/// Figures of counters. The key has the resource, the limit, the names of the `per` dimensions, and the start of the
/// window. The value has committed and reserved. The value is a list, because counters that no limit reads may have the
/// same key.
pub type Figures = BTreeMap<(String, String, [Option<String>; 3], Option<i64>), Vec<(i64, i64)>>;

impl View {
    /// Reads a reservation of the server.
    pub fn of_reply(reservation: &Reservation) -> Self {
        let record = reservation.expire_time.is_none();
        let amounts = reservation.amounts.iter().inspect(|amount| {
            // A Record was never held, so it has no overrun.
            let overrun = if record { 0 } else { (amount.committed - amount.reserved).max(0) };
            assert_eq!(amount.overrun, overrun, "{reservation:?}");
        });
        Self {
            names: [&reservation.agent, &reservation.user, &reservation.model].map(Clone::clone),
            state: state(reservation),
            late: reservation.late,
            made: millis(reservation.create_time.as_ref()),
            deadline: millis(reservation.expire_time.as_ref()),
            settled: millis(reservation.settle_time.as_ref()),
            amounts: amounts
                .map(|amount| (amount.resource.clone(), amount.reserved, amount.committed))
                .collect(),
            request_id: reservation.request_id.clone(),
        }
    }

    /// Reads an entry of the model.
    pub fn of_entry(entry: &Entry) -> Self {
        let mut amounts: Vec<_> = entry
            .amounts
            .iter()
            .map(|(&resource, &(reserved, committed))| {
                (Books::resource(resource).to_owned(), reserved, committed)
            })
            .collect();
        amounts.sort_unstable();
        Self {
            names: Books::names(entry.who).map(str::to_owned),
            state: match entry.state {
                State::Reserved => ReservationState::Reserved,
                State::Committed => ReservationState::Committed,
                State::Released => ReservationState::Released,
                State::Expired => ReservationState::Expired,
            },
            late: entry.late,
            made: Some(entry.made),
            deadline: (!entry.record).then_some(entry.deadline),
            settled: (entry.state != State::Reserved).then_some(entry.settled),
            amounts,
            request_id: entry.request_id.clone().unwrap_or_default(),
        }
    }
}

/// Reads the figures of the server's balances.
pub fn figures_of_reply(balances: &[Balance]) -> Figures {
    let mut read = Figures::new();
    for balance in balances {
        let names = [&balance.agent, &balance.user, &balance.model].map(Clone::clone);
        let start = millis(balance.window_start.as_ref());
        let key = (balance.resource.clone(), balance.limit_id.clone(), names, start);
        let used = balance.committed + balance.reserved;
        assert_eq!(
            balance.remaining,
            balance.allowance.map(|allowance| (allowance - used).max(0)),
            "{balance:?}"
        );
        assert_eq!(
            balance.exceeded,
            balance.allowance.is_some_and(|allowance| used > allowance),
            "{balance:?}"
        );
        let alike = read.entry(key).or_default();
        assert!(alike.is_empty() || balance.limit_id.is_empty(), "twice: {balance:?}");
        alike.push(figures(balance));
    }
    sorted(read)
}

/// Returns the model's figures of an entry's counters.
pub fn figures_of_entry(books: &Books, entry: &Entry) -> Figures {
    let mut figures = Figures::new();
    for key in entry.lines.keys() {
        let limits = books.applying(key.resource, entry.who, entry.made).into_iter();
        let reading: Vec<&str> = limits.filter(|(_, of)| of == key).map(|(limit, _)| limit.id).collect();
        for id in if reading.is_empty() { vec![""] } else { reading } {
            figures.entry(named(id, key)).or_default().push(books.figures(key));
        }
    }
    sorted(figures)
}

fn sorted(mut figures: Figures) -> Figures {
    figures.values_mut().for_each(|alike| alike.sort_unstable());
    figures
}

/// Returns the counters of an entry whose figures are unknown, because their windows are over.
pub fn vague_of_entry(books: &Books, entry: &Entry) -> Figures {
    let over = entry.lines.keys().filter(|key| books.reshaped && !books.runs(key, books.now()));
    let ids = || books.limits.iter().map(|limit| limit.id).chain([""]);
    over.flat_map(|key| ids().map(|id| (named(id, key), Vec::new()))).collect()
}

/// Returns the model's figures of all counters of running windows. Counters at zero are left out.
pub fn figures_of_books(books: &Books) -> Figures {
    let now = books.now();
    let mut figures = Figures::new();
    let keys = books.entries.iter().flat_map(|entry| entry.lines.keys());
    for key in keys.filter(|key| key.start == window_start(books.zone, key.span, now)) {
        let sums = books.figures(key);
        let reading = books.limits.iter().filter(|limit| limit.counts(key));
        let mut ids: Vec<&str> = reading.map(|limit| limit.id).collect();
        if key.span == Span::Meter {
            ids.push("");
        }
        for id in ids {
            figures.insert(named(id, key), vec![sums]);
        }
    }
    figures.retain(|_, sums| *sums != [(0, 0)]);
    figures
}

fn named(id: &str, key: &Key) -> (String, String, [Option<String>; 3], Option<i64>) {
    let names = key.names.map(|name| name.map(|index| super::steps::NAMES[index].to_owned()));
    let endless = matches!(key.span, Span::Meter | Span::Lifetime);
    (Books::resource(key.resource).to_owned(), id.to_owned(), names, (!endless).then_some(key.start))
}
