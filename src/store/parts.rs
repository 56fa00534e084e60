//! How a file of unknown length is cut.
//!
//! In:    the number of a part.
//! Out:   its length.
//! Holds: 10,000 parts always suffice for 10 TB, the most that B2 stores in a file; none is larger than
//!        B2 takes, nor smaller; up to 85 GB what is in memory does not grow.
//! Not here: sending them (`send`).

/// B2's limits (Backblaze, "Large Files").
pub(crate) const MOST_PARTS: u32 = 10_000;
const LARGEST_PART_BYTES: u64 = 5_000_000_000;

/// Small parts at first, so that a small dump does not wait and a middling one stays small in memory.
const EARLY_PARTS: u32 = 100;
/// So many parts of the usual size: 85 GB.
const USUAL_PARTS: u32 = 5_200;
/// Beyond, parts double every so many: 10 TB is reached with part 9,700, of 5 GB. A file of that size
/// cannot be stored in 10,000 parts without holding parts of a gigabyte, since B2 wants the length and
/// the hash of a part before its first byte.
const PARTS_PER_DOUBLING: u32 = 400;

/// Length of part `number` (from 1) when the first has `first` bytes and B2 takes none below `minimum`.
pub(crate) fn part_bytes(number: u32, first: u64, minimum: u64) -> u64 {
    let usual = first.saturating_mul(2);
    let bytes = match number {
        0..=EARLY_PARTS => first,
        _ if number <= USUAL_PARTS => usual,
        _ => usual.saturating_mul(1 << (number - USUAL_PARTS).div_ceil(PARTS_PER_DOUBLING).min(32)),
    };
    bytes.max(minimum).min(LARGEST_PART_BYTES)
}

/// How many parts may be on their way while the next one is filled: two of the usual size, else one.
pub(crate) fn most_in_flight(number: u32) -> usize {
    if number <= USUAL_PARTS { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn lengths() -> impl Iterator<Item = (u32, u64)> {
        (1..=MOST_PARTS).map(|number| (number, part_bytes(number, 8 * MIB, 5_000_000)))
    }

    #[test]
    fn ten_thousand_parts_hold_ten_terabytes_and_none_is_too_large_or_too_small() {
        assert!(lengths().map(|(_, bytes)| bytes).sum::<u64>() >= 10_000_000_000_000);
        assert!(lengths().all(|(_, bytes)| (5_000_000..=LARGEST_PART_BYTES).contains(&bytes)));
    }

    #[test]
    fn the_first_eighty_gigabytes_never_hold_more_than_48_mib_in_memory() {
        let mut stored = 0;
        for (number, bytes) in lengths() {
            stored += bytes;
            if stored > 80_000_000_000 {
                return;
            }
            let held = bytes * (1 + u64::try_from(most_in_flight(number)).unwrap());
            assert!(held <= 48 * MIB, "part {number}");
        }
    }

    #[test]
    fn a_store_that_wants_larger_parts_gets_them() {
        assert_eq!(part_bytes(1, 8 * MIB, 20_000_000), 20_000_000);
    }
}
