//! How patient a B2 store is.
//!
//! In:    a connection's extras.
//! Out:   times, tries and lengths.
//! Holds: the defaults end every call, and suit a slow link at night.
//! Not here: what is tried again (`store::retry`).

use crate::error::Failure;
use crate::secret::Connection;
use crate::store::retry::Pace;
use anyhow::Result;
use std::time::Duration;

/// How patient a [`B2`](super::B2) is, and in what pieces it sends.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// For a connection to stand.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Bytes a second, below which a transfer is given up.
    pub slowest_bytes_per_s: u64,
    /// How often a call is tried, and after what waits.
    pub pace: Pace,
    /// How long a list may lag behind what was acknowledged.
    pub listed_within: Duration,
    /// Length of the first part of a large file; a file of no more is a small one. Three parts of twice
    /// that length are the most in memory, until 85 GB are stored (`parts`).
    pub part_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            slowest_bytes_per_s: 16 * 1024,
            pace: Pace::default(),
            listed_within: Duration::from_secs(20),
            part_bytes: 8 << 20,
        }
    }
}

impl Tuning {
    /// The default, with what the extras of `connection` say.
    pub(super) fn of(connection: &Connection) -> Result<Tuning> {
        let mut tuning = Tuning::default();
        let number = |name: &str, most: f64| {
            let Some(value) = connection.extra.get(name) else { return Ok(None) };
            let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
            let fits = number.filter(|number| *number > 0.0 && *number <= most);
            let what = format!("cannot use connection {}: `{name}` is no number up to {most}", connection.id);
            fits.map(Some).ok_or_else(|| Failure::config(what))
        };
        if let Some(seconds) = number("idle_timeout", 3600.0)? {
            tuning.idle = Duration::from_secs_f64(seconds);
        }
        if let Some(tries) = number("tries", 100.0)? {
            tuning.pace.tries = (tries as u32).max(1);
        }
        Ok(tuning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_say_how_patient_it_is_and_nothing_that_is_no_number() {
        let tuning = |extra: &str| {
            let text = format!(r#"{{"conn_type": "b2", "extra": {{{extra}}}}}"#);
            Tuning::of(&Connection::parse("offsite", &text).unwrap())
        };
        let own = tuning(r#""idle_timeout": "2.5", "tries": 3"#).unwrap();
        assert_eq!((own.idle, own.pace.tries), (Duration::from_millis(2500), 3));
        for bad in [r#""tries": "many""#, r#""tries": 0"#, r#""idle_timeout": -1"#, r#""idle_timeout": 1e9"#]
        {
            assert!(tuning(bad).is_err(), "{bad}");
        }
    }
}
