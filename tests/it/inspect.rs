//! GetReservation and ListReservations, also as a report of leaked holds.

use tonic::Code;

use crate::harness::{call::span, clients::ALL_STATES, v1::*, *};

fn names(reservations: &[Reservation]) -> Vec<&str> {
    reservations.iter().map(|reservation| reservation.name.as_str()).collect()
}

/// Makes one reservation of each state, a minute apart, in the order of [`ALL_STATES`], and a Record last.
async fn one_of_each(world: &World) -> Vec<String> {
    world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
    let mut made = Vec::new();
    for state in ALL_STATES {
        let ttl = if state == ReservationState::Expired { SECOND } else { HOUR };
        let hold = world.reserve("acme").tokens(10).agent(state.as_str_name()).ttl(ttl).await;
        made.push(hold.expect("there is quota").name().to_owned());
        world.clock.advance(MINUTE);
    }
    world.commit(&made[1]).await.expect("it is held");
    world.release(&made[2]).await.expect("it is held");
    made.push(world.record("acme").tokens(1).await.expect("it is recorded").name().to_owned());
    made
}

both! {
    async fn get_reservation_returns_reservations_of_every_state(world: World) {
        let made = one_of_each(world).await;
        for (name, wanted) in made.iter().zip(ALL_STATES) {
            let read = world.get(name).await.expect("it is kept");
            assert_eq!((&read.name, state(&read)), (name, wanted));
            assert_eq!(read.agent, wanted.as_str_name());
            assert_eq!(read.settle_time.is_none(), wanted == ReservationState::Reserved);
        }
        let expired = world.get(&made[3]).await.expect("it is kept");
        assert_eq!(expired.settle_time, expired.expire_time, "a hold ends at its deadline");
        assert_eq!(amount(&expired, "tokens"), (10, 0));
    }

    /// An Extend makes no reservation, so no call finds a reservation by the request_id of an Extend.
    async fn the_request_id_of_an_extend_names_no_reservation(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let hold = world.reserve("acme").tokens(10).id("r").await.expect("there is quota");
        world.extend(hold.name()).tokens(1).id("e").await.expect("it is held");
        let by_request = |id: &str| ("acme".to_owned(), id.to_owned());
        for restarted in [false, true] {
            let get = world.get("").with(|request| (request.tenant, request.reserve_request_id) = by_request("r"));
            assert_eq!(get.await.expect("it is held").name, hold.name());
            let get = world.get("").with(|request| (request.tenant, request.reserve_request_id) = by_request("e"));
            let commit = world.commit("").with(|request| (request.tenant, request.reserve_request_id) = by_request("e"));
            let release =
                world.release("").with(|request| (request.tenant, request.reserve_request_id) = by_request("e"));
            let extend =
                world.extend("").tokens(1).with(|request| (request.tenant, request.reserve_request_id) = by_request("e"));
            let answers = [
                ("GetReservation", get.await.map(drop)),
                ("Commit", commit.await.map(drop)),
                ("Release", release.await.map(drop)),
                ("Extend", extend.await.map(drop)),
            ];
            for (rpc, answer) in answers {
                let no = answer.expect_err(rpc);
                no.is(Code::NotFound, "RESERVATION_NOT_FOUND");
                assert_eq!(no.metadata["reserve_request_id"], "e", "{rpc}");
            }
            if !restarted {
                world.restart().await;
            }
        }
    }

    async fn reservations_are_listed_by_state_and_newest_first(world: World) {
        let made = one_of_each(world).await;
        let open = world.list("acme").await.expect("the tenant is there");
        assert_eq!(names(&open.reservations), [&made[0]], "open ones when nothing is said");
        let cases: [(&[ReservationState], &[usize]); 5] = [
            (&[ReservationState::Reserved], &[0]),
            (&[ReservationState::Committed], &[4, 1]),
            (&[ReservationState::Released], &[2]),
            (&[ReservationState::Expired], &[3]),
            (&ALL_STATES, &[4, 3, 2, 1, 0]),
        ];
        for (states, wanted) in cases {
            let read = clients::reservations(&world.quota, "acme", states).await;
            let wanted: Vec<&str> = wanted.iter().map(|&index| made[index].as_str()).collect();
            assert_eq!(names(&read), wanted, "{states:?}");
        }
        for read in world.reservations("acme").await {
            assert_eq!(world.get(&read.name).await.expect("it is kept"), read, "both say the same");
        }
    }

    async fn reservations_are_listed_by_agent_and_age(world: World) {
        world.tenant_with("acme", &[day("tokens", 1_000)]).await;
        let mut made = Vec::new();
        for agent in ["planner", "coder", "planner", ""] {
            let hold = world.reserve("acme").tokens(1).agent(agent).ttl(HOUR).await.expect("there is quota");
            made.push(hold.name().to_owned());
            world.clock.advance(MINUTE);
        }
        let list = async |agent: Option<&str>, min_age: Option<i64>| {
            let call = world.list("acme").with(|request| {
                request.agent = agent.map(Into::into);
                request.min_age = min_age.map(span);
            });
            let page = call.await.expect("the tenant is there");
            let index = |name: &str| made.iter().position(|made| made == name).expect("it was made");
            page.reservations.iter().map(|reservation| index(&reservation.name)).collect::<Vec<_>>()
        };
        assert_eq!(list(None, None).await, [3, 2, 1, 0]);
        assert_eq!(list(Some("planner"), None).await, [2, 0]);
        assert_eq!(list(Some(""), None).await, [3]);
        assert_eq!(list(Some("nobody"), None).await, [0; 0]);
        // The oldest reservation is 4 minutes old.
        assert_eq!(list(None, Some(4 * MINUTE)).await, [0]);
        assert_eq!(list(None, Some(2 * MINUTE + 1)).await, [1, 0]);
        assert_eq!(list(Some("planner"), Some(2 * MINUTE)).await, [2, 0]);
    }

    async fn pages_of_reservations_add_up_to_the_whole_list(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 100_000)]).await;
        let mut operations = Vec::new();
        for number in 0..120 {
            let request = world.reserve("acme").tokens(1).id(&format!("r{number}"));
            operations.push(request.operation());
            if number % 3 == 0 {
                let commit = world.commit("").with(|request| {
                    request.tenant = "acme".into();
                    request.reserve_request_id = format!("r{number}");
                });
                operations.push(commit.operation());
            }
        }
        world.batch(operations).await.expect("each stands for itself");
        for states in [&ALL_STATES[..1], &ALL_STATES[1..2], &ALL_STATES[..]] {
            let whole = clients::reservations(&world.quota, "acme", states).await;
            for size in [1, 17, 1_000] {
                let mut call = world.list("acme").states(states).with(|request| request.page_size = size);
                let mut read = Vec::new();
                loop {
                    let page = call.clone().await.expect("the tenant is there");
                    assert!(page.reservations.len() <= usize::try_from(size).expect("positive"));
                    read.extend(page.reservations);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    call.request.page_token = page.next_page_token;
                }
                assert_eq!(names(&read), names(&whole), "{states:?} in pages of {size}");
            }
        }
        assert_eq!(world.reservations("acme").await.len(), 120);
    }

    async fn invalid_list_reservations_requests_are_refused(world: World) {
        world.tenant_with("acme", &[day("tokens", 1)]).await;
        let no = world.list("nobody").await.expect_err("there is none");
        no.is(Code::NotFound, "TENANT_NOT_FOUND");
        world.list("").await.expect_err("no tenant").names(&["tenant"]);
        let change: [Case<ListReservationsRequest>; 5] = [
            ("states[0]", |request| request.states = vec![0]),
            ("states[1]", |request| request.states = vec![1, 99]),
            ("page_size", |request| request.page_size = -1),
            ("page_token", |request| request.page_token = "garbage".into()),
            ("min_age", |request| request.min_age = Some(prost_types::Duration { seconds: -1, nanos: 0 })),
        ];
        for (field, change) in change {
            world.list("acme").with(change).await.expect_err(field).names(&[field]);
        }
        let no = world.get("").await.expect_err("neither a name nor a request_id");
        no.names(&["reservation"]);
    }
}
