//! The clock of the machine is set forward and back while the server runs. Jobs go on within seconds.

use std::time::{Duration, Instant};

use tope::clock::system_now;

use crate::{
    harness::{preload::ShiftedClock, v1::*, *},
    webhooks::{deliver, failing, happen, webhook},
};

/// Maximum time until a job runs whose schedule is each second.
const SECONDS_MAX: Duration = Duration::from_secs(10);

/// Waits for a run of a job that began while the clock was about `shift` milliseconds ahead of the real time. Returns
/// how long the wait took.
async fn ran(clients: &Clients, job: &str, shift: i64) -> Duration {
    let began = Instant::now();
    let from = system_now().0 + shift;
    eventually(job, async || {
        let jobs = clients.jobs().await;
        let last = jobs.iter().find(|state| state.name == job)?.last_run.as_ref()?;
        let at = millis(last.start_time.as_ref())?;
        (from..from + 60 * SECOND).contains(&at).then_some(())
    })
    .await;
    began.elapsed()
}

on_both! {
    async fn jobs_run_within_seconds_after_the_clock_was_set(kind: Kind) {
        let database = Database::fresh(kind);
        let clock = ShiftedClock::new(&database.path("")).await;
        let allowed = ["--webhook-allow-http", "--webhook-allow-private"];
        let process = Process::start_as(clock.command(), database.url(), &database.path(""), &allowed);
        let channel = process.connect().await;
        clients::serving(&channel).await;
        let clients = Clients::of(channel);
        ran(&clients, "deliver-webhooks", 0).await;
        for shift in [DAY, 0, 20 * SECOND, 0, -HOUR, 0, 366 * DAY, -DAY, 0] {
            clock.set(shift);
            let took = ran(&clients, "deliver-webhooks", shift).await;
            assert!(took < SECONDS_MAX, "after {took:?}, with the clock {shift} ms ahead");
        }
        assert!(process.log().contains("the clock of this machine was set"), "{}", process.log());
        // Webhooks get their events again: this depends on jobs.
        let receiver = Receiver::start().await;
        webhook(&clients, "chat", &receiver.url(), &[EventKind::ReservationExpired]).await;
        clients.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let began = Instant::now();
        clients.reserve("acme").tokens(1).ttl(SECOND).await.expect("there is quota");
        eventually("the endpoint gets the event that the hold expired", async || {
            (!receiver.posts().is_empty()).then_some(())
        })
        .await;
        assert!(began.elapsed() < SECONDS_MAX, "{:?}", began.elapsed());
        process.stop().await;
    }
}

both! {
    /// Otherwise the retry would be sent a day later.
    async fn a_retry_planned_while_the_clock_was_ahead_is_due_at_once(world: World) {
        let receiver = failing(world).await;
        world.clock.advance(DAY);
        happen(world, 1).await;
        eventually("it fails a day ahead", async || {
            deliver(world).await;
            (receiver.posts().len() >= 3).then_some(())
        })
        .await;
        world.clock.advance(-DAY);
        receiver.answer(|_| receiver::Answer::Status(204));
        crate::webhooks::delivered(world, "chat", DeliveryState::Delivered, 2).await;
    }
}
