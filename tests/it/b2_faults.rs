//! Our client of B2 in storms: every refusal of B2's on every call, lost answers, wrong bytes, stalls.
//!
//! In:    the strict stand-in (`support::b2`), a store whose patience is milliseconds.
//! Holds: an operation ends well with the right bytes, or with the kind that a scheduler must see; what
//!        could not be finished is cancelled; nothing is stored that is not whole. With `SANKOFA_SOAK=1`
//!        the storm of everything goes on for 200 seeds instead of 8.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sankofa::error::{Kind, classify};
use sankofa::secret::Connection;
use sankofa::store::b2::{B2 as Client, Tuning};
use sankofa::store::retry::Pace;
use sankofa::store::{Deleted, LockMode, Store, Terms, Version};
use serde_json::json;

use crate::support::b2::*;

const BUCKET: &str = "school-backups";
const PART_BYTES: usize = 1000;
/// Five parts, the last one short.
const LARGE: usize = 4 * PART_BYTES + 321;
const SMALL: usize = 700;

/// Waits are milliseconds here. A machine that is busy is not to be taken for one that stalls, so tests of
/// stalls alone have less patience.
const BRIEF: Tuning = Tuning {
    connect: Duration::from_secs(5),
    idle: Duration::from_secs(10),
    slowest_bytes_per_s: 100_000,
    pace: Pace { first: Duration::from_millis(1), longest: Duration::from_millis(8), tries: 6 },
    listed_within: Duration::from_millis(300),
    part_bytes: PART_BYTES as u64,
};

/// For tests in which something stalls.
const HASTY: Tuning = Tuning { idle: Duration::from_secs(1), ..BRIEF };
/// For tests in which lists lag.
const PATIENT: Tuning = Tuning { listed_within: Duration::from_secs(5), ..BRIEF };

/// A stand-in with one bucket, and our client before it.
struct Bed {
    b2: B2,
    store: Client,
    next: std::cell::Cell<u32>,
}

impl Bed {
    fn new() -> Bed {
        Bed::tuned(BRIEF)
    }

    fn tuned(tuning: Tuning) -> Bed {
        Bed::with(KeySpec::all().bucket(BUCKET), tuning)
    }

    fn with(spec: KeySpec, tuning: Tuning) -> Bed {
        let b2 = B2::start();
        b2.switch(|switches| switches.min_part_bytes = PART_BYTES as u64);
        b2.bucket(BUCKET, BucketOptions { has_lock: true, ..BucketOptions::default() });
        let store = client(&b2, spec, tuning);
        Bed { b2, store, next: std::cell::Cell::new(0) }
    }

    /// A name that was not used before.
    fn name(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("hr/{:04}.dump", self.next.get())
    }

    async fn store(&self, name: &str, bytes: &[u8]) -> Result<Version> {
        store(&self.store, name, bytes).await
    }

    async fn stored(&self, length: usize) -> Version {
        let name = self.name();
        self.store(&name, &bytes_of(&name, length)).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Whether the bucket has `name` once or more, each time whole; not at all is false.
    fn is_whole(&self, name: &str, bytes: &[u8]) -> bool {
        let full = format!("prod/{name}");
        let found = self.b2.versions(BUCKET).into_iter().filter(|version| version.name == full).count();
        assert!(found == 0 || self.b2.bytes(BUCKET, &full) == bytes, "{name} is there and is not whole");
        found > 0
    }
}

fn client(b2: &B2, spec: KeySpec, tuning: Tuning) -> Client {
    let connection = Connection::parse("offsite", &b2.connection_uri(&b2.key(spec))).expect("a connection");
    Client::open_tuned(&connection, BUCKET, Some("prod"), tuning).expect("a store")
}

/// Stores `bytes` in uneven pieces; withdraws them when that fails.
async fn store(store: &Client, name: &str, bytes: &[u8]) -> Result<Version> {
    let mut upload = store.begin(name, &Terms::default()).await?;
    for piece in bytes.chunks(333) {
        if let Err(error) = upload.feed(Bytes::copy_from_slice(piece)).await {
            upload.cancel().await;
            return Err(error);
        }
    }
    upload.finish().await
}

async fn read(store: &Client, version: &Version, range: Range<u64>) -> Result<Vec<u8>> {
    let stream = store.read(version, range).await?;
    let pieces: Vec<Bytes> = stream.try_collect().await?;
    Ok(pieces.concat())
}

/// Bytes that differ from name to name, and from each other.
fn bytes_of(name: &str, length: usize) -> Vec<u8> {
    let mut state =
        name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |sum, byte| sum.rotate_left(9) ^ u64::from(byte));
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn kind<T>(result: &Result<T>) -> Option<Kind> {
    result.as_ref().err().map(|error| classify(error).kind)
}

/// A row of the table of refusals, and what a client is to make of it.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    status: u16,
    code: &'static str,
    /// What an operation is that meets it once; None: it is tried again.
    once: Option<Kind>,
    /// What it is when it happens for ever.
    always: Option<Kind>,
}

/// One that is tried again.
const fn passing(status: u16, code: &'static str) -> Refusal {
    Refusal { status, code, once: None, always: Some(Kind::Temporary) }
}

/// One that is final.
const fn standing(status: u16, code: &'static str, kind: Kind) -> Refusal {
    Refusal { status, code, once: Some(kind), always: Some(kind) }
}

/// notes/backup.md section 1.8, but what only one call gives.
const TABLE: [Refusal; 18] = [
    standing(400, "bad_request", Kind::Unclassified),
    standing(400, "bad_bucket_id", Kind::Config),
    standing(400, "out_of_range", Kind::Unclassified),
    passing(401, "bad_auth_token"),
    passing(401, "expired_auth_token"),
    standing(401, "unauthorized", Kind::Permission),
    standing(401, "email_not_verified", Kind::Permission),
    standing(401, "no_payment_history", Kind::Permission),
    standing(403, "cap_exceeded", Kind::Permission),
    standing(403, "storage_cap_exceeded", Kind::Permission),
    standing(403, "transaction_cap_exceeded", Kind::Temporary),
    standing(403, "download_cap_exceeded", Kind::Temporary),
    passing(408, "request_timeout"),
    passing(429, "too_many_requests"),
    passing(500, "internal_error"),
    passing(503, "service_unavailable"),
    passing(503, ""),
    passing(502, "<html>"),
];

/// What else may come in place of an answer; all of it passes when it happens once.
fn breaks() -> [What; 6] {
    let early = What::EarlyAnswer { status: 503, code: "service_unavailable".to_owned() };
    [
        What::ResetBefore,
        What::Reset,
        What::LostAnswer,
        early,
        What::Truncate(10),
        What::NotJson { status: 200 },
    ]
}

/// When something happens among `count` calls: first, middle, last, always.
fn moments(call: &str, count: usize) -> Vec<(Fault, bool)> {
    let mut places = vec![1, count.div_ceil(2), count];
    places.dedup();
    let mut all: Vec<(Fault, bool)> = places.into_iter().map(|n| (Fault::on(call).nth(n), true)).collect();
    all.push((Fault::on(call), false));
    all
}

fn doing(fault: Fault, refusal: Refusal) -> Fault {
    match refusal.code {
        "<html>" => fault.does(What::NotJson { status: refusal.status }),
        code => fault.answers(refusal.status, code),
    }
}

fn told<T>(result: &Result<T>) -> String {
    result.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default()
}

/// Runs `act` under every refusal and every break of `call`, at the first, the middle, the last and all of
/// the calls that a good run makes, and checks with `check` what each run has left behind. `expect`
/// corrects what is expected of a refusal.
async fn storm<T>(
    bed: &Bed,
    call: &str,
    expect: impl Fn(Refusal) -> Refusal,
    act: impl AsyncFn() -> Result<T>,
    check: impl Fn(&Result<T>, &str),
) {
    bed.b2.heal();
    bed.b2.forget_seen();
    act().await.unwrap_or_else(|error| panic!("{call} in fair weather: {error:#}"));
    let count = bed.b2.count(call);
    assert!(count > 0, "{call} is not called at all");
    for refusal in TABLE.map(expect) {
        for (fault, is_once) in moments(call, count) {
            if !is_once && refusal.once.is_some() {
                continue; // it ended with the first
            }
            let fault = doing(fault, refusal);
            let label = format!("{fault:?}");
            bed.b2.fault(fault);
            let result = act().await;
            // Of what is sent side by side, a busy machine may need fewer calls than the run in fair weather.
            let is_met = bed.b2.heal();
            let wanted = match (is_met, is_once) {
                (false, _) => None,
                (true, true) => refusal.once,
                (true, false) => refusal.always,
            };
            assert_eq!(kind(&result), wanted, "{label}: {}", told(&result));
            check(&result, &label);
        }
    }
    for what in breaks() {
        for (fault, is_once) in moments(call, count) {
            let fault = fault.does(what.clone());
            let label = format!("{fault:?}");
            bed.b2.fault(fault);
            let result = act().await;
            bed.b2.heal();
            assert!(!is_once || result.is_ok(), "{label}: {}", told(&result));
            assert!(matches!(kind(&result), None | Some(Kind::Temporary)), "{label}: {}", told(&result));
            check(&result, &label);
        }
    }
}

// --- each call of each operation ------------------------------------------------------------------

/// An upload of `length` under every fault of each of `calls`.
async fn upload_storm(length: usize, calls: &[&str]) {
    let bed = Bed::new();
    for call in calls {
        let last = std::cell::RefCell::new(String::new());
        let act = async || {
            if *call == "b2_get_upload_url" {
                bed.b2.kill_upload_urls(); // else one is kept for the next file
            }
            let name = bed.name();
            last.replace(name.clone());
            let version = bed.store(&name, &bytes_of(&name, length)).await?;
            assert_eq!((version.name, version.bytes), (name, length as u64));
            Ok(())
        };
        let check = |result: &Result<()>, label: &str| {
            let name = last.borrow();
            let is_there = bed.is_whole(&name, &bytes_of(&name, length));
            assert!(is_there || result.is_err(), "{label}: said to be stored, and is not");
            let unfinished = bed.b2.unfinished(BUCKET);
            assert!(unfinished.is_empty(), "{label}: {} unfinished: {}", unfinished.len(), told(result));
        };
        let is_of_a_large_file =
            ["b2_get_upload_part_url", "b2_upload_part", "b2_finish_large_file"].contains(call);
        let expect = |refusal: Refusal| match refusal.code {
            "bad_request" if is_of_a_large_file => standing(400, "bad_request", Kind::Temporary),
            _ => refusal,
        };
        storm(&bed, call, expect, act, check).await;
    }
    let most = bed.b2.peak_uploads();
    assert!(most <= 2, "{most} uploads at once");
}

#[tokio::test]
async fn the_start_and_the_parts_of_a_large_upload_survive_what_passes_and_leave_nothing_of_what_does_not() {
    upload_storm(LARGE, &["b2_start_large_file", "b2_get_upload_part_url", "b2_upload_part"]).await;
}

#[tokio::test]
async fn the_end_of_a_large_upload_survives_what_passes_and_leaves_nothing_of_what_does_not() {
    upload_storm(LARGE, &["b2_finish_large_file", "b2_list_file_versions"]).await;
}

#[tokio::test]
async fn a_small_upload_survives_what_passes_and_leaves_nothing_of_what_does_not() {
    upload_storm(SMALL, &["b2_get_upload_url", "b2_upload_file", "b2_list_file_versions"]).await;
}

#[tokio::test]
async fn a_list_of_many_pages_is_complete_or_an_error() {
    let bed = Bed::new();
    let names = ["hr/a", "hr/a", "hr/b", "hr/c", "hr/d"];
    for name in names {
        bed.b2.put(BUCKET, &format!("prod/{name}"), b"x");
    }
    bed.b2.put(BUCKET, "test/not-ours", b"x");
    bed.b2.abandon(BUCKET, "prod/hr/b");
    bed.b2.hide(BUCKET, "prod/hr/a");
    bed.b2.switch(|switches| (switches.page_rows, switches.has_unknowns) = (Some(1), true));
    let act = async || {
        let listed = bed.store.list("hr/").await?;
        let listed: Vec<(&str, bool)> =
            listed.iter().map(|version| (version.name.as_str(), version.is_marker)).collect();
        let files = names.map(|name| (name, false));
        assert_eq!(listed, [&[("hr/a", true)], &files[..]].concat());
        Ok(())
    };
    storm(&bed, "b2_list_file_versions", |refusal| refusal, act, |_, _| {}).await;
}

#[tokio::test]
async fn what_is_read_is_right_or_an_error() {
    let bed = Bed::new();
    let (large, small) = (bed.stored(LARGE).await, bed.stored(SMALL).await);
    for (version, range) in [(&large, 0..LARGE as u64), (&large, 100..3333), (&small, 0..SMALL as u64)] {
        let wanted = bytes_of(&version.name, version.bytes as usize);
        let wanted = &wanted[range.start as usize..range.end as usize];
        let act = async || {
            assert_eq!(read(&bed.store, version, range.clone()).await?, wanted);
            Ok(())
        };
        storm(&bed, "b2_download_file_by_id", |refusal| refusal, act, |_, _| {}).await;
    }
}

#[tokio::test]
async fn a_delete_says_gone_only_of_what_is_gone() {
    let bed = Bed::new();
    let last = std::cell::RefCell::new(String::new());
    let act = async || {
        let name = bed.name();
        let id = bed.b2.put(BUCKET, &format!("prod/{name}"), b"x");
        last.replace(id.clone());
        bed.store.delete(&version_of(&name, &id)).await
    };
    storm(
        &bed,
        "b2_delete_file_version",
        |refusal| refusal,
        act,
        |result, label| {
            let is_there = bed.b2.versions(BUCKET).iter().any(|version| version.id == *last.borrow());
            assert!(
                result.is_err() || (!is_there && matches!(result, Ok(Deleted::Gone))),
                "{label}: {result:?}"
            );
        },
    )
    .await;
}

fn version_of(name: &str, id: &str) -> Version {
    let (name, id) = (name.to_owned(), id.to_owned());
    Version { name, id, bytes: 1, stored_at: Timestamp::now(), is_marker: false, locked_until: None }
}

fn soon() -> Timestamp {
    Timestamp::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn a_sweep_cancels_all_that_is_unfinished_or_says_so() {
    let bed = Bed::new();
    bed.b2.switch(|switches| switches.page_rows = Some(1));
    for call in ["b2_list_unfinished_large_files", "b2_cancel_large_file"] {
        let act = async || {
            bed.b2.abandon(BUCKET, "prod/hr/one");
            bed.b2.abandon(BUCKET, "prod/hr/two");
            bed.store.sweep("hr/", soon()).await
        };
        // A file that B2 does not know any more needs no cancelling.
        let expect = |refusal: Refusal| match (call, refusal.status) {
            ("b2_cancel_large_file", 400) => Refusal { once: None, always: None, ..refusal },
            _ => refusal,
        };
        let check = |result: &Result<usize>, label: &str| {
            let left = bed.b2.unfinished(BUCKET).len();
            assert!(
                result.is_err() || left == 0 || label.contains("400"),
                "{label}: {left} left, {result:?}"
            );
            bed.b2.clear_unfinished(BUCKET);
        };
        storm(&bed, call, expect, act, check).await;
        bed.b2.abandon(BUCKET, "prod/hr/one");
        assert_eq!(bed.store.sweep("hr/", soon()).await.unwrap(), 1);
        assert_eq!(bed.b2.unfinished(BUCKET), [""; 0]);
    }
}

#[tokio::test]
async fn rules_are_read_and_set_through_any_weather_that_passes() {
    let bed = Bed::new();
    let days = std::cell::Cell::new(10);
    for call in ["b2_list_buckets", "b2_update_bucket"] {
        let act = async || {
            days.set(days.get() + 1);
            assert!(bed.store.set_rules("", days.get()).await?);
            let rules = bed.store.rules("").await?;
            assert_eq!((rules.drops_hidden_after_days, rules.expires_after_days), (Some(days.get()), None));
            Ok(())
        };
        storm(&bed, call, |refusal| refusal, act, |_, _| {}).await;
    }
    bed.b2.fault(Fault::on("b2_update_bucket").first(2).answers(409, "conflict"));
    assert!(bed.store.set_rules("", 3).await.unwrap());
    bed.b2.fault(Fault::on("b2_update_bucket").answers(409, "conflict"));
    assert_eq!(kind(&bed.store.set_rules("", 4).await), Some(Kind::Temporary));
}

#[tokio::test]
async fn a_refused_login_is_final_and_a_broken_one_is_not() {
    let bed = Bed::new();
    let act = async || {
        bed.b2.expire_tokens();
        bed.store.list("").await
    };
    let expect = |refusal: Refusal| match refusal.status {
        401 => standing(401, refusal.code, Kind::Permission),
        _ => refusal,
    };
    storm(&bed, "b2_authorize_account", expect, act, |_, _| {}).await;
}

// --- what only one call gives ---------------------------------------------------------------------

#[tokio::test]
async fn an_upload_url_in_use_by_another_is_left_for_a_new_one() {
    let bed = Bed::new();
    for (call, length) in [("b2_upload_part", LARGE), ("b2_upload_file", SMALL)] {
        bed.b2.fault(Fault::on(call).first(2).answers(400, "auth_token_limit"));
        bed.stored(length).await;
        bed.b2.heal();
    }
}

#[tokio::test]
async fn a_version_that_is_gone_or_protected_is_no_failure_of_a_delete() {
    let bed = Bed::new();
    let gone = version_of("hr/gone", "4_znever");
    assert_eq!(bed.store.delete(&gone).await.unwrap(), Deleted::WasGone);
    for (status, code) in [(403, "access_denied"), (400, "file_lock_conflict")] {
        let version = bed.stored(SMALL).await;
        bed.b2.fault(Fault::on("b2_delete_file_version").answers(status, code));
        assert_eq!(bed.store.delete(&version).await.unwrap(), Deleted::Locked(None), "{code}");
        bed.b2.heal();
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_so_and_not_asked_for_again() {
    let bed = Bed::new();
    let gone = Version { bytes: 10, ..version_of("hr/gone", "4_znever") };
    let result = read(&bed.store, &gone, 0..10).await;
    assert_eq!(kind(&result), Some(Kind::Data));
    assert!(told(&result).contains("hr/gone"), "{}", told(&result));
    assert_eq!(bed.b2.count("b2_download_file_by_id"), 1);
    let version = bed.stored(SMALL).await;
    bed.b2.fault(Fault::on("b2_download_file_by_id").answers(416, "range_not_satisfiable"));
    assert!(read(&bed.store, &version, 0..10).await.is_err());
    assert_eq!(bed.b2.count("b2_download_file_by_id"), 2);
}

#[tokio::test]
async fn a_cancel_that_fails_leaves_work_for_the_sweep_and_no_more() {
    let bed = Bed::new();
    for (fault, left) in
        [(Fault::on("b2_cancel_large_file").first(3), 0), (Fault::on("b2_cancel_large_file"), 1)]
    {
        bed.b2.fault(fault.answers(503, "service_unavailable"));
        bed.b2.fault(Fault::on("b2_upload_part").from(2).answers(403, "cap_exceeded"));
        let name = bed.name();
        let result = bed.store(&name, &bytes_of(&name, LARGE)).await;
        assert_eq!(kind(&result), Some(Kind::Permission), "{}", told(&result));
        assert_eq!(bed.b2.unfinished(BUCKET).len(), left);
        bed.b2.heal();
        assert_eq!(bed.store.sweep("", soon()).await.unwrap(), left);
    }
    assert!(bed.b2.unfinished(BUCKET).is_empty() && bed.b2.versions(BUCKET).is_empty());
}

// --- lost answers ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_lost_answer_to_a_small_upload_stores_it_once_or_twice_and_each_time_whole() {
    for (lag, most) in [(0, 1), (2, 1), (1000, 6)] {
        let bed = Bed::tuned(if lag < 1000 { PATIENT } else { BRIEF });
        bed.b2.switch(|switches| switches.list_lag = lag);
        bed.b2.fault(Fault::on("b2_upload_file").first(1).does(What::LostAnswer));
        let name = bed.name();
        let bytes = bytes_of(&name, SMALL);
        let result = bed.store(&name, &bytes).await;
        assert_eq!(result.is_ok(), lag < 1000, "{lag}: {}", told(&result));
        assert!(bed.is_whole(&name, &bytes));
        let stored = bed.b2.versions(BUCKET).len();
        assert!((1..=most).contains(&stored), "{stored} versions with a lag of {lag} lists");
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_finish_is_looked_for_however_long_the_list_lags() {
    for lag in [0, 1, 3] {
        let bed = Bed::tuned(PATIENT);
        bed.b2.switch(|switches| switches.list_lag = lag);
        bed.b2.fault(Fault::on("b2_finish_large_file").first(1).does(What::LostAnswer));
        let version = bed.stored(LARGE).await;
        assert!(bed.is_whole(&version.name, &bytes_of(&version.name, LARGE)));
        assert_eq!(bed.b2.versions(BUCKET).len(), 1);
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_start_leaves_no_twin() {
    let bed = Bed::new();
    bed.b2.fault(Fault::on("b2_start_large_file").first(2).does(What::LostAnswer));
    let version = bed.stored(LARGE).await;
    assert!(bed.is_whole(&version.name, &bytes_of(&version.name, LARGE)));
    assert!(bed.b2.unfinished(BUCKET).is_empty());
}

#[tokio::test]
async fn other_bytes_acknowledged_than_sent_are_sent_again() {
    let bed = Bed::new();
    for (call, length) in [("b2_upload_part", LARGE), ("b2_upload_file", SMALL)] {
        let lies: [fn(&mut serde_json::Value); 2] = [
            |answer| answer["contentSha1"] = json!("da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            |answer| answer["contentLength"] = json!(1),
        ];
        for lie in lies {
            bed.b2.fault(Fault::on(call).first(1).does(What::Edit(lie)));
            let version = bed.stored(length).await;
            assert!(bed.is_whole(&version.name, &bytes_of(&version.name, length)));
            bed.b2.heal();
            bed.b2.fault(Fault::on(call).does(What::Edit(lie)));
            let name = bed.name();
            assert_eq!(kind(&bed.store(&name, &bytes_of(&name, length)).await), Some(Kind::Temporary));
            bed.b2.heal();
        }
    }
    assert!(bed.b2.unfinished(BUCKET).is_empty());
}

// --- wrong bytes ----------------------------------------------------------------------------------

#[tokio::test]
async fn answers_of_another_range_or_length_are_never_taken_for_the_right_one() {
    let bed = Bed::new();
    let version = bed.stored(LARGE).await;
    let wanted = &bytes_of(&version.name, LARGE)[100..4000];
    let bends = [
        What::Resize(1),
        What::Resize(-1),
        What::ShiftRange(1),
        What::ShiftRange(-1),
        What::IgnoreRange,
        What::Truncate(0),
        What::Truncate(1234),
        What::NotJson { status: 206 },
    ];
    for what in bends {
        let once = Fault::on("b2_download_file_by_id").first(1).does(what.clone());
        bed.b2.fault(once);
        assert_eq!(read(&bed.store, &version, 100..4000).await.unwrap(), wanted, "{what:?}");
        bed.b2.heal();
        bed.b2.fault(Fault::on("b2_download_file_by_id").does(what.clone()));
        let result = read(&bed.store, &version, 100..4000).await;
        match what {
            What::Truncate(1234) => assert_eq!(result.unwrap(), wanted), // each try brings some
            _ => assert_eq!(kind(&result), Some(Kind::Temporary), "{what:?}: {}", told(&result)),
        }
        bed.b2.heal();
    }
}

#[tokio::test]
async fn a_small_file_with_wrong_bytes_is_fetched_again_and_never_given_away() {
    let bed = Bed::new();
    let version = bed.stored(SMALL).await;
    let wanted = bytes_of(&version.name, SMALL);
    bed.b2.fault(Fault::on("b2_download_file_by_id").first(2).does(What::FlipByte(77)));
    assert_eq!(read(&bed.store, &version, 0..SMALL as u64).await.unwrap(), wanted);
    bed.b2.heal();
    bed.b2.damage(BUCKET, &format!("prod/{}", version.name), |bytes| bytes[0] ^= 1);
    assert_eq!(kind(&read(&bed.store, &version, 0..SMALL as u64).await), Some(Kind::Data));
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_broke() {
    let bed = Bed::new();
    let version = bed.stored(LARGE).await;
    bed.b2.fault(Fault::on("b2_download_file_by_id").does(What::Truncate(1500)));
    let whole = read(&bed.store, &version, 0..LARGE as u64).await.unwrap();
    assert_eq!(whole, bytes_of(&version.name, LARGE));
    let asked: Vec<String> =
        bed.b2.seen().into_iter().filter_map(|call| call.headers.get("range").cloned()).collect();
    assert_eq!(asked, ["bytes=0-4320", "bytes=1500-4320", "bytes=3000-4320"]);
}

// --- tokens, keys ---------------------------------------------------------------------------------

#[tokio::test]
async fn tokens_and_upload_urls_that_end_in_mid_upload_are_renewed() {
    let bed = Bed::new();
    let name = bed.name();
    let bytes = bytes_of(&name, 3 * LARGE);
    let mut upload = bed.store.begin(&name, &Terms::default()).await.unwrap();
    for piece in bytes.chunks(1700) {
        bed.b2.expire_tokens();
        bed.b2.kill_upload_urls();
        upload.feed(Bytes::copy_from_slice(piece)).await.unwrap_or_else(|error| panic!("{error:#}"));
    }
    bed.b2.expire_tokens();
    upload.finish().await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(bed.is_whole(&name, &bytes));
    let logins = bed.b2.count("b2_authorize_account");
    assert!((3..=10).contains(&logins), "{logins} logins");
}

#[tokio::test]
async fn one_login_serves_all_who_find_their_token_expired() {
    let bed = Bed::new();
    let version = bed.stored(LARGE).await;
    bed.b2.expire_tokens();
    bed.b2.forget_seen();
    let reads = (0..8).map(|_| read(&bed.store, &version, 0..LARGE as u64));
    for result in futures_util::future::join_all(reads).await {
        assert_eq!(result.unwrap(), bytes_of(&version.name, LARGE));
    }
    assert_eq!(bed.b2.count("b2_authorize_account"), 1);
}

#[tokio::test]
async fn a_key_that_is_deleted_in_mid_upload_is_77() {
    let b2 = B2::start();
    b2.switch(|switches| switches.min_part_bytes = PART_BYTES as u64);
    b2.bucket(BUCKET, BucketOptions::default());
    let key = b2.key(KeySpec::all().bucket(BUCKET));
    let connection = Connection::parse("offsite", &b2.connection_uri(&key)).unwrap();
    let store = Client::open_tuned(&connection, BUCKET, Some("prod"), BRIEF).unwrap();
    let mut upload = store.begin("hr/a", &Terms::default()).await.unwrap();
    upload.feed(Bytes::from(bytes_of("hr/a", PART_BYTES + 1))).await.unwrap();
    b2.revoke(&key);
    b2.kill_upload_urls();
    let result = async {
        upload.feed(Bytes::from(bytes_of("hr/a", LARGE))).await?;
        upload.finish().await
    };
    let result = result.await;
    assert_eq!(kind(&result), Some(Kind::Permission), "{}", told(&result));
    let hint = classify(&result.unwrap_err()).hint.unwrap_or_default();
    assert!(hint.contains("deleted"), "{hint}");
}

#[tokio::test]
async fn keys_of_one_prefix_of_several_buckets_and_of_version_3_work() {
    let b2 = B2::start();
    b2.switch(|switches| (switches.min_part_bytes, switches.has_unknowns) = (PART_BYTES as u64, true));
    b2.bucket(BUCKET, BucketOptions::default());
    b2.bucket("other-bucket", BucketOptions::default());
    let plain = KeySpec::new(&["writeFiles", "listFiles", "readFiles", "listBuckets"]);
    let specs = [
        plain.clone().bucket(BUCKET).prefix("prod/"),
        plain.clone().bucket("other-bucket").bucket(BUCKET),
        plain.clone(),
        plain.prefix("prod"),
    ];
    for shape in [Shape::AsAsked, Shape::V3] {
        b2.switch(|switches| switches.shape = shape);
        for (spec, number) in specs.iter().cloned().zip(0..) {
            if shape == Shape::V3 && spec.buckets.len() > 1 {
                continue; // B2 itself refuses those
            }
            let (store_, name) = (client(&b2, spec, BRIEF), format!("hr/{shape:?}-{number}"));
            let version = store(&store_, &name, &bytes_of(&name, LARGE)).await.unwrap();
            assert_eq!(read(&store_, &version, 0..LARGE as u64).await.unwrap(), bytes_of(&name, LARGE));
            assert_eq!(store_.list(&name).await.unwrap(), [version]);
            assert_eq!(store_.sweep("hr/", soon()).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn a_key_for_other_names_or_another_bucket_is_77_and_a_bucket_that_is_not_there_78() {
    let b2 = B2::start();
    b2.bucket(BUCKET, BucketOptions::default());
    b2.bucket("other-bucket", BucketOptions::default());
    let names = client(&b2, KeySpec::all().bucket(BUCKET).prefix("test/"), BRIEF).list("").await;
    assert_eq!(kind(&names), Some(Kind::Permission), "{}", told(&names));
    assert!(told(&names).contains("test/"), "{}", told(&names));
    let bucket = client(&b2, KeySpec::all().bucket("other-bucket"), BRIEF).list("").await;
    assert_eq!(kind(&bucket), Some(Kind::Permission), "{}", told(&bucket));
    assert!(told(&bucket).contains("other-bucket"), "{}", told(&bucket));
    let unbound = client(&b2, KeySpec::all(), BRIEF);
    let bound = client(&b2, KeySpec::all().bucket(BUCKET), BRIEF);
    assert!(bound.list("").await.is_ok() && unbound.list("").await.is_ok());
    b2.drop_bucket(BUCKET);
    for store in [bound, unbound, client(&b2, KeySpec::all(), BRIEF)] {
        let gone = store.list("").await;
        assert_eq!(kind(&gone), Some(Kind::Config), "{}", told(&gone));
    }
}

#[tokio::test]
async fn a_right_that_the_key_lacks_is_named_before_anything_is_sent() {
    let b2 = B2::start();
    b2.bucket(BUCKET, BucketOptions { has_lock: true, ..BucketOptions::default() });
    b2.put(BUCKET, "prod/hr/a", b"x");
    let id = b2.versions(BUCKET)[0].id.clone();
    let there = Version { bytes: 1, ..version_of("hr/a", &id) };
    let lock = Terms { lock_until: Some((soon(), LockMode::Governance)) };
    for capability in [
        "writeFiles",
        "listFiles",
        "readFiles",
        "deleteFiles",
        "writeBuckets",
        "listBuckets",
        "writeFileRetentions",
    ] {
        let store = client(&b2, KeySpec::all().without(capability).bucket(BUCKET), BRIEF);
        let refused = |what: &str, result: Result<()>| {
            assert_eq!(
                kind(&result),
                Some(Kind::Permission),
                "{what} without {capability}: {}",
                told(&result)
            );
            let failure = classify(&result.unwrap_err());
            let text = format!("{} {}", failure.what, failure.hint.unwrap_or_default());
            assert!(text.contains(capability), "{what}: {text}");
        };
        b2.forget_seen();
        let mut results: Vec<(&str, Result<()>)> = vec![
            ("begin", store.begin("hr/b", &lock).await.map(drop)),
            ("list", store.list("").await.map(drop)),
            ("read", read(&store, &there, 0..1).await.map(drop)),
            ("rules", store.rules("").await.map(drop)),
            ("set_rules", store.set_rules("", 3).await.map(drop)),
            ("sweep", store.sweep("", soon()).await.map(drop)),
        ];
        if capability == "deleteFiles" {
            results.push(("delete", store.delete(&there).await.map(drop)));
        }
        let failed: Vec<&str> =
            results.iter().filter(|(_, result)| result.is_err()).map(|(what, _)| *what).collect();
        let wanted: &[&str] = match capability {
            "writeFiles" => &["begin"],
            "listFiles" => &["begin", "list", "sweep"],
            "readFiles" => &["read"],
            "deleteFiles" => &["delete"],
            "writeBuckets" => &["set_rules"],
            "listBuckets" => &["set_rules"], // its rules are unknown, which is no error
            _ => &["begin"],
        };
        assert_eq!(failed, wanted, "without {capability}");
        results
            .into_iter()
            .filter(|(_, result)| result.is_err())
            .for_each(|(what, result)| refused(what, result));
        assert!(
            b2.seen().iter().all(|call| call.status == Some(200) || call.status == Some(206)),
            "{:?}",
            b2.seen()
        );
    }
    let blind = client(&b2, KeySpec::all().without("readBucketRetentions").bucket(BUCKET), BRIEF);
    assert!(blind.rules("").await.unwrap().unknown[0].contains("readBucketRetentions"));
}

#[tokio::test]
async fn writing_and_listing_are_enough_to_back_up_and_to_clean_up() {
    let bed = Bed::with(KeySpec::new(&["writeFiles", "listFiles"]).bucket(BUCKET), BRIEF);
    bed.stored(LARGE).await;
    bed.stored(SMALL).await;
    bed.b2.fault(Fault::on("b2_upload_part").from(2).answers(403, "cap_exceeded"));
    let name = bed.name();
    assert!(bed.store(&name, &bytes_of(&name, LARGE)).await.is_err());
    assert!(bed.b2.unfinished(BUCKET).is_empty());
    bed.b2.heal();
    bed.b2.abandon(BUCKET, "prod/hr/forgotten");
    assert_eq!(bed.store.sweep("", soon()).await.unwrap(), 1);
}

// --- Object Lock ----------------------------------------------------------------------------------

#[tokio::test]
async fn what_is_stored_with_a_lock_stays_until_then() {
    let until = Timestamp::from_second(Timestamp::now().as_second() + 7200).unwrap();
    for (length, mode) in [(SMALL, LockMode::Governance), (LARGE, LockMode::Compliance)] {
        let bed = Bed::new();
        let name = bed.name();
        let terms = Terms { lock_until: Some((until, mode)) };
        let mut upload = bed.store.begin(&name, &terms).await.unwrap();
        upload.feed(Bytes::from(bytes_of(&name, length))).await.unwrap();
        let version = upload.finish().await.unwrap();
        assert_eq!(version.locked_until, Some(until));
        for is_400 in [false, true] {
            bed.b2.switch(|switches| switches.locked_is_400 = is_400);
            assert_eq!(bed.store.delete(&version).await.unwrap(), Deleted::Locked(Some(until)));
        }
        bed.b2.advance(Duration::from_secs(7300));
        assert_eq!(bed.store.delete(&version).await.unwrap(), Deleted::Gone);
    }
}

#[tokio::test]
async fn a_lock_in_a_bucket_without_object_lock_is_78() {
    let b2 = B2::start();
    b2.bucket(BUCKET, BucketOptions::default());
    let store = client(&b2, KeySpec::all().bucket(BUCKET), BRIEF);
    let terms = Terms { lock_until: Some((soon(), LockMode::Governance)) };
    let result = async {
        let mut upload = store.begin("hr/a", &terms).await?;
        upload.feed(Bytes::from_static(b"x")).await?;
        upload.finish().await
    };
    let result = result.await;
    assert_eq!(kind(&result), Some(Kind::Config), "{}", told(&result));
}

// --- time -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_retry_after_is_obeyed_in_seconds_capped_and_otherwise_passed_over() {
    let patient = Pace { longest: Duration::from_secs(2), ..BRIEF.pace };
    let bed = Bed::tuned(Tuning { pace: patient, ..BRIEF });
    bed.stored(SMALL).await;
    let start = Instant::now();
    bed.b2.fault(Fault::on("b2_list_file_versions").first(1).answers_later(429, "too_many_requests", "1"));
    bed.store.list("").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "a wait of 1 s was asked for");
    let bed = Bed::new();
    for call in [
        "b2_authorize_account",
        "b2_list_file_versions",
        "b2_start_large_file",
        "b2_upload_part",
        "b2_finish_large_file",
    ] {
        for wait in ["3600", "99999999999999999999", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            for (status, code) in [(429, "too_many_requests"), (503, "service_unavailable")] {
                bed.b2.expire_tokens();
                bed.b2.fault(Fault::on(call).first(1).answers_later(status, code, wait));
                bed.stored(LARGE).await;
                bed.b2.heal();
            }
        }
    }
}

/// One operation that makes `call`, against a stand-in where that call stalls once.
async fn stalled(bed: &Bed, call: &str, what: What) {
    let name = bed.name();
    let before = bed.stored(LARGE).await;
    bed.b2.fault(Fault::on(call).first(1).does(what.clone()));
    let length = if call == "b2_upload_file" || call == "b2_get_upload_url" { SMALL } else { LARGE };
    match call {
        "b2_download_file_by_id" => {
            let got = read(&bed.store, &before, 0..LARGE as u64).await;
            assert_eq!(got.unwrap(), bytes_of(&before.name, LARGE), "{call} {what:?}");
        }
        "b2_delete_file_version" => assert_eq!(bed.store.delete(&before).await.unwrap(), Deleted::Gone),
        _ => {
            if call == "b2_authorize_account" {
                bed.b2.expire_tokens();
            }
            let stored = bed.store(&name, &bytes_of(&name, length)).await;
            assert!(stored.is_ok(), "{call} {what:?}: {}", told(&stored));
            assert!(bed.is_whole(&name, &bytes_of(&name, length)));
            assert!(bed.b2.unfinished(BUCKET).is_empty());
        }
    }
}

#[tokio::test]
async fn what_stalls_or_trickles_in_either_direction_is_left_and_done_again() {
    let calls = [
        "b2_authorize_account",
        "b2_start_large_file",
        "b2_get_upload_part_url",
        "b2_upload_part",
        "b2_finish_large_file",
        "b2_list_file_versions",
        "b2_get_upload_url",
        "b2_upload_file",
        "b2_download_file_by_id",
        "b2_delete_file_version",
    ];
    let whats = [What::Stall, What::StallAfter, What::Trickle(50)];
    let mut jobs: Vec<(Bed, &str, What)> = Vec::new();
    for call in calls {
        jobs.extend(whats.iter().map(|what| (Bed::tuned(HASTY), call, what.clone())));
    }
    for call in ["b2_upload_part", "b2_upload_file"] {
        jobs.push((Bed::tuned(HASTY), call, What::TrickleIn(50)));
    }
    let all = jobs.iter().map(|(bed, call, what)| stalled(bed, call, what.clone()));
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn what_stalls_for_ever_is_75() {
    let hasty = Tuning { idle: Duration::from_millis(500), pace: Pace { tries: 2, ..BRIEF.pace }, ..BRIEF };
    let bed = Bed::tuned(hasty);
    let patient = client(&bed.b2, KeySpec::all().bucket(BUCKET), BRIEF);
    let version = store(&patient, "hr/a", &bytes_of("hr/a", LARGE)).await.unwrap();
    for what in [What::Stall, What::Trickle(50)] {
        bed.b2.fault(Fault::on("*").does(what));
        let (list, got) = tokio::join!(bed.store.list(""), read(&bed.store, &version, 0..LARGE as u64));
        assert_eq!((kind(&list), kind(&got)), (Some(Kind::Temporary), Some(Kind::Temporary)));
        bed.b2.heal();
    }
    let calls = [("b2_upload_part", LARGE), ("b2_upload_file", SMALL), ("b2_finish_large_file", LARGE)];
    let beds = calls.map(|(call, length)| (Bed::tuned(hasty), call, length));
    let uploads = beds.iter().map(async |(bed, call, length)| {
        bed.b2.fault(Fault::on(call).does(What::Stall));
        let result = bed.store("hr/b", &bytes_of("hr/b", *length)).await;
        assert_eq!(kind(&result), Some(Kind::Temporary), "{call}: {}", told(&result));
        assert!(bed.b2.unfinished(BUCKET).is_empty(), "{call}");
    });
    futures_util::future::join_all(uploads).await;
}

#[tokio::test]
async fn nobody_there_no_such_host_and_no_tls_are_75() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let b2 = B2::start();
    let tls = b2.endpoint().replace("http:", "https:");
    for endpoint in [format!("http://127.0.0.1:{closed}"), "https://b2.invalid".to_owned(), tls] {
        let text =
            json!({"conn_type": "b2", "login": "k", "password": "MARK", "extra": {"endpoint": endpoint}});
        let connection = Connection::parse("offsite", &text.to_string()).unwrap();
        let store = Client::open_tuned(&connection, BUCKET, None, BRIEF).unwrap();
        let result = store.list("").await;
        assert_eq!(kind(&result), Some(Kind::Temporary), "{endpoint}: {}", told(&result));
        assert!(!told(&result).contains("MARK"));
    }
}

#[tokio::test]
async fn a_part_that_breaks_off_in_the_middle_is_sent_again() {
    const PART: usize = 1 << 20;
    let tuning = Tuning { part_bytes: PART as u64, slowest_bytes_per_s: 10_000_000, ..HASTY };
    let bed = Bed::tuned(tuning);
    let bytes = bytes_of("large", 2 * PART + 17);
    let early = |status, code: &str| What::EarlyAnswer { status, code: code.to_owned() };
    let whats = [
        What::ResetBefore,
        What::ResetWithin(PART as u64 / 2),
        What::ResetWithin(1),
        early(503, "service_unavailable"),
        early(401, "expired_auth_token"),
        What::Stall,
        What::TrickleIn(100_000),
    ];
    for what in whats {
        bed.b2.fault(Fault::on("b2_upload_part").first(2).does(what.clone()));
        let name = bed.name();
        let result = bed.store(&name, &bytes).await;
        assert!(result.is_ok(), "{what:?}: {}", told(&result));
        assert!(bed.is_whole(&name, &bytes));
        bed.b2.heal();
    }
    assert!(bed.b2.unfinished(BUCKET).is_empty());
}

#[tokio::test]
async fn a_bucket_that_disappears_in_mid_upload_is_78_and_of_a_large_file_75_until_the_next_run() {
    for fed in [10, 2 * PART_BYTES] {
        let bed = Bed::new();
        let mut upload = bed.store.begin("hr/a", &Terms::default()).await.unwrap();
        upload.feed(Bytes::from(bytes_of("hr/a", fed))).await.unwrap();
        bed.b2.drop_bucket(BUCKET);
        let result = upload.finish().await;
        // Of a large file B2 says only that there is no such upload.
        let wanted = if fed == 10 { Kind::Config } else { Kind::Temporary };
        assert_eq!(kind(&result), Some(wanted), "{}", told(&result));
        let again = bed.store("hr/b", &bytes_of("hr/b", fed)).await;
        assert_eq!(kind(&again), Some(Kind::Config), "{}", told(&again));
    }
}

// --- all at once ----------------------------------------------------------------------------------

#[tokio::test]
async fn many_uploads_at_once_never_share_an_upload_url() {
    let bed = Bed::new();
    let names: Vec<String> = (0..16).map(|_| bed.name()).collect();
    let sizes = [SMALL, LARGE, 1, 0, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, SMALL];
    let jobs: Vec<(&String, usize)> = names.iter().zip(sizes.into_iter().cycle()).collect();
    let uploads = jobs.iter().map(async |(name, size)| bed.store(name, &bytes_of(name, *size)).await);
    for result in futures_util::future::join_all(uploads).await {
        assert!(result.is_ok(), "{}", told(&result));
    }
    for (name, size) in jobs {
        assert!(bed.is_whole(name, &bytes_of(name, size)), "{name} of {size}");
    }
    assert!(bed.b2.seen().iter().all(|call| call.status == Some(200)), "no call was refused");
    assert!(bed.b2.seen().iter().all(|call| !call.headers.contains_key("transfer-encoding")));
}

#[tokio::test]
async fn an_upload_that_is_withdrawn_leaves_nothing_and_takes_nothing_more() {
    let bed = Bed::new();
    for fed in [10, PART_BYTES + 1, LARGE] {
        let name = bed.name();
        let mut upload = bed.store.begin(&name, &Terms::default()).await.unwrap();
        upload.feed(Bytes::from(bytes_of(&name, fed))).await.unwrap();
        let canceller = upload.canceller();
        canceller.await;
        assert!(bed.b2.unfinished(BUCKET).is_empty(), "after {fed} bytes");
        let result = async {
            upload.feed(Bytes::from(bytes_of(&name, 10))).await?;
            upload.finish().await
        };
        assert!(result.await.is_err(), "after {fed} bytes");
        assert!(
            bed.b2.unfinished(BUCKET).is_empty() && bed.b2.versions(BUCKET).is_empty(),
            "after {fed} bytes"
        );
    }
}

/// What passes, each on some of all calls.
fn weather(seed: u64) -> Vec<Fault> {
    let some = |number: u64| Fault::on("*").chance(3, seed * 31 + number);
    vec![
        some(1).answers(503, "service_unavailable"),
        some(2).answers_later(429, "too_many_requests", "0"),
        some(3).answers(500, "internal_error"),
        some(4).answers(401, "expired_auth_token"),
        some(5).does(What::Reset),
        some(6).does(What::ResetBefore),
        some(7).does(What::LostAnswer),
        some(8).does(What::Truncate(5)),
        some(9).does(What::NotJson { status: 502 }),
        some(10).does(What::EarlyAnswer { status: 503, code: "service_unavailable".to_owned() }),
    ]
}

#[tokio::test]
async fn a_storm_of_everything_that_passes_ends_with_the_right_bytes_or_75() {
    let pace = Pace { tries: 12, ..BRIEF.pace };
    let (mut good, mut runs) = (0, 0);
    let seeds = if std::env::var_os("SANKOFA_SOAK").is_some() { 200 } else { 8 };
    for seed in 1..=seeds {
        let bed = Bed::tuned(Tuning { pace, ..PATIENT });
        bed.b2.switch(|switches| (switches.page_rows, switches.list_lag) = (Some(2), 1));
        bed.store.list("").await.unwrap(); // a login that is refused is final, so it comes before the storm
        for length in [LARGE, SMALL, 0, 3 * LARGE] {
            weather(seed).into_iter().for_each(|fault| bed.b2.fault(fault));
            let name = bed.name();
            let bytes = bytes_of(&name, length);
            let journey = async {
                let version = bed.store(&name, &bytes).await?;
                assert!(bed.is_whole(&name, &bytes), "seed {seed}");
                assert_eq!(read(&bed.store, &version, 0..version.bytes).await?, bytes, "seed {seed}");
                bed.store.list("").await?;
                bed.store.delete(&version).await
            };
            let result = journey.await;
            bed.b2.heal();
            // The weather gives 401 to logins too, which is final there.
            let wanted = [None, Some(Kind::Temporary), Some(Kind::Permission)];
            assert!(wanted.contains(&kind(&result)), "seed {seed}: {}", told(&result));
            (good, runs) = (good + usize::from(result.is_ok()), runs + 1);
            bed.store.sweep("", soon()).await.unwrap();
            assert!(bed.b2.unfinished(BUCKET).is_empty(), "seed {seed}");
            bed.is_whole(&name, &bytes);
        }
    }
    assert!(good * 10 >= runs * 8, "only {good} of {runs} ended well");
}
