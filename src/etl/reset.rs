//! `state reset`: puts one table back to a known point, under the pipeline's lock.
//!
//! In:    the pipeline's settings, a table of it, a point or none.
//! Out:   what was before and what is now, in words.
//! Holds: whatever was extracted before the reset is superseded; rows in the warehouse stay.
//! Not here: what the next run makes of it (`etl::window`).

use crate::config::model::{Pipeline, Project, TableSpec};
use crate::error::Failure;
use crate::etl::predicate;
use crate::etl::target::{self, Opening};
use crate::etl::window::{KeyKind, Watermark};
use crate::ledger::{self, state};
use crate::secret::Resolver;
use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_postgres::Client;

/// A known point on the axis of a replication key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// For times and dates.
    Time(Timestamp),
    /// For integers and `xmin`.
    Number(i64),
}

/// What is asked for.
pub struct Reset<'a> {
    /// The operator's half.
    pub project: &'a Project,
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The table.
    pub table: &'a TableSpec,
    /// Where to put it; `None`: the next run reads everything.
    pub to: Option<Point>,
    /// Only tell.
    pub dry_run: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The watermark before, as a person reads it.
    pub before: Option<String>,
    /// The watermark now.
    pub after: Option<String>,
    /// The id under which the ledger has it; `None`: nothing to reset, or only asked.
    pub id: Option<String>,
    /// The ledger knows the table.
    pub known: bool,
}

impl Reset<'_> {
    /// Does it.
    ///
    /// # Errors
    /// 2 for a point of the wrong kind; 65 for a table without a watermark; 75 while a run holds the
    /// lock; as [`target::open`].
    pub async fn run(&self, resolver: &Resolver) -> Result<Done> {
        let connection = resolver.connection(&self.project.warehouse()?.connection).await?;
        let name = format!("sankofa/{} state reset {}", env!("CARGO_PKG_VERSION"), self.pipeline.name);
        let looking = target::look(&connection, self.project.warehouse()?, &name).await?;
        let found = ledger::look(&looking.client).await?;
        if found.version == 0 {
            return self.unknown();
        }
        ledger::refuse(&found, &self.project.environment)?;
        if self.dry_run {
            return self.put(&looking.client).await;
        }
        drop(looking);
        let opening = Opening {
            warehouse: self.project.warehouse()?,
            environment: &self.project.environment,
            pipeline: &self.pipeline.name,
            application_name: &name,
            take_over: false,
        };
        let target = target::open(&connection, &opening).await?;
        self.put(&target.publisher.client).await
    }

    /// A table that was never loaded starts from the beginning anyway.
    fn unknown(&self) -> Result<Done> {
        match self.to {
            None => Ok(Done { before: None, after: None, id: None, known: false }),
            Some(_) => Err(self.no_watermark("it has never been loaded").into()),
        }
    }

    async fn put(&self, client: &Client) -> Result<Done> {
        let name = &self.table.name;
        let states = state::read(client, &self.pipeline.name).await?;
        let Some(state) = states.get(&name.to_string()) else { return self.unknown() };
        let last: Option<Watermark> =
            state.watermark.as_ref().map(|value| state::parse(value, "watermark")).transpose()?;
        let value = match (self.to, &last) {
            (None, _) => None,
            (Some(_), None) => return Err(self.no_watermark("it is read whole each time").into()),
            (Some(point), Some(last)) => Some(place(point, &last.kind).map_err(|why| {
                Failure::usage(format!(
                    "cannot reset {name} to that point: its replication key {} {why}",
                    last.key
                ))
            })?),
        };
        let next = last.map(|last| last.put_to(value));
        let after = next.as_ref().and_then(predicate::watermark);
        let json = next.as_ref().map(serde_json::to_value).transpose()?;
        let id = match self.dry_run {
            true => None,
            false => state::reset(client, &self.pipeline.name, name, &(json, after.clone())).await?,
        };
        Ok(Done { before: state.watermark_text.clone(), after, id, known: true })
    }

    fn no_watermark(&self, why: &str) -> Failure {
        Failure::data(format!("cannot reset {} to a point: {why}", self.table.name))
            .hint("Leave --to out, or run the pipeline first.")
    }
}

/// A point in the unit of a key: a time goes to times and dates, an integer to the others. A key
/// without a zone takes the point as it is written.
///
/// # Errors
/// A verb and what the key is, for a point of the other kind.
pub fn place(point: Point, kind: &KeyKind) -> Result<i64, &'static str> {
    let epoch = Timestamp::from_second(946_684_800).unwrap_or_default(); // 2000-01-01 in UTC
    match (point, kind) {
        (Point::Number(number), KeyKind::Integer | KeyKind::Xmin) => Ok(number),
        (Point::Number(_), _) => Err("is a time"),
        (Point::Time(_), KeyKind::Integer | KeyKind::Xmin) => Err("is an integer"),
        (Point::Time(time), KeyKind::Date { .. }) => {
            let day = time.to_zoned(TimeZone::UTC).date();
            let days = day.since(jiff::civil::date(2000, 1, 1)).map(|span| i64::from(span.get_days()));
            days.map_err(|_| "does not reach so far")
        }
        (Point::Time(time), _) => Ok(time.as_microsecond() - epoch.as_microsecond()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_placed_in_the_unit_of_its_key_and_of_its_kind_only() {
        let time = Point::Time("2000-01-02T00:00:01Z".parse().unwrap());
        let zone = || "Africa/Accra".to_owned();
        assert_eq!(place(time, &KeyKind::Timestamptz), Ok(86_401_000_000));
        assert_eq!(place(time, &KeyKind::Timestamp { zone: zone() }), Ok(86_401_000_000));
        assert_eq!(place(time, &KeyKind::Date { zone: zone() }), Ok(1));
        let old = Point::Time("1999-12-31T00:00:00Z".parse().unwrap());
        assert_eq!(place(old, &KeyKind::Date { zone: zone() }), Ok(-1));
        assert_eq!(place(Point::Number(7), &KeyKind::Integer), Ok(7));
        assert!(place(Point::Number(7), &KeyKind::Timestamptz).is_err());
        assert!(place(time, &KeyKind::Xmin).is_err());
    }
}
