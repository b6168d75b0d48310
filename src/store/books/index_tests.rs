//! Claims about how the databases look up rows: by indexes.

use sea_orm::{ConnectionTrait, Statement};

use super::{
    close::FIND_OLDEST_HOLDS,
    due::{COUNT_DUE, LIST_DUE_TENANTS},
    find::{FIND_COUNTERS, FIND_HOLDS, FIND_REQUESTS, FIND_SETTLED},
    prune_counters::{FIND_ADJUSTMENTS, FIND_OLD_COUNTERS},
    scan::{FIND_EARLIEST_DEADLINES, FIND_NEXT_DEADLINE, LIST_HOLDS, LIST_HOLDS_BY_DEADLINE},
    write::{DELETE_HOLDS, UPDATE_HOLDS, UPDATE_SETTLED},
};
use crate::store::{Dialect, fixture::databases};

/// One row of each table, after which PostgreSQL collects its statistics.
const FEW: &str = "
    INSERT INTO requests (tenant_key, request_id, fingerprint, method, reservation_id, created_at)
    VALUES (1, 'r', gen_random_uuid(), 1, gen_random_uuid(), 0);
    INSERT INTO reservations (id, tenant_key, state, settled_at, body) VALUES (gen_random_uuid(), 1, 2, 0, 'b');
    INSERT INTO holds (id, tenant_key, deadline, body) VALUES (gen_random_uuid(), 1, 0, 'b');
    INSERT INTO counters (tenant_key, key, resource_key, period, window_start, window_end, committed, reserved,
                          counted_since)
    VALUES (1, 'k', 1, 1, 0, 1, 0, 0, 0);
    INSERT INTO adjustments (id, tenant_key, counter_key, delta, reason, operator, created_at)
    VALUES (gen_random_uuid(), 1, 'k', 1, '', '', 0);
    ANALYZE requests, reservations, holds, counters, adjustments;";

#[tokio::test]
async fn postgres_reads_by_index_even_if_tables_were_analyzed_almost_empty() {
    let mut fixtures = databases().await;
    fixtures.retain(|fixture| fixture.store.dialect() == Dialect::Postgres);
    let transaction = fixtures[0].store.begin_write("test").await.expect("begun");
    let connection = transaction.connection();
    connection.execute_unprepared(FEW).await.expect("written");
    let texts = [
        (&FIND_REQUESTS, "bigint[], text[]"),
        (&FIND_HOLDS, "bigint[], uuid[]"),
        (&FIND_SETTLED, "bigint[], uuid[]"),
        (&FIND_COUNTERS, "bigint[], bytea[]"),
        (&FIND_OLD_COUNTERS, "bigint[], bytea[]"),
        (&FIND_ADJUSTMENTS, "bigint[], bytea[]"),
        (&UPDATE_HOLDS, "bigint[], uuid[], bigint[], bytea[]"),
        (&DELETE_HOLDS, "bigint[], uuid[]"),
        (&UPDATE_SETTLED, "uuid[], bigint[], smallint[], bigint[], bytea[]"),
    ];
    for (number, (bulk, types)) in texts.into_iter().enumerate() {
        let prepare = format!("PREPARE q{number} ({types}) AS {}", bulk.postgres);
        connection.execute_unprepared(&prepare).await.expect("prepared");
        let nothing = vec!["NULL"; bulk.columns.len()].join(", ");
        let explain = format!("EXPLAIN EXECUTE q{number} ({nothing})");
        let explain = Statement::from_string(connection.get_database_backend(), explain);
        let rows = connection.query_all_raw(explain).await.expect("explained");
        let lines = rows.iter().map(|row| row.try_get_by_index::<String>(0).expect("a line"));
        let plan = lines.collect::<Vec<_>>().join("\n");
        assert!(plan.contains("Index Cond") && !plan.contains("Join Filter"), "{}\n{plan}", bulk.postgres);
    }
}

#[tokio::test]
async fn sqlite_reads_holds_by_deadline_from_the_index_of_deadlines() {
    let mut fixtures = databases().await;
    fixtures.retain(|fixture| fixture.store.dialect() == Dialect::Sqlite);
    let transaction = fixtures[0].store.begin_write("test").await.expect("begun");
    let connection = transaction.connection();
    for text in [
        LIST_DUE_TENANTS,
        LIST_HOLDS,
        LIST_HOLDS_BY_DEADLINE,
        FIND_NEXT_DEADLINE,
        COUNT_DUE.sqlite,
        FIND_EARLIEST_DEADLINES.sqlite,
        FIND_OLDEST_HOLDS.sqlite,
    ] {
        let explain = format!("EXPLAIN QUERY PLAN {text}");
        let explain = Statement::from_string(connection.get_database_backend(), explain);
        let rows = connection.query_all_raw(explain).await.expect("explained");
        let lines = rows.iter().map(|row| row.try_get_by_index::<String>(3).expect("a line"));
        let plan = lines.collect::<Vec<_>>().join("\n");
        assert!(plan.contains("holds_deadline (tenant_key=?"), "{text}\n{plan}");
    }
}
