//! Batch: many operations in one call. Each operation is decided by itself, and the operations of a tenant are decided
//! in their order.

use tonic::Code;

use crate::harness::{v1::operation_result::Result as Answered, v1::*, *};

/// Returns the refusal of an operation of a Batch.
pub fn error(result: OperationResult) -> No {
    match result.result {
        Some(Answered::Error(status)) => status.into(),
        other => panic!("it should be refused: {other:?}"),
    }
}

fn ok(result: &OperationResult) -> &Answered {
    match result.result.as_ref() {
        Some(Answered::Error(status)) => panic!("{:?}", No::from(status.clone())),
        Some(answer) => answer,
        None => panic!("every operation has its answer"),
    }
}

both! {
    async fn a_batch_answers_each_operation_like_its_own_rpc(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let by_request = (String::from("acme"), String::from("r"));
        let operations = vec![
            world.reserve("acme").tokens(100).id("r").operation(),
            world
                .extend("")
                .tokens(20)
                .with(|request| (request.tenant, request.reserve_request_id) = by_request.clone())
                .operation(),
            world.check("acme").tokens(881).operation(),
            world
                .commit("")
                .tokens(90)
                .with(|request| (request.tenant, request.reserve_request_id) = by_request.clone())
                .operation(),
            world.record("acme").tokens(5).operation(),
            world.reserve("acme").tokens(7).id("s").operation(),
            world
                .release("")
                .with(|request| (request.tenant, request.reserve_request_id) = ("acme".into(), "s".into()))
                .operation(),
        ];
        let results = world.batch(operations).await.expect("each stands for itself");
        assert_eq!(results.len(), 7);
        let Answered::Reserve(reserve) = ok(&results[0]) else { panic!("{results:?}") };
        assert_eq!(reserve.figures("day"), (0, 100));
        let Answered::Extend(extend) = ok(&results[1]) else { panic!("{results:?}") };
        assert_eq!(amount(extend.held(), "tokens"), (120, 0));
        let Answered::Check(check) = ok(&results[2]) else { panic!("{results:?}") };
        assert!(!check.allowed, "120 are held");
        let Answered::Commit(commit) = ok(&results[3]) else { panic!("{results:?}") };
        assert_eq!(amount(commit.held(), "tokens"), (120, 90));
        let Answered::Record(record) = ok(&results[4]) else { panic!("{results:?}") };
        assert_eq!(record.figures("day"), (95, 0));
        let Answered::Release(release) = ok(&results[6]) else { panic!("{results:?}") };
        assert_eq!(state(release.held()), ReservationState::Released);
        assert_eq!(world.figures("acme", "day").await, (95, 0));
    }

    /// A Batch is not atomic: a refused operation does not affect the others.
    async fn a_refused_operation_does_not_affect_the_others_in_a_batch(world: World) {
        world.tenant_with("acme", &[day("tokens", 100)]).await;
        let operations = vec![
            world.reserve("acme").tokens(60).operation(),
            world.reserve("acme").tokens(60).operation(),
            world.reserve("acme").tokens(-1).operation(),
            world.reserve("nobody").tokens(1).operation(),
            world.commit("nonsense").operation(),
            Operation { operation: None },
            world.reserve("acme").tokens(40).operation(),
        ];
        let mut results = world.batch(operations).await.expect("each stands for itself");
        assert!(matches!(ok(&results[0]), Answered::Reserve(_)));
        assert!(matches!(ok(&results[6]), Answered::Reserve(_)));
        let quota = error(results.remove(1));
        quota.is_quota(&["day"]);
        assert!(quota.retry.is_some(), "details included");
        error(results.remove(1)).names(&["amounts[0].quantity"]);
        error(results.remove(1)).is(Code::NotFound, "TENANT_NOT_FOUND");
        error(results.remove(1)).is(Code::NotFound, "RESERVATION_NOT_FOUND");
        error(results.remove(1)).is(Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(world.figures("acme", "day").await, (0, 100));
    }

    async fn operations_of_one_tenant_run_in_their_order(world: World) {
        world.tenant_with("acme", &[day("tokens", 10)]).await;
        world.tenant_with("globex", &[day("tokens", 10)]).await;
        let mut operations = Vec::new();
        // There is quota for ten operations. The next operations are refused, until the correction in the middle makes
        // room for five.
        for number in 0..30 {
            for tenant in ["acme", "globex"] {
                operations.push(match number {
                    15 => world.record(tenant).tokens(-5).operation(),
                    _ => world.reserve(tenant).tokens(1).id(&format!("r{number}")).operation(),
                });
                let commit = world.commit("").with(|request| {
                    (request.tenant, request.reserve_request_id) = (tenant.into(), format!("r{number}"));
                });
                operations.push(commit.operation());
            }
        }
        let results = world.batch(operations).await.expect("each stands for itself");
        for (index, pair) in results.chunks(2).enumerate() {
            let number = index / 2;
            let passes = number < 10 || (16..21).contains(&number);
            let committed = matches!(pair[1].result, Some(Answered::Commit(_)));
            assert_eq!(committed, passes, "number {number}: {pair:?}");
        }
        for tenant in ["acme", "globex"] {
            assert_eq!(world.figures(tenant, "day").await, (10, 0));
        }
    }

    /// I8: if the bound is exceeded, the answer is a clear error.
    async fn a_batch_has_at_most_a_thousand_operations(world: World) {
        world.tenant_with("acme", &[day("tokens", 5_000)]).await;
        let operation = world.reserve("acme").tokens(1).operation();
        let results = world.batch(vec![operation.clone(); 1_000]).await.expect("a thousand");
        assert_eq!(results.iter().filter(|result| matches!(ok(result), Answered::Reserve(_))).count(), 1_000);
        let before = world.books("acme").await;
        world.batch(vec![operation; 1_001]).await.expect_err("one more").names(&["operations"]);
        world.batch(vec![]).await.expect_err("none").names(&["operations"]);
        assert_eq!(world.books("acme").await, before);
    }

    /// A client that accepts 4 MiB gets a reply with each plan. Other calls return the parts that were left out.
    async fn a_reply_of_batch_that_is_too_large_is_abridged(world: World) {
        let limits: Vec<Limit> = (0..60)
            .map(|number| day("tokens", 1_000).named(&format!("a-limit-with-a-rather-long-name-{number}")))
            .collect();
        world.tenant_with("acme", &limits).await;
        let mut operations = vec![world.reserve("acme").tokens(1).label("a", "1").operation(); 997];
        operations.push(world.record("acme").tokens(3).operation());
        operations.push(world.check("acme").tokens(1).operation());
        operations.push(world.reserve("acme").tokens(1).operation());
        let reply = world.quota.clone().batch(BatchRequest { operations: operations.clone() }).await;
        let mut reply = reply.expect("it is not too large").into_inner();
        assert!(reply.abridged);
        let quota = error(reply.results.remove(999));
        assert_eq!((quota.code, quota.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
        assert!(quota.retry.is_some(), "it is left");
        let Answered::Check(check) = ok(&reply.results[998]) else { panic!("{:?}", reply.results[998]) };
        assert!(!check.allowed && check.verdicts.is_empty());
        let Answered::Record(record) = ok(&reply.results[997]) else { panic!("{:?}", reply.results[997]) };
        assert_eq!((amount(record.held(), "tokens"), record.applied.len()), ((0, 3), 0));
        for result in &reply.results[..997] {
            let Answered::Reserve(reserve) = ok(result) else { panic!("{result:?}") };
            assert_eq!((amount(reserve.held(), "tokens"), reserve.balances.len()), ((1, 0), 0));
            assert_eq!(reserve.held().labels.len(), 0);
        }
        let Answered::Reserve(first) = ok(&reply.results[0]) else { panic!("{:?}", reply.results[0]) };
        assert_eq!(world.get(first.name()).await.expect("the reservation exists").labels["a"], "1");
        assert_eq!(world.figures("acme", "a-limit-with-a-rather-long-name-59").await, (3, 997));
        // A reply with fewer operations is complete.
        operations.drain(..900);
        let reply = world.quota.clone().batch(BatchRequest { operations }).await.expect("an answer").into_inner();
        assert!(!reply.abridged);
        let Answered::Record(record) = ok(&reply.results[97]) else { panic!("{:?}", reply.results[97]) };
        assert_eq!((record.balances.len(), record.applied.len()), (60, 60));
    }

    async fn the_same_request_id_twice_in_one_batch_takes_effect_once(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let reserve = world.reserve("acme").tokens(10).id("same").operation();
        let other = world.reserve("acme").tokens(11).id("same").operation();
        let record = world.record("acme").tokens(3).id("twice").operation();
        let operations = vec![reserve.clone(), reserve, other, record.clone(), record];
        let mut results = world.batch(operations).await.expect("each stands for itself");
        let (Answered::Reserve(first), Answered::Reserve(second)) = (ok(&results[0]), ok(&results[1])) else {
            panic!("{results:?}")
        };
        assert_eq!(first.reservation, second.reservation);
        let (Answered::Record(first), Answered::Record(second)) = (ok(&results[3]), ok(&results[4])) else {
            panic!("{results:?}")
        };
        assert_eq!(first.reservation, second.reservation);
        error(results.remove(2)).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
        assert_eq!(world.figures("acme", "day").await, (3, 10));
    }
}
