//! How long a restore will take, before it begins.
//!
//! In:    what drills and restores measured; the sizes of the backup.
//! Out:   milliseconds per phase, and what they were taken from.
//! Holds: pure.

use serde::{Deserialize, Serialize};

/// What one restore took, milliseconds per phase, and how much it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// Bytes of the archive.
    pub plain_bytes: u64,
    /// Waiting for the store.
    pub fetch_ms: u64,
    /// Decrypting, unpacking, hashing, spooling.
    pub decrypt_ms: u64,
    /// `pg_restore`.
    pub restore_ms: u64,
    /// Comparing every row with the proof.
    pub prove_ms: u64,
}

impl Measured {
    /// All phases together.
    pub fn total_ms(&self) -> u64 {
        self.fetch_ms + self.decrypt_ms + self.restore_ms + self.prove_ms
    }
}

/// How long it will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Phase by phase.
    pub phases: Measured,
    /// How many measured restores it rests on; 0: on assumptions.
    pub measured: usize,
}

/// Rates that are assumed before anything was measured, bytes per second: a link of 200 Mbit/s, two
/// cores, a disk that writes indexes at 30 MB/s. Cautious on purpose.
const ASSUMED: Rates = Rates { fetch: 25e6, decrypt: 150e6, restore: 30e6, prove: 80e6 };

/// So many of the newest measurements count.
const NEWEST: usize = 5;

struct Rates {
    fetch: f64,
    decrypt: f64,
    restore: f64,
    prove: f64,
}

/// Predicts a restore of `stored` bytes that are `plain` bytes; `history` is newest first. The median
/// rate of each phase counts.
pub fn predict(history: &[Measured], stored: u64, plain: u64) -> Prediction {
    let newest = &history[..history.len().min(NEWEST)];
    let ms = |bytes: u64, phase: fn(&Measured) -> (u64, u64), assumed: f64| {
        let mut rates: Vec<f64> =
            newest.iter().map(phase).filter(|(moved, _)| *moved > 0).map(rate).collect();
        rates.sort_by(f64::total_cmp);
        let rate = rates.get(rates.len() / 2).copied().unwrap_or(assumed);
        (bytes as f64 / rate * 1000.0) as u64
    };
    let phases = Measured {
        stored_bytes: stored,
        plain_bytes: plain,
        fetch_ms: ms(stored, |one| (one.stored_bytes, one.fetch_ms), ASSUMED.fetch),
        decrypt_ms: ms(plain, |one| (one.plain_bytes, one.decrypt_ms), ASSUMED.decrypt),
        restore_ms: ms(plain, |one| (one.plain_bytes, one.restore_ms), ASSUMED.restore),
        prove_ms: ms(plain, |one| (one.plain_bytes, one.prove_ms), ASSUMED.prove),
    };
    Prediction { phases, measured: newest.len() }
}

/// Bytes per second.
fn rate((bytes, ms): (u64, u64)) -> f64 {
    bytes as f64 * 1000.0 / ms.max(1) as f64
}

/// Whether `ms` is past 70 % of `limit_ms`: the moment to say so.
pub fn is_close(ms: u64, limit_ms: u64) -> bool {
    ms as f64 >= 0.7 * limit_ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(restore_ms: u64) -> Measured {
        Measured {
            stored_bytes: 100,
            plain_bytes: 1000,
            fetch_ms: 10,
            decrypt_ms: 20,
            restore_ms,
            prove_ms: 30,
        }
    }

    #[test]
    fn a_database_twice_as_large_takes_twice_as_long_by_the_median_of_the_newest() {
        let history = [40, 50, 60, 45, 55, 100_000].map(measured);
        let prediction = predict(&history, 200, 2000);
        assert_eq!(prediction.measured, 5);
        let phases = prediction.phases;
        assert_eq!(
            (phases.fetch_ms, phases.decrypt_ms, phases.restore_ms, phases.prove_ms),
            (20, 40, 100, 60)
        );
        assert_eq!(phases.total_ms(), 220);
    }

    #[test]
    fn without_a_measurement_it_rests_on_assumptions_and_says_so() {
        let prediction = predict(&[], 25_000_000, 150_000_000);
        assert_eq!(
            (prediction.measured, prediction.phases.fetch_ms, prediction.phases.decrypt_ms),
            (0, 1000, 1000)
        );
        assert_eq!(predict(&[], 0, 0).phases.total_ms(), 0);
    }

    #[test]
    fn seventy_percent_of_the_limit_is_close() {
        assert!(!is_close(69, 100) && is_close(70, 100));
    }
}
