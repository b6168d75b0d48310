//! Overload: calls fail with UNAVAILABLE or DEADLINE_EXCEEDED, which a client can distinguish from "no quota".

use std::future::IntoFuture;

use futures::future::join_all;
use prost::Message;
use tonic::Code;

use crate::harness::{clients::done, raw, *};

both! {
    async fn a_reserve_whose_deadline_has_passed_fails_and_holds_nothing(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let path = "/tope.v1.QuotaService/Reserve";
        let late = world.reserve("acme").tokens(10).id("late").request.encode_to_vec();
        let no = raw::post(world.address(), path, &[("grpc-timeout", "0n")], &late).await;
        no.expect("it was too late when it came").is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");

        let stall = world.database.stall().await;
        // The batch of the first call waits for the lock. The next call waits behind it until its deadline.
        let first = tokio::spawn(world.record("acme").tokens(1).into_future());
        let no = raw::post(world.address(), path, &[("grpc-timeout", "300m")], &late).await;
        no.expect("it waits for longer than that").is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        stall.end().await;
        first.await.expect("it does not panic").expect("it is recorded");

        // The client repeats the call with the same request_id to learn the outcome.
        let reply = world.reserve("acme").tokens(10).id("late").await.expect("there is quota");
        assert_eq!(reply.figures("day"), (1, 10));
        assert_eq!(world.reservations("acme").await.len(), 2);
    }

    /// R4.10: calls that charge or settle take effect even if the client no longer waits.
    async fn a_commit_or_record_takes_effect_after_its_deadline_has_passed(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(100).await.expect("there is quota").name().to_owned();
        let commit = world.commit(&hold).tokens(80).request.encode_to_vec();
        let record = world.record("acme").tokens(5).request.encode_to_vec();
        let stall = world.database.stall().await;
        for (rpc, bytes) in [("Commit", commit), ("Record", record)] {
            let path = format!("/tope.v1.QuotaService/{rpc}");
            let no = raw::post(world.address(), &path, &[("grpc-timeout", "200m")], &bytes).await;
            no.expect("it waits for longer than that").is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        }
        stall.end().await;
        eventually("both are carried out", async || {
            (world.figures("acme", "day").await == (85, 0)).then_some(())
        })
        .await;
    }

    /// I8: at most 10,000 operations wait in a lane.
    async fn a_call_at_a_full_queue_fails_with_unavailable(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000_000)]).await;
        let operation = world.record("acme").tokens(1).operation();
        let stall = world.database.stall().await;
        let batches: Vec<_> = (0..20)
            .map(|_| {
                let request = crate::harness::v1::BatchRequest { operations: vec![operation.clone(); 1_000] };
                let mut quota = world.quota.clone();
                tokio::spawn(async move { done(quota.batch(request).await) })
            })
            .collect();
        // Nothing is decided while the lock is held, so a call that gets an answer was refused.
        eventually("the queue is full", async || {
            batches.iter().any(tokio::task::JoinHandle::is_finished).then_some(())
        })
        .await;
        stall.end().await;

        let (mut recorded, mut refused) = (0, Vec::new());
        for batch in join_all(batches).await {
            match batch.expect("it does not panic") {
                Ok(reply) => {
                    for result in reply.results {
                        match result.result {
                            Some(v1::operation_result::Result::Record(_)) => recorded += 1,
                            Some(v1::operation_result::Result::Error(status)) => refused.push(status.into()),
                            other => panic!("{other:?}"),
                        }
                    }
                }
                Err(no) => refused.push(*no),
            }
        }
        assert!(!refused.is_empty(), "20,000 do not fit");
        for no in &refused {
            no.is(Code::Unavailable, "OVERLOADED");
            assert!(no.retry.is_some(), "{no:?}");
        }
        assert_eq!(world.figures("acme", "day").await, (recorded, 0));
    }
}
