//! One COPY into a table of the staging schema, and what the server says of a value it cannot take.
//!
//! In:    a session; a table and its columns; batches of rows, or a whole stream.
//! Out:   filled tables; a failure that names column and row, and quotes no value.
//! Holds: COPY's own count must equal what was sent.
//! Not here: which tables there are (`etl::staging`).

use crate::error::Failure;
use crate::etl::extracted::What;
use crate::etl::layout::LayoutColumn;
use crate::etl::plan::TablePlan;
use crate::etl::staging::{Places, straight};
use crate::pg::Session;
use crate::pg::copy::{Batch, HEADER, TRAILER};
use crate::table::{TableName, quote_if_needed, quote_list};
use anyhow::Result;
use bytes::Bytes;
use futures_util::SinkExt;
use std::pin::Pin;
use tokio_postgres::CopyInSink;

/// One COPY into a table of the staging schema.
pub struct CopyWriter<'a> {
    session: &'a Session,
    into: Room,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    sent: u64,
}

/// A table of the staging schema, and what its columns are called at the source.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its name.
    pub table: TableName,
    /// Its columns: (name here, name at the source).
    pub columns: Vec<(String, String)>,
}

impl Room {
    /// Where the rows of a plan go, or its keys.
    pub fn of(plan: &TablePlan, what: What, places: &Places) -> Self {
        let staged = |(at, column): (usize, &LayoutColumn)| (format!("c{}", at + 1), column.name.clone());
        let itself = |column: &LayoutColumn| (column.name.clone(), column.name.clone());
        let (table, columns) = match what {
            What::Keys => (&places.keys, plan.layout.key_columns().enumerate().map(staged).collect()),
            What::Rows if straight(plan) => {
                (&places.hidden, plan.layout.columns.iter().map(itself).collect())
            }
            What::Rows => (&places.rows, plan.layout.columns.iter().enumerate().map(staged).collect()),
        };
        Room { table: table.clone(), columns }
    }

    /// Says which column of which row the server could not take, if it could not take a value.
    fn failure(&self, session: &Session, error: tokio_postgres::Error) -> anyhow::Error {
        match error.as_db_error().and_then(|db| self.place(db.where_()?)) {
            Some((column, row)) => {
                let cannot = format!("{CANNOT}: column {}, row {row}", quote_if_needed(&column));
                refused_value(session, error, &cannot)
            }
            None => session.failure(error, CANNOT),
        }
    }

    /// Column and row out of `COPY r1_t0_rows, line 7, column c3`, in any language; in COPY binary
    /// that context holds no value.
    ///
    /// Source: `CopyFromErrorCallback` of majors 13 to 18.
    fn place(&self, context: &str) -> Option<(String, u64)> {
        let line = context.lines().find_map(|line| line.split_once(&format!("{}, ", self.table.name)))?.1;
        let (row, column) = line.split_once(", ")?;
        let row = row.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()?;
        let column = column.split_once(' ')?.1;
        let (_, name) = self.columns.iter().find(|(here, _)| here == column)?;
        Some((name.clone(), row))
    }
}

/// A value that the server could not take: some types' input functions blame syntax, or themselves,
/// with the value in the message.
pub fn refused_value(session: &Session, error: tokio_postgres::Error, cannot: &str) -> anyhow::Error {
    match error.code().map(|code| code.code()) {
        Some(code @ ("42601" | "XX000")) => Failure::data(format!("{cannot}: SQLSTATE {code}")).into(),
        Some(code @ "22021") => Failure::data(format!("{cannot}: SQLSTATE {code}: bytes that are no UTF-8"))
            .hint("Mend them at the source, or say what its bytes are with `encoding:` in the pipeline.")
            .into(),
        _ => session.failure(error, cannot),
    }
}

impl<'a> CopyWriter<'a> {
    /// Begins to copy rows `into` a table, in the order of its columns.
    ///
    /// # Errors
    /// As [`crate::pg::public::failure`].
    pub async fn begin(session: &'a Session, into: Room) -> Result<Self> {
        let mut writer = Self::stream(session, into, 0).await?;
        writer.pass(Bytes::from_static(HEADER)).await?;
        Ok(writer)
    }

    /// Begins to copy a whole stream of `rows` rows, header and trailer included.
    ///
    /// # Errors
    /// As [`crate::pg::public::failure`].
    pub async fn stream(session: &'a Session, into: Room, rows: u64) -> Result<Self> {
        let names: Vec<&str> = into.columns.iter().map(|(here, _)| here.as_str()).collect();
        // A table may have no column at all, and COPY no empty list.
        let list = if names.is_empty() { String::new() } else { format!(" ({})", quote_list(&names)) };
        let sql = format!("COPY {}{list} FROM STDIN (FORMAT binary)", into.table.sql());
        let sink = session.client.copy_in(&sql).await.map_err(|error| session.failure(error, CANNOT))?;
        Ok(CopyWriter { session, into, sink: Box::pin(sink), sent: rows })
    }

    /// Sends a batch.
    ///
    /// # Errors
    /// As [`crate::pg::public::failure`]: 65 for a value that the warehouse cannot hold.
    pub async fn write(&mut self, batch: Batch) -> Result<()> {
        self.sent += batch.rows;
        self.pass(Bytes::from(batch.data)).await
    }

    /// Sends a piece of the stream as it is.
    ///
    /// # Errors
    /// As [`CopyWriter::write`].
    pub async fn pass(&mut self, bytes: Bytes) -> Result<()> {
        match self.sink.feed(bytes).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why(error).await),
        }
    }

    /// A sink that the server has closed only says so; finishing it brings the server's reason.
    async fn why(&mut self, error: tokio_postgres::Error) -> anyhow::Error {
        match self.sink.as_mut().finish().await {
            Err(reason) if reason.as_db_error().is_some() => self.into.failure(self.session, reason),
            _ => self.into.failure(self.session, error),
        }
    }

    /// Sends the trailer and ends the COPY; returns how many rows the server has taken.
    ///
    /// # Errors
    /// As [`CopyWriter::end`].
    pub async fn finish(mut self) -> Result<u64> {
        self.pass(Bytes::from_static(&TRAILER)).await?;
        self.end().await
    }

    /// Ends the COPY after a stream that had its trailer.
    ///
    /// # Errors
    /// As [`crate::pg::public::failure`]; 1 if the server counts otherwise than we do.
    pub async fn end(mut self) -> Result<u64> {
        let taken =
            self.sink.as_mut().finish().await.map_err(|error| self.into.failure(self.session, error))?;
        if taken != self.sent {
            return Err(anyhow::anyhow!("{} rows were sent to the warehouse, it counts {taken}", self.sent));
        }
        Ok(taken)
    }
}

const CANNOT: &str = "cannot copy rows into the warehouse";
