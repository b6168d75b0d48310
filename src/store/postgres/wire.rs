//! The lanes' connections to PostgreSQL, on which batches run.
//!
//! sqlx waits for the answer to each statement before it sends the next statement. On busy cores each answer costs two
//! waits for a core, which take longer than the statements of a batch. So batches use a driver that pipelines: BEGIN,
//! the lock and the reads after it are sent at once, and so are the writes and COMMIT. PostgreSQL runs them one after
//! the other, and skips the rest after a statement has failed. Probes and searches for locked rows use these
//! connections, too. Everything else goes through the pools.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use foldhash::HashMap;
use futures::future::{join_all, maybe_done};
use sea_orm::{DbErr, Value, sea_query::ArrayType};
use tokio_postgres::{
    Client, Config, Error, Row, Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::tls::PostgresTls;
use crate::store::{
    bulk::{Write, join},
    error::{StoreError, classify_ahead, classify_wire},
};

/// Maximum time to wait for a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of the server, and the idle connections to it.
#[derive(Clone)]
pub(in crate::store) struct Wire {
    config: Config,
    tls: PostgresTls,
    idle: Arc<Mutex<Vec<WireConnection>>>,
}

/// A connection, and the statements that were prepared on it, by their texts. There are few texts: those of writes
/// vary only with the tables that a batch writes.
struct WireConnection {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
}

/// A transaction, begun with its first statement. If it is dropped, its connection is closed, which rolls it back.
pub(in crate::store) struct WireTransaction {
    wire: Wire,
    connection: WireConnection,
    begun: AtomicBool,
}

/// A statement and its values.
pub(in crate::store) struct Question<'a> {
    text: &'a str,
    values: Vec<Bound<'a>>,
}

/// A value of SeaORM, or an array of them, bound without a copy.
enum Bound<'a> {
    One(&'a Value),
    Array(&'a ArrayType, Vec<Cell<'a>>),
}

/// A value within an array.
#[derive(Debug)]
struct Cell<'a>(&'a Value);

impl Wire {
    /// Makes the access to the server of a URL, with settings for each connection. Does not contact the server yet.
    pub(in crate::store) fn new<'a>(
        mut config: Config,
        tls: PostgresTls,
        settings: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let escaped = settings.map(|(name, value)| format!("-c {name}={}", value.replace(' ', "\\ ")));
        let given = config.get_options().map(ToOwned::to_owned);
        let options: Vec<String> = given.into_iter().chain(escaped).collect();
        config.options(options.join(" ")).application_name("tope").connect_timeout(CONNECT_TIMEOUT);
        Self { config, tls, idle: Arc::default() }
    }

    /// Begins a transaction on a connection of its own. READ COMMITTED is the default of these connections.
    pub(in crate::store) async fn begin(&self) -> Result<WireTransaction, StoreError> {
        let connection = self.take_or_connect().await?;
        Ok(WireTransaction { wire: self.clone(), connection, begun: AtomicBool::new(false) })
    }

    /// Runs one statement in a transaction of its own, commits the transaction, and returns the rows that the statement
    /// finds. So the caller waits for one answer, instead of three answers to BEGIN, the statement and COMMIT.
    pub(in crate::store) async fn run(&self, question: &Question<'_>) -> Result<Vec<Row>, StoreError> {
        self.run_as(question, classify_wire).await
    }

    /// Runs one statement that writes a batch that was decided ahead, as [`Self::run`] does. Fails with
    /// [`StoreError::Outdated`] if the statement does not find each of its rows, because another session has changed
    /// them.
    pub(in crate::store) async fn run_ahead(&self, question: &Question<'_>) -> Result<Vec<Row>, StoreError> {
        self.run_as(question, classify_ahead).await
    }

    async fn run_as(
        &self,
        question: &Question<'_>,
        classify: fn(Error) -> StoreError,
    ) -> Result<Vec<Row>, StoreError> {
        let connection = self.take_or_connect().await?;
        let found = connection.run(question).await.map_err(classify);
        self.give_back(connection);
        found
    }

    /// Tries statements, each in a transaction of its own that is rolled back, and returns the result of each
    /// statement. All statements are sent at once, in their order.
    pub(in crate::store) async fn try_out(
        &self,
        texts: impl Iterator<Item = String>,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let connection = self.take_or_connect().await?;
        let client = &connection.client;
        let mut answers = Vec::new();
        for text in texts {
            for text in [format!("BEGIN; {text}"), "ROLLBACK".to_owned()] {
                let mut answer = Box::pin(maybe_done(async move { client.batch_execute(&text).await }));
                // The future sends when it is polled for the first time.
                let _ = futures::poll!(answer.as_mut());
                answers.push(answer);
            }
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for mut answer in answers {
            answer.as_mut().await;
            outcomes.extend(answer.as_mut().take_output());
        }
        let mut tried = Vec::with_capacity(outcomes.len() / 2);
        let mut outcomes = outcomes.into_iter();
        while let (Some(outcome), Some(undone)) = (outcomes.next(), outcomes.next()) {
            undone.map_err(classify_wire)?;
            tried.push(outcome.map_err(classify_wire));
        }
        self.give_back(connection);
        Ok(tried)
    }

    /// Closes all idle connections.
    pub(in crate::store) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn take_or_connect(&self) -> Result<WireConnection, StoreError> {
        match self.take() {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        }
    }

    fn take(&self) -> Option<WireConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.client.is_closed());
        idle.pop()
    }

    fn give_back(&self, connection: WireConnection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    async fn connect(&self) -> Result<WireConnection, StoreError> {
        let tls = self.tls.clone();
        let tls = tokio::task::spawn_blocking(move || tls.load()).await;
        // At the start the files were right. They may be in the middle of a renewal now.
        let no_files = |text: String| StoreError::Unavailable(DbErr::Custom(text));
        let tls =
            tls.map_err(|error| no_files(error.to_string()))?.map_err(|error| no_files(error.to_string()))?;
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, self.config.connect(tls)).await;
        let (client, connection) = match connect {
            Ok(connected) => connected.map_err(|error| unconnected(&error))?,
            Err(_) => {
                let text =
                    format!("no connection to PostgreSQL within {} seconds", CONNECT_TIMEOUT.as_secs());
                return Err(StoreError::Unavailable(DbErr::Custom(text)));
            }
        };
        // The task ends when the client is dropped, or when the server closes the connection, which the client then
        // reports.
        tokio::spawn(connection);
        Ok(WireConnection { client, statements: Mutex::default() })
    }
}

/// Makes the error of a connection that could not be made. No statement has run, so no statement is the cause.
fn unconnected(error: &Error) -> StoreError {
    let reason = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    StoreError::Unavailable(DbErr::Custom(reason))
}

impl WireConnection {
    async fn prepare(&self, question: &Question<'_>) -> Result<Statement, Error> {
        let known = {
            let statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
            statements.get(question.text).cloned()
        };
        if let Some(statement) = known {
            return Ok(statement);
        }
        let types: Vec<Type> = question.values.iter().map(Bound::kind).collect();
        let statement = self.client.prepare_typed(question.text, &types).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.insert(question.text.to_owned(), statement.clone());
        Ok(statement)
    }

    async fn run(&self, question: &Question<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepare(question).await?;
        self.ask(question, &statement).await
    }

    /// Makes a future that sends the statement when it is polled for the first time.
    async fn ask(&self, question: &Question<'_>, statement: &Statement) -> Result<Vec<Row>, Error> {
        let values: Vec<&(dyn ToSql + Sync)> =
            question.values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        self.client.query(statement, &values).await
    }
}

impl WireTransaction {
    /// Sends statements at once, which run one after the other, and returns the rows that each of them finds.
    pub(in crate::store) async fn ask(
        &self,
        questions: &[Question<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.send(questions, false).await
    }

    /// Runs statements, as [`WireTransaction::ask`] does, and commits. If a statement fails, rolls the transaction
    /// back, and keeps the connection if it still works.
    pub(in crate::store) async fn commit(
        self,
        questions: &[Question<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        match self.send(questions, true).await {
            Ok(answers) => {
                self.wire.give_back(self.connection);
                Ok(answers)
            }
            Err(error) => {
                // If COMMIT was not sent, the transaction must be rolled back here. If COMMIT was sent, it has rolled
                // back already, and this call does nothing.
                let _ = self.rollback().await;
                Err(error)
            }
        }
    }

    /// Writes rows in one statement. Fails unless each row is affected.
    pub(in crate::store) async fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        let text = join(writes);
        self.send(&[Question::of_writes(&text, writes)], false).await?;
        Ok(())
    }

    /// Rolls back, and keeps the connection for other transactions.
    pub(in crate::store) async fn rollback(self) -> Result<(), StoreError> {
        if self.begun.load(Ordering::Relaxed) {
            self.connection.client.batch_execute("ROLLBACK").await.map_err(classify_wire)?;
        }
        self.wire.give_back(self.connection);
        Ok(())
    }

    async fn send(&self, questions: &[Question<'_>], commit: bool) -> Result<Vec<Vec<Row>>, StoreError> {
        let mut statements = Vec::with_capacity(questions.len());
        for question in questions {
            statements.push(self.connection.prepare(question).await.map_err(classify_wire)?);
        }
        let client = &self.connection.client;
        let begin = !self.begun.swap(true, Ordering::Relaxed);
        // A future sends when it is polled for the first time, and a join polls in order.
        let begun = async { if begin { client.batch_execute("BEGIN").await } else { Ok(()) } };
        let asked = questions.iter().zip(&statements);
        let asked = join_all(asked.map(|(question, statement)| self.connection.ask(question, statement)));
        let committed = async { if commit { client.batch_execute("COMMIT").await } else { Ok(()) } };
        let (begun, answers, committed) = futures::join!(begun, asked, committed);
        // The first failure is the cause: after it, COMMIT rolls back.
        begun.map_err(classify_wire)?;
        let answers = answers.into_iter().collect::<Result<_, _>>().map_err(classify_wire)?;
        committed.map_err(classify_wire)?;
        Ok(answers)
    }
}

impl<'a> Question<'a> {
    /// Makes a statement with single values.
    pub(in crate::store) fn of_values(text: &'a str, values: &'a [Value]) -> Self {
        Self { text, values: values.iter().map(Bound::One).collect() }
    }

    /// Makes a statement with an array for each column.
    pub(in crate::store) fn of_columns(
        text: &'a str,
        kinds: &'a [ArrayType],
        columns: &'a [Vec<Value>],
    ) -> Self {
        Self { text, values: arrays(kinds, columns).collect() }
    }

    /// Makes a question from the statement that [`join`] builds for these writes.
    pub(in crate::store) fn of_writes(text: &'a str, writes: &'a [Write]) -> Self {
        let columns = writes.iter().flat_map(|(bulk, columns)| arrays(bulk.columns, columns));
        Self { text, values: columns.collect() }
    }

    /// Adds one more value at the end.
    pub(in crate::store) fn and(mut self, value: &'a Value) -> Self {
        self.values.push(Bound::One(value));
        self
    }
}

fn arrays<'a>(kinds: &'a [ArrayType], columns: &'a [Vec<Value>]) -> impl Iterator<Item = Bound<'a>> {
    kinds.iter().zip(columns).map(|(kind, values)| Bound::Array(kind, values.iter().map(Cell).collect()))
}

impl Bound<'_> {
    fn kind(&self) -> Type {
        match self {
            Bound::One(Value::Bool(_)) => Type::BOOL,
            Bound::One(Value::SmallInt(_)) => Type::INT2,
            Bound::One(Value::Int(_)) => Type::INT4,
            Bound::One(Value::BigInt(_)) => Type::INT8,
            Bound::One(Value::Bytes(_)) => Type::BYTEA,
            Bound::One(Value::Uuid(_)) => Type::UUID,
            Bound::Array(ArrayType::SmallInt, _) => Type::INT2_ARRAY,
            Bound::Array(ArrayType::Int, _) => Type::INT4_ARRAY,
            Bound::Array(ArrayType::BigInt, _) => Type::INT8_ARRAY,
            Bound::Array(ArrayType::Bytes, _) => Type::BYTEA_ARRAY,
            Bound::Array(ArrayType::Uuid, _) => Type::UUID_ARRAY,
            Bound::Array(..) => Type::TEXT_ARRAY,
            Bound::One(_) => Type::TEXT,
        }
    }
}

/// The result of encoding a value.
type Encoded = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl ToSql for Bound<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Encoded {
        match self {
            Bound::One(value) => Cell(value).to_sql(kind, out),
            Bound::Array(_, cells) => cells.as_slice().to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for Cell<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Encoded {
        match self.0 {
            Value::Bool(value) => value.to_sql(kind, out),
            Value::SmallInt(value) => value.to_sql(kind, out),
            Value::Int(value) => value.to_sql(kind, out),
            Value::BigInt(value) => value.to_sql(kind, out),
            Value::String(value) => value.to_sql(kind, out),
            Value::Bytes(value) => value.to_sql(kind, out),
            Value::Uuid(value) => value.to_sql(kind, out),
            other => Err(format!("cannot bind a value of this type: {other:?}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl fmt::Debug for Bound<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {}", self.kind())
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password must not be printed.
        formatter.debug_struct("Wire").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WireTransaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WireTransaction").field("begun", &self.begun).finish_non_exhaustive()
    }
}
