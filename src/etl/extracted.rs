//! What was read of a table: the figures that reading hands to stage, checks and report.
//!
//! In:    what each reader has counted. Out: one [`Extracted`] a table.
//! Holds: plain values, kept in a stage's manifest as they are.

use crate::pg::copy::Measures;
use serde::{Deserialize, Serialize};

/// What a piece of reading yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Rows.
    Rows,
    /// The keys of all rows.
    Keys,
}

/// What was read of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extracted {
    /// Rows as they were read.
    pub rows: Measures,
    /// Rows written to stage or staging.
    pub staged: u64,
    /// Keys read.
    pub keys: u64,
    /// Milliseconds, of all readers together.
    pub ms: u64,
}

impl Extracted {
    /// Adds what one reader has seen.
    pub fn add(&mut self, what: What, measures: &Measures, staged: u64, ms: u64) {
        self.ms += ms;
        match what {
            What::Keys => self.keys += measures.rows,
            What::Rows => {
                self.rows.add(measures);
                self.staged += staged;
            }
        }
    }
}
