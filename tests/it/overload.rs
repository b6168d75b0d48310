//! UNAVAILABLE and DEADLINE_EXCEEDED: a client can tell them from "no quota".

use std::future::IntoFuture;

use futures::future::join_all;
use prost::Message;
use tonic::Code;

use crate::harness::{clients::done, raw, *};

both! {
    async fn a_call_whose_time_ran_out_is_told_so_and_nothing_is_held(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let path = "/aforo.v1.QuotaService/Reserve";
        let late = world.reserve("acme").tokens(10).id("late").request.encode_to_vec();
        let no = raw::post(world.address(), path, &[("grpc-timeout", "0n")], &late).await;
        no.expect("it was too late when it came").is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");

        let stall = world.database.stall().await;
        // The first waits for the lock with its batch; the others wait behind it until their time is over.
        let first = tokio::spawn(world.record("acme").tokens(1).into_future());
        let no = raw::post(world.address(), path, &[("grpc-timeout", "300m")], &late).await;
        no.expect("it waits for longer than that").is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        stall.end().await;
        first.await.expect("it does not panic").expect("it is recorded");

        // The client repeats it with the same request_id and finds out.
        let reply = world.reserve("acme").tokens(10).id("late").await.expect("there is quota");
        assert_eq!(reply.figures("day"), (1, 10));
        assert_eq!(world.reservations("acme").await.len(), 2);
    }

    /// I8: 10,000 operations wait at most.
    async fn a_full_queue_is_unavailable_and_not_out_of_quota(world: World) {
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
        let no = eventually("the queue is full", async || {
            let short = vec![("grpc-timeout", "200m")];
            let record = world.record("acme").tokens(1).request.encode_to_vec();
            let no = raw::post(world.address(), "/aforo.v1.QuotaService/Record", &short, &record).await?;
            (no.code == Code::Unavailable).then_some(no)
        })
        .await;
        no.is(Code::Unavailable, "OVERLOADED");
        assert!(no.retry.is_some(), "{no:?}");
        stall.end().await;

        let mut recorded = 0;
        for batch in join_all(batches).await {
            match batch.expect("it does not panic") {
                Ok(reply) => {
                    for result in reply.results {
                        match result.result {
                            Some(v1::operation_result::Result::Record(_)) => recorded += 1,
                            Some(v1::operation_result::Result::Error(status)) => {
                                No::from(status).is(Code::Unavailable, "OVERLOADED");
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
                Err(no) => {
                    no.is(Code::Unavailable, "OVERLOADED");
                }
            }
        }
        assert!(recorded < 20_000, "some did not fit");
        // What was accepted is carried out, whatever its client knows of it: those of the probe, too.
        let (committed, _) = world.figures("acme", "day").await;
        assert!(committed >= recorded, "{committed} of {recorded}");
    }
}
