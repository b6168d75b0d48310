//! Room: the memory that calls may use, on one connection and on all connections.
//!
//! A client decides how much of a request it sends, and how much of a reply it takes. So each request that is not
//! small, each reply, and each call takes room here before it uses memory. The room of a request is free again when its
//! call has an answer. The room of a reply is free again when the socket has taken the reply. One connection gets only
//! a part of the whole room, so one client leaves room for others. Small requests have a separate room, so large
//! requests never use up their room.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Maximum number of connections that are open at the same time.
pub(super) const CONNECTIONS_MAX: usize = 1_024;

/// Maximum number of calls that are open at the same time, not counting the first [`CALLS_ALWAYS`] of each connection.
/// A call costs about 5 KiB.
pub(super) const CALLS_MAX: usize = 10_240;

/// Number of calls that each connection may always open, even if [`CALLS_MAX`] other calls are open.
pub(super) const CALLS_ALWAYS: usize = 16;

/// A body or a reply up to this size takes no room, because each call uses this much memory anyway.
pub(super) const FREE_BYTES: usize = KIB;

/// Headers up to this total size take no room.
const FREE_HEADER_BYTES: usize = 2 * KIB;

/// Memory that the map of headers needs for each header, in addition to the header's name and value.
const HEADER_BYTES: usize = 100;

/// A body up to this size takes its room from [`SMALL_ROOM`].
const SMALL_BYTES: usize = 16 * KIB;

/// Room for large requests, in bytes: first on one connection, then on all connections.
pub(super) const REQUEST_ROOM: [usize; 2] = [8 * MIB, 20 * MIB];

/// Room for small requests, large headers, and replies of operations, in bytes: first on one connection, then on all
/// connections.
pub(super) const SMALL_ROOM: [usize; 2] = [6 * MIB, 12 * MIB];

/// Room for large replies, in bytes: first on one connection, then on all connections.
pub(super) const REPLY_ROOM: [usize; 2] = [8 * MIB, 20 * MIB];

/// Room for calls that stream, in bytes: first on one connection, then on all connections.
pub(super) const STREAM_ROOM: [usize; 2] = [8 * MIB, 16 * MIB];

/// Maximum time that a reply waits until its client takes it.
pub(super) const UNTAKEN_MAX: Duration = Duration::from_secs(10);

/// Number of periods in [`UNTAKEN_MAX`]. The age of a reply is measured with the precision of one period.
const PERIODS: usize = 5;

/// Length of one period. [`Share::turn`] is called once in each period.
pub(super) const PERIOD: Duration = UNTAKEN_MAX.checked_div(5).expect("the divisor is not 0");

/// The room that all connections share.
#[derive(Debug)]
pub(super) struct Rooms {
    calls: AtomicUsize,
    requests: Arc<Semaphore>,
    small: Arc<Semaphore>,
    replies: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        let of_all = |[_, all]: [usize; 2]| Arc::new(Semaphore::new(all / KIB));
        Self {
            calls: AtomicUsize::new(0),
            requests: of_all(REQUEST_ROOM),
            small: of_all(SMALL_ROOM),
            replies: of_all(REPLY_ROOM),
            streams: of_all(STREAM_ROOM),
        }
    }
}

/// One connection's share of the room.
#[derive(Debug)]
pub(in crate::grpc) struct Share {
    all: Arc<Rooms>,
    /// Whether the client has sent its HTTP/2 preface and SETTINGS.
    greeted: AtomicBool,
    calls: AtomicUsize,
    /// Number of replies that the client has not taken yet, by the period in which each reply was made.
    untaken: [AtomicUsize; PERIODS],
    period: AtomicUsize,
    pub(super) requests: Room,
    pub(super) small: Room,
    pub(super) replies: Room,
    pub(super) streams: Room,
    /// The address of the client. `None`: it is not known.
    peer: Option<SocketAddr>,
}

impl Share {
    /// Makes the share of a new connection, from this address.
    pub(super) fn of(all: &Arc<Rooms>, peer: Option<SocketAddr>) -> Arc<Self> {
        let room = |[own, _]: [usize; 2], all: &Arc<Semaphore>| Room {
            own: Arc::new(Semaphore::new(own / KIB)),
            all: Arc::clone(all),
        };
        Arc::new(Self {
            greeted: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            untaken: Default::default(),
            period: AtomicUsize::new(0),
            requests: room(REQUEST_ROOM, &all.requests),
            small: room(SMALL_ROOM, &all.small),
            replies: room(REPLY_ROOM, &all.replies),
            streams: room(STREAM_ROOM, &all.streams),
            all: Arc::clone(all),
            peer,
        })
    }

    /// Returns the address of the client, if it is known.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Remembers that the client's preface and SETTINGS have arrived.
    pub(super) fn greet(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client's preface and SETTINGS have arrived.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }

    /// Opens a call with these headers. `None` if there is no room for the call.
    pub(super) fn open(self: &Arc<Self>, headers: &HeaderMap) -> Option<Open> {
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES).sum();
        let room = if bytes > FREE_HEADER_BYTES { Some(Box::new(self.small.try_take(bytes)?)) } else { None };
        let own = self.calls.fetch_add(1, Ordering::Relaxed);
        // `open` is made before the check. So if the check fails, the drop of `open` corrects the count.
        let mut open = Open { share: Arc::clone(self), counted: false, _headers: room };
        if own >= CALLS_ALWAYS {
            open.counted = true;
            if self.all.calls.fetch_add(1, Ordering::Relaxed) >= CALLS_MAX {
                return None;
            }
        }
        Some(open)
    }

    /// Takes room for the body of a request of this size. `None` if there is not enough room now.
    pub(super) fn take_request(&self, bytes: usize) -> Option<TakenRoom> {
        if bytes <= SMALL_BYTES { self.small.try_take(bytes) } else { self.requests.try_take(bytes) }
    }

    /// Counts a reply as not taken by its client, until the returned value is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> Untaken {
        let period = self.period.load(Ordering::Relaxed);
        self.untaken[period].fetch_add(1, Ordering::Relaxed);
        Untaken { share: Arc::clone(self), period }
    }

    /// Returns whether there are replies that the client has not taken yet.
    pub(super) fn has_untaken(&self) -> bool {
        self.untaken.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Begins the next period. Returns true if a reply was made [`PERIODS`] periods ago and is still not taken.
    pub(super) fn turn(&self) -> bool {
        let next = (self.period.load(Ordering::Relaxed) + 1) % PERIODS;
        self.period.store(next, Ordering::Relaxed);
        self.untaken[next].load(Ordering::Relaxed) > 0
    }
}

/// An open call. A call is open until its client has taken the reply.
#[derive(Debug)]
pub(super) struct Open {
    share: Arc<Share>,
    /// Whether the call counts towards [`CALLS_MAX`].
    counted: bool,
    _headers: Option<Box<TakenRoom>>,
}

impl Open {
    /// Returns the share of the call's connection.
    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.share.calls.fetch_sub(1, Ordering::Relaxed);
        if self.counted {
            self.share.all.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A reply that its client has not taken yet. The reply is counted until this value is dropped.
#[derive(Debug)]
pub(super) struct Untaken {
    share: Arc<Share>,
    period: usize,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.share.untaken[self.period].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room of one kind, in KiB: the room of one connection, and the room of all connections.
#[derive(Clone, Debug)]
pub(super) struct Room {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Room {
    /// Takes room for this number of bytes. `None` if there is not enough room now.
    pub(super) fn try_take(&self, bytes: usize) -> Option<TakenRoom> {
        let own = Arc::clone(&self.own).try_acquire_many_owned(kib(bytes)).ok()?;
        let all = Arc::clone(&self.all).try_acquire_many_owned(kib(bytes)).ok()?;
        Some(TakenRoom { own, all })
    }

    /// Waits for room for this number of bytes, in order of arrival.
    pub(super) async fn take(&self, bytes: usize) -> TakenRoom {
        const NEVER_CLOSED: &str = "rooms are never closed";
        // The call takes the room of its own connection first. While it waits for this room, it has taken no room that
        // all connections share.
        let own = Arc::clone(&self.own).acquire_many_owned(kib(bytes)).await.expect(NEVER_CLOSED);
        let all = Arc::clone(&self.all).acquire_many_owned(kib(bytes)).await.expect(NEVER_CLOSED);
        TakenRoom { own, all }
    }
}

/// Room that was taken. The room is free again when this value is dropped.
#[derive(Debug)]
pub(super) struct TakenRoom {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl TakenRoom {
    /// Frees room that is too much, or takes room that is missing if it is free now. Returns whether the room now has
    /// this size.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let wanted = kib(bytes) as usize;
        let (own, all) = (self.own.num_permits(), self.all.num_permits());
        if wanted < own {
            drop((self.own.split(own - wanted), self.all.split(all - wanted)));
        } else if wanted > own {
            let room = Room { own: Arc::clone(self.own.semaphore()), all: Arc::clone(self.all.semaphore()) };
            let Some(more) = room.try_take((wanted - own) * KIB) else { return false };
            self.own.merge(more.own);
            self.all.merge(more.all);
        }
        true
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_above_the_bound_are_refused_except_the_first_of_each_connection() {
        let (all, headers) = (Arc::<Rooms>::default(), HeaderMap::new());
        let (busy, quiet) = (Share::of(&all, None), Share::of(&all, None));
        let mut open: Vec<_> = (0..CALLS_ALWAYS + CALLS_MAX).filter_map(|_| busy.open(&headers)).collect();
        assert_eq!(open.len(), CALLS_ALWAYS + CALLS_MAX);
        assert!(busy.open(&headers).is_none());
        let others: Vec<_> = (0..CALLS_ALWAYS).filter_map(|_| quiet.open(&headers)).collect();
        assert_eq!(others.len(), CALLS_ALWAYS);
        assert!(quiet.open(&headers).is_none());
        open.pop();
        assert!(quiet.open(&headers).is_some(), "a call that ended left its place to another");
    }

    #[test]
    fn small_requests_have_room_when_large_requests_have_none() {
        let all = Arc::<Rooms>::default();
        let busy: Vec<_> = (0..3).map(|_| Share::of(&all, None)).collect();
        let taken: Vec<_> =
            (0..30).filter_map(|number| busy[number % busy.len()].take_request(4 * MIB)).collect();
        assert_eq!(taken.len(), REQUEST_ROOM[1] / (4 * MIB));
        let quiet = Share::of(&all, None);
        assert!(quiet.take_request(SMALL_BYTES + 1).is_none());
        assert!(quiet.take_request(SMALL_BYTES).is_some());
        drop(taken);
        let own: Vec<_> = (0..30).filter_map(|_| quiet.take_request(4 * MIB)).collect();
        assert_eq!(own.len(), REQUEST_ROOM[0] / (4 * MIB), "one connection leaves room for others");
    }

    #[test]
    fn room_for_a_reply_becomes_as_large_as_the_reply() {
        let share = Share::of(&Arc::default(), None);
        let mut room = share.replies.try_take(4 * MIB).expect("there is room");
        assert!(room.resize(1));
        assert!(share.replies.try_take(REPLY_ROOM[0] - KIB).is_some());
        assert!(room.resize(REPLY_ROOM[0]));
        assert!(share.replies.try_take(1).is_none());
        assert!(!room.resize(REPLY_ROOM[0] + 1));
    }

    #[test]
    fn a_reply_is_late_after_all_periods_have_passed() {
        let share = Share::of(&Arc::default(), None);
        let reply = share.answer();
        assert!(share.has_untaken());
        for _ in 1..PERIODS {
            assert!(!share.turn());
        }
        assert!(share.turn());
        drop(reply);
        assert!(!share.has_untaken() && (0..PERIODS).all(|_| !share.turn()));
    }
}
