//! Of which failures people have been told.
//!
//! In:    a subject, such as `backup hr`; what is told of, such as a run's id.
//! Out:   whether it is news.
//! Holds: two processes that ask at once get one yes.

use crate::pg::public;
use anyhow::Result;
use jiff::Timestamp;
use tokio_postgres::Client;

fn failed(error: tokio_postgres::Error) -> anyhow::Error {
    public::failure(error, "cannot keep in schema sankofa who was told of what")
}

/// Whether it is news that `told_of` of `subject` failed; from now on it is none.
///
/// # Errors
/// As [`public::failure`].
pub async fn open(client: &Client, subject: &str, told_of: &str) -> Result<bool> {
    let sql = "INSERT INTO sankofa.notice AS n (subject, told_of) VALUES ($1, $2)
        ON CONFLICT (subject) DO UPDATE SET told_of = excluded.told_of WHERE n.told_of <> excluded.told_of";
    Ok(client.execute(sql, &[&subject, &told_of]).await.map_err(failed)? > 0)
}

/// Since when `subject` was told to have failed; from now on it is well.
///
/// # Errors
/// As [`public::failure`].
pub async fn close(client: &Client, subject: &str) -> Result<Option<Timestamp>> {
    let sql = "DELETE FROM sankofa.notice WHERE subject = $1 RETURNING since";
    let row = client.query_opt(sql, &[&subject]).await.map_err(failed)?;
    Ok(row.map(|row| row.get(0)))
}
