//! Converts reservations and balances of the server and of the model to the same form, in which they can be compared.

use std::collections::{BTreeMap, HashMap};

use super::{
    asking::{labels_chosen, labels_of, names_chosen, names_of},
    books::{Books, Entry, State},
    limit::Key,
    plans::{Found, Terms},
    steps::NAMES,
};
use crate::harness::{
    v1::{Balance, Reservation, ReservationState, Served},
    *,
};

/// A reservation without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    names: [String; 3],
    labels: HashMap<String, String>,
    served: Option<[String; 3]>,
    state: ReservationState,
    late: bool,
    made: Option<i64>,
    occurred: Option<i64>,
    deadline: Option<i64>,
    settled: Option<i64>,
    /// For each resource: its name, the reserved and the committed quantity.
    amounts: Vec<(String, i64, i64)>,
    request_id: String,
}

/// What a balance is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Id of the resource.
    pub resource: String,
    /// Id of the limit. Empty: no limit reads the counter.
    pub limit: String,
    /// The agent that has the plan of the limit. Empty: the tenant has the plan.
    agent: String,
    names: [Option<String>; 3],
    labels: BTreeMap<String, String>,
    start: Option<i64>,
}

/// The figures of a balance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Figure {
    /// What is committed and reserved.
    pub used: (i64, i64),
    /// What the limit permits, as text. Empty without a limit.
    terms: String,
}

/// Figures of counters. The value is a list, because counters that no limit reads may have the same place.
pub type Figures = BTreeMap<Place, Vec<Figure>>;

impl View {
    /// Reads a reservation of the server.
    pub fn of_reply(reservation: &Reservation) -> Self {
        let record = reservation.expire_time.is_none();
        let amounts = reservation.amounts.iter().inspect(|amount| {
            // A Record was never held, so it has no overrun.
            let overrun = if record { 0 } else { (amount.committed - amount.reserved).max(0) };
            assert_eq!(amount.overrun, overrun, "{reservation:?}");
        });
        let served = reservation.served.clone();
        Self {
            names: [&reservation.agent, &reservation.user, &reservation.model].map(Clone::clone),
            labels: reservation.labels.clone(),
            served: served.map(|Served { agent, user, model }| [agent, user, model]),
            state: state(reservation),
            late: reservation.late,
            made: millis(reservation.create_time.as_ref()),
            occurred: millis(reservation.occurred_time.as_ref()),
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
            names: names_of(entry.who),
            labels: labels_of(entry.who),
            served: entry.served.map(names_of),
            state: match entry.state {
                State::Reserved => ReservationState::Reserved,
                State::Committed => ReservationState::Committed,
                State::Released => ReservationState::Released,
                State::Expired => ReservationState::Expired,
            },
            late: entry.late,
            made: Some(entry.made),
            occurred: entry.occurred,
            deadline: (!entry.record).then_some(entry.deadline),
            settled: (entry.state != State::Reserved).then_some(entry.settled),
            amounts,
            request_id: entry.request_id.clone().unwrap_or_default(),
        }
    }
}

/// Returns the place of a balance of the server.
pub fn place_of_reply(balance: &Balance) -> Place {
    let source = balance.source.as_ref();
    Place {
        resource: balance.resource.clone(),
        limit: balance.limit_id.clone(),
        agent: source.map(|source| source.agent.clone()).unwrap_or_default(),
        names: [&balance.agent, &balance.user, &balance.model].map(Clone::clone),
        labels: balance.labels.clone().into_iter().collect(),
        start: millis(balance.window_start.as_ref()),
    }
}

/// Reads the figures of the server's balances.
pub fn figures_of_reply(balances: &[Balance]) -> Figures {
    let mut read = Figures::new();
    for balance in balances {
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
        let terms = balance.source.as_ref().map(|source| {
            let exception = (!source.r#override.is_empty())
                .then(|| (source.r#override.clone(), millis(source.override_end_time.as_ref())));
            let quantity = balance.allowance.expect("the balance has a limit");
            let enforcement = usize::try_from(balance.enforcement).expect("one of three");
            text_of_terms(&source.plan, &Terms { quantity, enforcement, exception })
        });
        let alike = read.entry(place_of_reply(balance)).or_default();
        assert!(alike.is_empty() || balance.limit_id.is_empty(), "twice: {balance:?}");
        alike.push(Figure { used: figures(balance), terms: terms.unwrap_or_default() });
    }
    sorted(read)
}

/// Returns the model's figures of an entry's counters.
pub fn figures_of_entry(books: &Books, entry: &Entry) -> Figures {
    let mut figures = Figures::new();
    for key in entry.lines.keys() {
        for (place, figure) in figures_of_key(books, key) {
            figures.entry(place).or_default().push(figure);
        }
    }
    sorted(figures)
}

/// Returns the places of a counter's balances: one for each limit that reads the counter, or one without a limit.
pub fn places(books: &Books, key: &Key) -> Vec<Place> {
    figures_of_key(books, key).into_iter().map(|(place, _)| place).collect()
}

fn figures_of_key(books: &Books, key: &Key) -> Vec<(Place, Figure)> {
    let used = books.figures(key);
    let reading = books.reading(key);
    if reading.is_empty() {
        return vec![(place(None, key), Figure { used, terms: String::new() })];
    }
    let figure = |found: Found<'_>| {
        let terms = text_of_terms(&books.plans[found.plan].id, &books.shown(found, key));
        (place(Some(found), key), Figure { used, terms })
    };
    reading.into_iter().map(figure).collect()
}

fn text_of_terms(plan: &str, terms: &Terms) -> String {
    format!("{plan}: {terms:?}")
}

fn sorted(mut figures: Figures) -> Figures {
    figures.values_mut().for_each(|alike| alike.sort_unstable());
    figures
}

/// Returns the balances of an entry whose figures are unknown.
pub fn vague_of_entry(books: &Books, entry: &Entry) -> Vec<Place> {
    let unknown = entry.lines.keys().filter(|key| books.is_unknown(key));
    unknown.flat_map(|key| places(books, key)).collect()
}

/// Returns the model's figures of all counters of running windows. Counters at zero are left out.
pub fn figures_of_books(books: &Books) -> Figures {
    let mut figures = Figures::new();
    for key in books.running(books.now()) {
        let shown = figures_of_key(books, &key).into_iter();
        let shown = shown.filter(|(place, _)| !place.limit.is_empty() || key == Key::of_meter(key.resource));
        figures.extend(shown.map(|(place, figure)| (place, vec![figure])));
    }
    without_zeros(figures)
}

/// Leaves out balances at zero.
pub fn without_zeros(mut figures: Figures) -> Figures {
    figures.retain(|_, alike| alike.iter().any(|figure| figure.used != (0, 0)));
    figures
}

fn place(found: Option<Found<'_>>, key: &Key) -> Place {
    let own = found.filter(|found| found.own).and(key.names[0]);
    Place {
        resource: Books::resource(key.resource).to_owned(),
        limit: found.map_or("", |found| found.limit.id).to_owned(),
        agent: own.map_or("", |agent| NAMES[agent]).to_owned(),
        names: names_chosen(&key.names),
        labels: labels_chosen(&key.names).into_iter().collect(),
        start: (!key.window.span.is_endless()).then_some(key.window.start),
    }
}
