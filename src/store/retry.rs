//! What to do when a store does not answer as wished: give up, wait, take another upload URL, log in anew.
//!
//! In:    what kind of call it was, the fault, how often it was tried.
//! Out:   the next step, with its wait.
//! Holds: pure; what cannot get better is never tried twice; nothing is tried for ever.
//! Not here: the waiting, the calls (`b2::api`, `s3`).
//!
//! Sources: Backblaze, "Native API Error Handling and Status Codes" and "Integration Checklist"; the
//! threads rclone/rclone #3465 and #1964 (a 503 on an upload wants a new URL, not a longer wait).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A call with respect to what may be done about its failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Logging in: a refusal is final.
    Authorize,
    /// Any call with the account's token; a download too.
    Account,
    /// Bytes on their way to an upload URL that has a token of its own.
    Upload,
}

/// What came instead of a success.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// HTTP status; `None` when no answer came: no connection, reset, too slow.
    pub status: Option<u16>,
    /// The store's own word for it; may be empty, as from a proxy.
    pub code: &'a str,
    /// What `Retry-After` asks for.
    pub retry_after: Option<Duration>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it will not get better, or has been tried often enough.
    Final,
    /// The same bytes to a new upload URL, after this long.
    NewUrl(Duration),
    /// The same call, after this long.
    BackOff(Duration),
    /// Log in anew, after this long, then the same call.
    Reauthorize(Duration),
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The first wait; each later one is twice as long.
    pub first: Duration,
    /// The longest wait, `Retry-After` included.
    pub longest: Duration,
    /// How often a call is tried in all.
    pub tries: u32,
}

impl Default for Pace {
    /// About six minutes in all, so that a store's short absence in the night costs no backup.
    fn default() -> Self {
        Pace { first: Duration::from_secs(1), longest: Duration::from_secs(64), tries: 12 }
    }
}

// Backblaze advises to try five upload URLs before giving up; as many are asked for without a wait.
const URLS_AT_ONCE: u32 = 5;

/// Refusals under a 401 that a new token does not cure.
const NOT_THE_TOKEN: [&str; 3] = ["unauthorized", "email_not_verified", "no_payment_history"];

/// The next step after `attempt` (from 1) of `call` ended with `refusal`.
///
/// `jitter` in `0.0..1.0` shortens a wait by up to a half, so that many clients do not come back at once.
pub fn decide(call: Call, refusal: &Refusal, attempt: u32, pace: &Pace, jitter: f64) -> Next {
    if attempt >= pace.tries {
        return Next::Final;
    }
    let wait =
        refusal.retry_after.map_or_else(|| back_off(attempt, pace, jitter), |asked| asked.min(pace.longest));
    let again = |wait| if call == Call::Upload { Next::NewUrl(wait) } else { Next::BackOff(wait) };
    match refusal.status {
        Some(400) if refusal.code == "auth_token_limit" && call == Call::Upload => {
            Next::NewUrl(Duration::ZERO)
        }
        Some(401) => unauthorized(call, refusal.code, attempt, back_off(attempt, pace, jitter)),
        Some(408 | 429) => again(wait),
        Some(501) => Next::Final, // it cannot, today as tomorrow
        None | Some(500..=599) if call == Call::Upload && attempt < URLS_AT_ONCE => {
            Next::NewUrl(Duration::ZERO)
        }
        None | Some(500..=599) => again(wait),
        Some(_) => Next::Final,
    }
}

fn unauthorized(call: Call, code: &str, attempt: u32, wait: Duration) -> Next {
    // The first new token is asked for at once: tokens end after a day, in the middle of anything.
    let wait = if attempt == 1 { Duration::ZERO } else { wait };
    match call {
        Call::Authorize => Next::Final,
        _ if NOT_THE_TOKEN.contains(&code) => Next::Final,
        Call::Upload => Next::NewUrl(wait),
        Call::Account => Next::Reauthorize(wait),
    }
}

fn back_off(attempt: u32, pace: &Pace, jitter: f64) -> Duration {
    let doubled = pace.first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    doubled.min(pace.longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// A number in `0.0..1.0` that differs from call to call and from process to process.
pub fn jitter() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace { first: Duration::from_secs(1), longest: Duration::from_secs(64), tries: 12 };

    fn after(call: Call, status: impl Into<Option<u16>>, code: &str, attempt: u32) -> Next {
        decide(call, &Refusal { status: status.into(), code, retry_after: None }, attempt, &PACE, 0.0)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_request_that_is_wrong_or_forbidden_is_never_sent_twice() {
        let table: [(u16, &[&str]); 6] = [
            (
                400,
                &[
                    "bad_request",
                    "bad_json",
                    "bad_bucket_id",
                    "invalid_file_name",
                    "no_such_file",
                    "already_hidden",
                ],
            ),
            (403, &["cap_exceeded", "storage_cap_exceeded", "transaction_cap_exceeded", "access_denied"]),
            (404, &["not_found", "file_not_present"]),
            (409, &["conflict"]),
            (416, &["range_not_satisfiable"]),
            (501, &["NotImplemented"]),
        ];
        for (status, codes) in table {
            for (code, call) in codes.iter().flat_map(|code| [(code, Call::Account), (code, Call::Upload)]) {
                assert_eq!(after(call, status, code, 1), Next::Final, "{call:?} {status} {code}");
            }
        }
    }

    #[test]
    fn a_dead_token_is_renewed_by_a_call_replaced_by_an_upload_and_final_at_the_login() {
        for code in ["bad_auth_token", "expired_auth_token", ""] {
            assert_eq!(after(Call::Account, 401, code, 1), Next::Reauthorize(Duration::ZERO), "{code}");
            assert_eq!(after(Call::Account, 401, code, 3), Next::Reauthorize(seconds(4)), "{code}");
            assert_eq!(after(Call::Upload, 401, code, 1), Next::NewUrl(Duration::ZERO), "{code}");
            assert_eq!(after(Call::Authorize, 401, code, 1), Next::Final, "{code}");
        }
    }

    #[test]
    fn a_right_that_the_key_lacks_does_not_come_with_a_new_token() {
        for (code, call) in
            NOT_THE_TOKEN.iter().flat_map(|code| [(code, Call::Account), (code, Call::Upload)])
        {
            assert_eq!(after(call, 401, code, 1), Next::Final, "{call:?} {code}");
        }
    }

    #[test]
    fn an_upload_that_breaks_takes_five_urls_at_once_and_waits_from_then_on() {
        for status in [None, Some(500), Some(503)] {
            let steps: Vec<_> = (1..=6).map(|attempt| after(Call::Upload, status, "", attempt)).collect();
            assert_eq!(steps[..4], [Next::NewUrl(Duration::ZERO); 4], "{status:?}");
            assert_eq!(steps[4..], [Next::NewUrl(seconds(16)), Next::NewUrl(seconds(32))], "{status:?}");
        }
        assert_eq!(after(Call::Upload, 400, "auth_token_limit", 1), Next::NewUrl(Duration::ZERO));
        assert_eq!(after(Call::Account, 400, "auth_token_limit", 1), Next::Final);
    }

    #[test]
    fn a_busy_store_is_asked_again_after_waits_that_double_up_to_a_minute() {
        for status in [None, Some(408), Some(429), Some(500), Some(502), Some(503)] {
            let waits: Vec<_> = (1..=8).map(|attempt| after(Call::Account, status, "", attempt)).collect();
            let expected = [1, 2, 4, 8, 16, 32, 64, 64].map(|count| Next::BackOff(seconds(count)));
            assert_eq!(waits, expected, "{status:?}");
        }
        assert_eq!(after(Call::Upload, 408, "request_timeout", 1), Next::NewUrl(seconds(1)));
    }

    #[test]
    fn retry_after_is_obeyed_but_never_longer_than_the_longest_wait() {
        let asked = |count| Refusal {
            status: Some(429),
            code: "too_many_requests",
            retry_after: Some(seconds(count)),
        };
        assert_eq!(decide(Call::Account, &asked(3), 1, &PACE, 0.9), Next::BackOff(seconds(3)));
        assert_eq!(decide(Call::Account, &asked(3600), 1, &PACE, 0.0), Next::BackOff(seconds(64)));
        assert_eq!(decide(Call::Upload, &asked(3), 1, &PACE, 0.0), Next::NewUrl(seconds(3)));
    }

    proptest! {
        #[test]
        fn nothing_is_tried_more_often_than_the_pace_says_nor_waited_for_longer(
            status in prop::option::of(100_u16..600), attempt in 1_u32..1000, jitter in 0.0..1.0_f64,
            call in prop::sample::select(vec![Call::Authorize, Call::Account, Call::Upload]),
            asked in prop::option::of(0_u64..1_000_000),
        ) {
            let refusal = Refusal { status, code: "", retry_after: asked.map(seconds) };
            match decide(call, &refusal, attempt, &PACE, jitter) {
                Next::Final => {}
                Next::NewUrl(wait) | Next::BackOff(wait) | Next::Reauthorize(wait) => {
                    prop_assert!(wait <= PACE.longest && attempt < PACE.tries);
                }
            }
        }
    }

    #[test]
    fn jitter_is_a_share_and_differs() {
        let all: Vec<f64> = (0..20).map(|_| jitter()).collect();
        assert!(all.iter().all(|one| (0.0..1.0).contains(one)) && all.iter().any(|one| *one != all[0]));
    }
}
