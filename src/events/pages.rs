//! Pages of the log that watchers have read and not sent yet.
//!
//! A watcher keeps its page as long as its client takes nothing. The pages of all watchers together have a bound, so
//! that stalled watchers use bounded memory. Beyond the bound the oldest pages are dropped, and their watchers read
//! them again when their clients continue.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::domain::event::LoggedEvent;

/// Maximum number of events in the pages of all watchers: about 16 MB.
const EVENTS_MAX: usize = 16_384;

/// The pages of all watchers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    events: usize,
    pages: VecDeque<Filled>,
}

/// One filling of a page. `time` is the number of this filling among the fillings of the page. `events` is the number
/// of events in this filling.
#[derive(Debug)]
struct Filled {
    page: Weak<Page>,
    time: u64,
    events: usize,
}

/// The page of one watcher.
#[derive(Debug, Default)]
pub(super) struct Page(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    events: VecDeque<Arc<LoggedEvent>>,
    /// How often the page was filled.
    times: u64,
    dropped: bool,
}

/// The next event of a page, or the reason why there is none.
#[derive(Debug)]
pub(super) enum Next {
    /// The oldest event of the page that was not sent yet.
    Event(Arc<LoggedEvent>),
    /// All events of the page were taken.
    Empty,
    /// The rest of the page was dropped, and must be read again.
    Dropped,
}

impl Pages {
    /// Fills a page. If all pages together exceed the bound, drops the oldest pages.
    pub(super) fn fill(&self, page: &Arc<Page>, events: VecDeque<Arc<LoggedEvent>>) {
        let count = events.len();
        let time = page.fill(events);
        let mut kept = lock(&self.0);
        kept.events += count;
        kept.pages.push_back(Filled { page: Arc::downgrade(page), time, events: count });
        while kept.events > EVENTS_MAX
            && let Some(oldest) = kept.pages.pop_front()
        {
            kept.events -= oldest.events;
            if let Some(page) = oldest.page.upgrade() {
                page.drop_events(oldest.time);
            }
        }
    }
}

impl Page {
    fn fill(&self, events: VecDeque<Arc<LoggedEvent>>) -> u64 {
        let mut content = lock(&self.0);
        content.times += 1;
        (content.events, content.dropped) = (events, false);
        content.times
    }

    /// Drops the remaining events of a page, unless the page was filled again since then.
    fn drop_events(&self, time: u64) {
        let mut content = lock(&self.0);
        if content.times == time && !content.events.is_empty() {
            (content.events, content.dropped) = (VecDeque::new(), true);
        }
    }

    /// Takes the next event.
    pub(super) fn next(&self) -> Next {
        let mut content = lock(&self.0);
        match content.events.pop_front() {
            Some(event) => Next::Event(event),
            None if std::mem::take(&mut content.dropped) => Next::Dropped,
            None => Next::Empty,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Event, Fact, NO_TENANT},
        time::Time,
    };

    fn filled(pages: &Pages, first: i64, count: usize) -> Arc<Page> {
        let page = Arc::default();
        fill(pages, &page, first, count);
        page
    }

    fn fill(pages: &Pages, page: &Arc<Page>, first: i64, count: usize) {
        let events = (first..).take(count).map(|sequence| {
            let fact = Fact::BooksDisagree { faults: 1 };
            let (tenant, resources) = ("".into(), Vec::new());
            let event = Event { tenant_key: NO_TENANT, tenant, occurred_at: Time::EPOCH, resources, fact };
            Arc::new(LoggedEvent { sequence, number: 0, event })
        });
        pages.fill(page, events.collect());
    }

    fn next(page: &Page) -> Option<i64> {
        match page.next() {
            Next::Event(event) => Some(event.sequence),
            Next::Empty => None,
            Next::Dropped => Some(-1),
        }
    }

    #[test]
    fn the_oldest_page_beyond_the_bound_is_reported_once_as_dropped() {
        let pages = Pages::default();
        let stalled: Vec<_> = (0..4).map(|_| filled(&pages, 1, EVENTS_MAX / 4)).collect();
        assert_eq!(next(&stalled[0]), Some(1));
        let newest = filled(&pages, 7, 1);
        assert_eq!([next(&stalled[0]), next(&stalled[0])], [Some(-1), None]);
        assert_eq!([next(&stalled[1]), next(&newest)], [Some(1), Some(7)]);
        drop(stalled);
        let kept: usize = lock(&pages.0).pages.iter().filter_map(|filled| filled.page.upgrade()).count();
        assert_eq!(kept, 1, "a page goes with its watcher");
    }

    #[test]
    fn a_page_that_was_filled_again_is_not_dropped_for_its_age() {
        let pages = Pages::default();
        let page = filled(&pages, 1, 1);
        assert_eq!(next(&page), Some(1));
        let _others: Vec<_> = (0..3).map(|_| filled(&pages, 1, EVENTS_MAX / 4)).collect();
        fill(&pages, &page, 2, 1);
        let _more = filled(&pages, 1, EVENTS_MAX / 4 - 1);
        assert_eq!([next(&page), next(&page)], [Some(2), None], "nor one that was read to its end");
        let _last = filled(&pages, 1, EVENTS_MAX);
        assert_eq!(next(&page), None);
    }
}
