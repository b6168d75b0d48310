//! R4.3: so many holds are due at once that even several batches do not sweep all of them.

use crate::harness::{v1::*, *};

/// Number of holds that are released at their deadline, in thousands. Below: holds that are charged, and holds that are
/// charged a minute later. Each batch sweeps 2,000 due holds, in the order of their deadlines.
const RELEASED: i64 = 5;
const CHARGED: i64 = 3;
const LATER: i64 = 3;

/// Makes `thousands` thousand holds of one token each, and returns the name of the last hold.
async fn hold(world: &World, thousands: i64, ttl: i64, on_expiry: OnExpiry) -> String {
    let mut last = String::new();
    for _ in 0..thousands {
        let reserve = world.reserve("acme").tokens(1).ttl(ttl);
        let operation = reserve.with(|request| request.on_expiry = on_expiry.into()).operation();
        let results = world.batch(vec![operation; 1_000]).await.expect("each stands for itself");
        match results.into_iter().next_back().and_then(|result| result.result) {
            Some(operation_result::Result::Reserve(reply)) => last = reply.name().to_owned(),
            other => panic!("{other:?}"),
        }
    }
    last
}

/// Checks that a decision and a read report the same figures: due holds do not count, but their charges count.
async fn see(world: &World, clients: &Clients, wanted: (i64, i64)) {
    let reply = clients.check("acme").tokens(1).await.expect("an answer");
    let balance = reply.verdicts[0].balance.as_ref().expect("each has one");
    assert_eq!(figures(balance), wanted);
    assert_eq!(world.figures("acme", "lifetime").await, wanted);
}

both! {
    async fn due_holds_never_count_while_they_are_swept(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        hold(world, RELEASED, MINUTE, OnExpiry::Release).await;
        let late = hold(world, CHARGED, MINUTE, OnExpiry::Charge).await;
        hold(world, LATER, 2 * MINUTE, OnExpiry::Charge).await;
        see(world, world, (0, (RELEASED + CHARGED + LATER) * 1_000)).await;

        world.clock.advance(MINUTE);
        let charged = CHARGED * 1_000;
        for _ in 0..2 {
            see(world, world, (charged, LATER * 1_000)).await;
        }
        // No batch has swept this hold yet.
        let reply = world.commit(&late).tokens(7).await.expect("what was spent is spent");
        let charged = charged + 6;
        assert_eq!(reply.figures("lifetime"), (charged, LATER * 1_000));
        // More holds are due before the first holds are swept.
        world.clock.advance(MINUTE);
        let charged = charged + LATER * 1_000;
        see(world, world, (charged, 0)).await;
        if world.database.kind() == Kind::Postgres {
            // Another replica sweeps the holds, too.
            let (server, clients) = world.replica().await;
            see(world, &clients, (charged, 0)).await;
            see(world, world, (charged, 0)).await;
            see(world, &clients, (charged, 0)).await;
            server.shutdown().await;
        }
        for _ in 0..4 {
            see(world, world, (charged, 0)).await;
        }
        let expired = clients::reservations(&world.quota, "acme", &[ReservationState::Expired]).await;
        assert_eq!(i64::try_from(expired.len() + 1), Ok((RELEASED + CHARGED + LATER) * 1_000), "all were swept");
        world.verify().await;
    }
}
