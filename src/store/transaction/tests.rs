//! Claims about transactions, on both databases.

use std::sync::{
    atomic::{AtomicU32, Ordering},
    mpsc,
};

use futures::{FutureExt, poll};
use sea_orm::{ConnectionTrait, DbErr};
use tokio::{runtime::Builder, task::spawn_blocking};

use super::*;
use crate::{
    domain::time::Time,
    store::{error::AdminError, fixture::databases, sqlite::turn::Writer},
};

fn collision() -> AdminError {
    StoreError::Serialization(DbErr::Custom("another one was faster".to_owned())).into()
}

#[tokio::test]
async fn a_transaction_that_collides_is_repeated_a_bounded_number_of_times() {
    for fixture in databases().await {
        let begun = AtomicU32::new(0);
        let third =
            fixture.store.run("test", async |transaction| match begun.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(collision()),
                attempt => Ok((transaction, attempt)),
            });
        assert_eq!(third.await.expect("at last"), 2);
        begun.store(0, Ordering::Relaxed);
        let never = fixture.store.run("test", async |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(Transaction<Writing>, ()), _>(collision())
        });
        assert!(matches!(never.await, Err(AdminError::Store(StoreError::Serialization(_)))));
        assert_eq!(begun.load(Ordering::Relaxed), ATTEMPTS_MAX);
    }
}

#[tokio::test]
async fn changes_that_are_not_committed_have_no_effect() {
    for fixture in databases().await {
        let bump = "UPDATE policy SET revision = revision + 1";
        let failed = fixture.store.run("test", async |transaction| {
            transaction.connection().execute_unprepared(bump).await?;
            Err::<(Transaction<Writing>, ()), _>(StoreError::Corrupt("test".to_owned()).into())
        });
        failed.await.expect_err("rolled back");
        let dropped = fixture.store.begin_write("test").await.expect("begun");
        dropped.connection().execute_unprepared(bump).await.expect("updated");
        drop(dropped);
        let read = fixture.store.begin_read("test").await.expect("begun");
        assert_eq!(read.read_revision().await.expect("a revision"), 0);
        let written = read.connection().execute_unprepared(bump).await;
        written.expect_err("it only reads");
    }
}

#[tokio::test]
async fn a_reader_sees_one_state_of_the_database() {
    for fixture in databases().await {
        let read = fixture.store.begin_read("test").await.expect("begun");
        assert_eq!(read.read_revision().await.expect("a revision"), 0);
        let write = fixture.store.begin_write("test").await.expect("begun");
        let bump = "UPDATE policy SET revision = revision + 1";
        write.connection().execute_unprepared(bump).await.expect("updated");
        write.commit().await.expect("committed");
        assert_eq!(read.read_revision().await.expect("a revision"), 0);
        read.rollback().await.expect("ended");
        let read = fixture.store.begin_read("test").await.expect("begun");
        assert_eq!(read.read_revision().await.expect("a revision"), 1);
    }
}

#[tokio::test]
async fn the_time_advances_within_a_transaction() {
    for fixture in databases().await {
        let read = fixture.store.begin_read("test").await.expect("begun");
        let first = read.database_now().await.expect("a time");
        assert!(first > Time(1_700_000_000_000), "{first:?}");
        let mut later = first;
        for _ in 0..100_000 {
            later = read.database_now().await.expect("a time");
            if later > first {
                break;
            }
        }
        assert!(later > first, "it stands still");
        assert_eq!(read.now(Some(Time(7))).await.expect("a time"), Time(7));
    }
}

#[test]
fn a_job_that_waits_for_a_thread_does_not_keep_batches_from_writing() {
    let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for fixture in databases().await {
            let (release, released) = mpsc::channel::<()>();
            let occupied = spawn_blocking(move || released.recv().is_ok());
            let store = &fixture.store;
            let mut job =
                Box::pin(store.run_job("test", |transaction| async move { transaction.commit().await }));
            let at_once = poll!(&mut job);
            let turn = store.turns().take(Writer::Batch).now_or_never().expect("nobody has the turn");
            drop(turn.expect("taken"));
            release.send(()).expect("the thread waits");
            assert!(occupied.await.expect("it does not panic"));
            if at_once.is_pending() {
                job.await.expect("committed");
            }
        }
    });
}
