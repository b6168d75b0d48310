//! Claims about how the databases look up changes: by indexes, in the order of time.

use sea_orm::{ConnectionTrait, Statement};

use super::{
    list::{BY_CALLER, BY_KIND, BY_RPC, BY_TENANT, BY_THING, BY_TIME},
    prune::DELETE_CHANGES,
};
use crate::store::{Dialect, fixture::databases};

/// Each query, the types of its values, and the columns that its index compares.
const QUERIES: [(&str, &str, &str); 6] = [
    (BY_THING, "uuid, uuid, bigint, text", "thing"),
    (BY_TENANT, "uuid, uuid, bigint, text", "tenant"),
    (BY_CALLER, "uuid, uuid, bigint, text", "caller"),
    (BY_RPC, "uuid, uuid, bigint, text", "rpc"),
    (BY_KIND, "uuid, uuid, bigint, smallint", "kind"),
    (BY_TIME, "uuid, uuid, bigint", "id"),
];

/// A few changes, after which PostgreSQL collects its statistics.
const FEW: &str = "
    INSERT INTO changes (id, changed_at, caller, address, rpc, kind, thing, tenant, before, after, request_id)
    SELECT gen_random_uuid(), 0, 'c' || n, '', 'r' || n, n, 't' || n, 'x' || n, '', '', '' FROM generate_series(1, 3) AS n;
    ANALYZE changes;";

#[tokio::test]
async fn changes_are_listed_from_an_index_in_their_order() {
    for fixture in databases().await {
        let dialect = fixture.store.dialect();
        let transaction = fixture.store.begin_write("test").await.expect("begun");
        let connection = transaction.connection();
        if dialect == Dialect::Postgres {
            connection.execute_unprepared(FEW).await.expect("written");
        }
        for (number, (text, types, column)) in QUERIES.into_iter().enumerate() {
            let (explain, place) = match dialect {
                Dialect::Sqlite => (format!("EXPLAIN QUERY PLAN {text}"), 3),
                Dialect::Postgres => {
                    let prepare = format!("PREPARE q{number} ({types}) AS {text}");
                    connection.execute_unprepared(&prepare).await.expect("prepared");
                    let nothing = vec!["NULL"; types.split(',').count()].join(", ");
                    (format!("EXPLAIN EXECUTE q{number} ({nothing})"), 0)
                }
            };
            let explain = Statement::from_string(connection.get_database_backend(), explain);
            let rows = connection.query_all_raw(explain).await.expect("explained");
            let lines = rows.iter().map(|row| row.try_get_by_index::<String>(place).expect("a line"));
            let plan = lines.collect::<Vec<_>>().join("\n");
            let found = match dialect {
                Dialect::Sqlite if column == "id" => plan.contains("PRIMARY KEY (id>? AND id<?)"),
                Dialect::Sqlite => plan.contains(&format!("changes_{column} ({column}=? AND id>? AND id<?)")),
                Dialect::Postgres if column == "id" => plan.contains("Index Cond: ((id < "),
                Dialect::Postgres => plan.contains(&format!("Index Cond: (({column} = ")),
            };
            assert!(
                found && !plan.to_uppercase().contains("SORT") && !plan.contains("TEMP"),
                "{text}\n{plan}"
            );
        }
    }
}

#[tokio::test]
async fn postgres_removes_changes_by_index() {
    let mut fixtures = databases().await;
    fixtures.retain(|fixture| fixture.store.dialect() == Dialect::Postgres);
    let transaction = fixtures[0].store.begin_write("test").await.expect("begun");
    let connection = transaction.connection();
    connection.execute_unprepared(FEW).await.expect("written");
    let prepare = format!("PREPARE q (uuid, bigint) AS {DELETE_CHANGES}");
    connection.execute_unprepared(&prepare).await.expect("prepared");
    let explain = Statement::from_string(connection.get_database_backend(), "EXPLAIN EXECUTE q (NULL, NULL)");
    let rows = connection.query_all_raw(explain).await.expect("explained");
    let lines = rows.iter().map(|row| row.try_get_by_index::<String>(0).expect("a line"));
    let plan = lines.collect::<Vec<_>>().join("\n");
    assert!(plan.contains("Index Cond: (id < ") && !plan.contains("Seq Scan"), "{plan}");
}
