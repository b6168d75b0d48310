//! Holds of idle tenants. RESERVATION_EXPIRED is emitted within seconds after the deadline, although the tenant has no
//! operations.

use std::time::{Duration, Instant};

use crate::harness::{v1::EventKind::*, *};

/// Maximum time from a deadline to its event, as docs/reference.md promises.
const LATE_MAX: Duration = Duration::from_secs(5);

on_both! {
    async fn an_expired_hold_of_an_idle_tenant_emits_an_event_within_5_seconds(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &[]).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let mut watcher = clients.watch(everything()).await.expect("it begins");
        for ttl in [SECOND, 2 * SECOND, 500] {
            clients.reserve("acme").tokens(1).ttl(ttl).await.expect("there is quota");
            let deadline = Instant::now() + Duration::from_millis(ttl.unsigned_abs());
            let event = watcher.event().await;
            assert_eq!(event.kind(), ReservationExpired);
            let late = deadline.elapsed();
            assert!(late < LATE_MAX, "{late:?} late");
        }
        process.stop().await;
    }
}

both! {
    /// `next_due` is a lower bound. A run corrects a value that is too low. So the next run skips the tenant.
    async fn expire_holds_reads_a_tenant_without_due_holds_once(world: World) {
        for tenant in ["acme", "globex"] {
            world.tenant_with(tenant, &[lifetime("tokens", 1_000)]).await;
            let hold = world.reserve(tenant).tokens(1).ttl(MINUTE).await.expect("there is quota");
            world.commit(hold.name()).tokens(1).await.expect("it is held");
        }
        world.reserve("globex").tokens(1).ttl(HOUR).await.expect("there is quota");
        world.clock.advance(MINUTE);
        let due = format!("SELECT COUNT(*) FROM tenants WHERE next_due <= {}", world.clock.now());
        assert_eq!(world.database.number(&due).await, 2);
        let figures = world.job("expire-holds").await;
        assert_eq!((figures["tenants"], figures["holds"]), (0, 0));
        assert_eq!(world.database.number(&due).await, 0);
        world.clock.advance(HOUR);
        let figures = world.job("expire-holds").await;
        assert_eq!((figures["tenants"], figures["holds"]), (1, 1));
    }
}
