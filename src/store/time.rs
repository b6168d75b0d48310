//! Instants in rows: each is a column of whole milliseconds, whichever driver reads or writes it.

use sea_orm::{
    ColIdx, QueryResult, TryGetError, TryGetable, Value,
    sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr},
};
use tokio_postgres::types::{FromSql, Type};

use crate::domain::time::Time;

impl From<Time> for Value {
    fn from(time: Time) -> Self {
        time.0.into()
    }
}

impl Nullable for Time {
    fn null() -> Value {
        i64::null()
    }
}

impl ValueType for Time {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        <i64 as ValueType>::try_from(value).map(Time)
    }

    fn type_name() -> String {
        <i64 as ValueType>::type_name()
    }

    fn array_type() -> ArrayType {
        i64::array_type()
    }

    fn column_type() -> ColumnType {
        i64::column_type()
    }
}

impl TryGetable for Time {
    fn try_get_by<I: ColIdx>(row: &QueryResult, place: I) -> Result<Self, TryGetError> {
        i64::try_get_by(row, place).map(Time)
    }
}

impl rusqlite::types::FromSql for Time {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        i64::column_result(value).map(Time)
    }
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        i64::from_sql(kind, raw).map(Time)
    }

    fn accepts(kind: &Type) -> bool {
        <i64 as FromSql>::accepts(kind)
    }
}
