//! The B2 store against a B2 that refuses what B2 refuses, and that fails as B2 fails.

use crate::support::b2::{B2 as StandIn, BucketOptions, Fault, Key, KeySpec, Shape, What};
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sankofa::error::{Kind, classify};
use sankofa::secret::Connection;
use sankofa::store::b2::{B2, Tuning};
use sankofa::store::retry::Pace;
use sankofa::store::{Deleted, LockMode, Store, Terms, Version};
use serde_json::json;
use std::time::Duration;

const BUCKET: &str = "school-backups";
const PART: usize = 40_000;

/// Quick where the real store is patient.
fn brisk() -> Tuning {
    Tuning {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(700),
        slowest_bytes_per_s: 1_000_000,
        pace: Pace { first: Duration::from_millis(2), longest: Duration::from_millis(20), tries: 8 },
        listed_within: Duration::from_secs(2),
        part_bytes: PART as u64,
    }
}

fn stand_in() -> StandIn {
    let b2 = StandIn::start();
    b2.bucket(BUCKET, BucketOptions::default());
    b2.switch(|switches| switches.min_part_bytes = 1000);
    b2
}

fn open_tuned(b2: &StandIn, key: &Key, prefix: Option<&str>, tuning: Tuning) -> B2 {
    let connection = Connection::parse("offsite", &b2.connection_uri(key)).unwrap();
    B2::open_tuned(&connection, BUCKET, prefix, tuning).unwrap()
}

fn open(b2: &StandIn, key: &Key, prefix: Option<&str>) -> B2 {
    open_tuned(b2, key, prefix, brisk())
}

fn open_all(b2: &StandIn) -> B2 {
    open(b2, &b2.key(KeySpec::all()), Some("prod"))
}

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 7 + place / 251) as u8).collect()
}

async fn put_with(store: &B2, name: &str, bytes: &[u8], terms: &Terms) -> anyhow::Result<Version> {
    let mut upload = store.begin(name, terms).await?;
    for piece in bytes.chunks(7_001) {
        if let Err(error) = upload.feed(Bytes::copy_from_slice(piece)).await {
            upload.cancel().await;
            return Err(error);
        }
    }
    upload.finish().await
}

async fn put(store: &B2, name: &str, bytes: &[u8]) -> anyhow::Result<Version> {
    put_with(store, name, bytes, &Terms::default()).await
}

async fn read(store: &B2, version: &Version, range: std::ops::Range<u64>) -> anyhow::Result<Vec<u8>> {
    let pieces: Vec<Bytes> = store.read(version, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn read_all(store: &B2, version: &Version) -> anyhow::Result<Vec<u8>> {
    read(store, version, 0..version.bytes).await
}

fn failed<T>(result: anyhow::Result<T>) -> (Kind, String) {
    let failure = classify(&result.err().expect("it must fail"));
    (failure.kind, format!("{} {}", failure.what, failure.hint.unwrap_or_default()))
}

#[tokio::test]
async fn files_of_every_length_come_back_whole_and_in_any_range() {
    let b2 = stand_in();
    let store = open_all(&b2);
    for length in [0, 1, PART - 1, PART, PART + 1, 5 * PART + 17] {
        let (name, sent) = (format!("hr/{length}"), bytes(length));
        let version = put(&store, &name, &sent).await.unwrap();
        assert_eq!((version.name.as_str(), version.bytes), (name.as_str(), length as u64));
        assert_eq!(b2.bytes(BUCKET, &format!("prod/{name}")), sent);
        assert!(read_all(&store, &version).await.unwrap() == sent, "{length}");
        for range in [0..1, 1..2, length / 2..length, length.saturating_sub(1)..length + 9, length..length] {
            let expected = &sent[range.start.min(length)..range.end.min(length).max(range.start.min(length))];
            let got = read(&store, &version, range.start as u64..range.end as u64).await.unwrap();
            assert!(got == expected, "{length} {range:?}");
        }
    }
    assert_eq!(b2.count("b2_start_large_file"), 2, "only what is longer than a part is a large file");
    assert_eq!(b2.unfinished(BUCKET), [""; 0]);
}

#[tokio::test]
async fn odd_names_arrive_as_they_are_and_bad_ones_are_refused_here() {
    let b2 = stand_in();
    let store = open_all(&b2);
    for name in ["a b+c%2B/\u{fc}\u{1f408}", "x/.dot", "~tilde*'(),;=@&$!"] {
        for length in [10, 2 * PART] {
            let version = put(&store, name, &bytes(length)).await.unwrap();
            assert_eq!(version.name, name);
            assert_eq!(read_all(&store, &version).await.unwrap(), bytes(length));
        }
        assert_eq!(store.list(name).await.unwrap().len(), 2);
    }
    let (kind, told) = failed(store.begin("a//b", &Terms::default()).await.map(drop));
    assert!(kind == Kind::Config && told.contains("empty segment"), "{told}");
}

/// Every call that a day's work makes: two uploads, list, reads, delete, sweep, rules.
async fn days_work(store: &B2) -> anyhow::Result<()> {
    let (small, large) = (bytes(1000), bytes(4 * PART + 5));
    let begun = Timestamp::now() + Duration::from_secs(3600);
    let small_version = put(store, "hr/manifest.json", &small).await?;
    let large_version = put(store, "hr/dump", &large).await?;
    let listed = store.list("hr/").await?;
    anyhow::ensure!(listed == [large_version.clone(), small_version.clone()], "{listed:?}");
    anyhow::ensure!(read_all(store, &small_version).await? == small, "other small bytes");
    anyhow::ensure!(
        read(store, &large_version, 5..large.len() as u64).await? == large[5..],
        "other large bytes"
    );
    anyhow::ensure!(store.sweep("hr/", begun).await? == 0, "something was swept");
    store.set_rules("hr/", 7).await?;
    anyhow::ensure!(store.rules("hr/").await?.drops_hidden_after_days == Some(7), "rules not set");
    anyhow::ensure!(store.delete(&small_version).await? == Deleted::Gone, "not deleted");
    anyhow::ensure!(store.delete(&large_version).await? == Deleted::Gone, "not deleted");
    Ok(())
}

const CALLS: [&str; 14] = [
    "b2_authorize_account",
    "b2_list_buckets",
    "b2_update_bucket",
    "b2_get_upload_url",
    "b2_get_upload_part_url",
    "b2_upload_file",
    "b2_upload_part",
    "b2_start_large_file",
    "b2_finish_large_file",
    "b2_list_file_versions",
    "b2_list_unfinished_large_files",
    "b2_delete_file_version",
    "b2_download_file_by_id",
    "*",
];

#[tokio::test]
async fn a_days_work_is_done_whatever_goes_wrong_once_at_any_call() {
    let answer = |status, code: &str| What::Answer { status, code: code.into(), retry_after: None };
    let faults = [
        answer(503, "service_unavailable"),
        answer(500, "internal_error"),
        answer(408, "request_timeout"),
        What::Answer { status: 429, code: "too_many_requests".into(), retry_after: Some("3600".into()) },
        answer(401, "expired_auth_token"),
        What::EarlyAnswer { status: 503, code: "service_unavailable".into() },
        What::NotJson { status: 502 },
        What::ResetBefore,
        What::Reset,
        What::LostAnswer,
    ];
    let b2 = stand_in();
    let logged_in = open_all(&b2); // a client is slow to make: it reads the certificates of the machine
    for (call, fault) in CALLS.iter().flat_map(|call| faults.iter().map(move |fault| (call, fault))) {
        let is_final = *call == "b2_authorize_account" && matches!(fault, What::Answer { status: 401, .. });
        if is_final || *call == "*" && matches!(fault, What::Answer { status: 401, .. }) {
            continue; // a login that is refused is refused
        }
        b2.heal();
        let name = if *call == "*" { "the first call" } else { call };
        b2.fault(Fault::on(call).nth(1).does(fault.clone()));
        let fresh = (*call == "b2_authorize_account").then(|| open_all(&b2));
        let done = days_work(fresh.as_ref().unwrap_or(&logged_in)).await;
        assert!(done.is_ok(), "{name} {fault:?}: {:#}", done.unwrap_err());
        assert_eq!(b2.unfinished(BUCKET), [""; 0], "{name} {fault:?}");
        assert_eq!(b2.versions(BUCKET), [], "{name} {fault:?}: a file was stored twice");
    }
}

#[tokio::test]
async fn who_stalls_or_trickles_is_left_and_asked_again() {
    let b2 = stand_in();
    let hasty = Tuning { idle: Duration::from_millis(200), ..brisk() };
    let store = open_tuned(&b2, &b2.key(KeySpec::all()), Some("prod"), hasty);
    let faults = [What::Stall, What::StallAfter, What::Trickle(20), What::TrickleIn(100)];
    let calls = ["b2_upload_part", "b2_upload_file", "b2_finish_large_file", "b2_download_file_by_id"];
    for fault in faults {
        b2.heal();
        calls.iter().for_each(|call| b2.fault(Fault::on(call).nth(1).does(fault.clone())));
        days_work(&store).await.unwrap_or_else(|error| panic!("{fault:?}: {error:#}"));
        assert_eq!((b2.unfinished(BUCKET).len(), b2.versions(BUCKET).len()), (0, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn storms_are_weathered_and_endless_ones_given_up_with_nothing_left_behind() {
    let b2 = stand_in();
    let store = open_all(&b2);
    for (status, code) in
        [(503, "service_unavailable"), (429, "too_many_requests"), (401, "expired_auth_token")]
    {
        b2.heal();
        b2.fault(Fault::on("b2_upload_part").first(9).answers(status, code));
        b2.fault(Fault::on("b2_upload_part").nth(11).does(What::Reset));
        put(&store, "hr/storm", &bytes(12 * PART)).await.unwrap();
        b2.heal();
        b2.fault(Fault::on("b2_upload_part").from(3).answers(status, code));
        let (kind, told) = failed(put(&store, "hr/endless", &bytes(12 * PART)).await);
        assert_eq!(kind, Kind::Temporary, "{told}");
        assert!(told.contains("cannot store part "), "{told}");
        assert_eq!(b2.unfinished(BUCKET), [""; 0]);
    }
    assert!(b2.versions(BUCKET).iter().all(|version| version.name == "prod/hr/storm"));
}

#[tokio::test]
async fn a_cap_in_the_middle_ends_the_upload_at_once_and_cancels_it() {
    let b2 = stand_in();
    let store = open_all(&b2);
    for (code, kind) in
        [("storage_cap_exceeded", Kind::Permission), ("transaction_cap_exceeded", Kind::Temporary)]
    {
        b2.heal();
        b2.fault(Fault::on("b2_upload_part").from(4).answers(403, code));
        b2.forget_seen();
        let failure = failed(put(&store, "hr/dump", &bytes(9 * PART)).await);
        assert!(failure.0 == kind && failure.1.contains("cap of the B2 account"), "{}", failure.1);
        assert!(b2.count("b2_upload_part") <= 6, "a cap is no reason to try again");
        assert_eq!(b2.unfinished(BUCKET), [""; 0]);
    }
}

#[tokio::test]
async fn tokens_and_upload_urls_that_die_in_mid_upload_are_replaced() {
    let b2 = stand_in();
    let store = open_all(&b2);
    let sent = bytes(9 * PART);
    let mut upload = store.begin("hr/dump", &Terms::default()).await.unwrap();
    for (number, piece) in sent.chunks(PART / 2).enumerate() {
        match number {
            4 => b2.expire_tokens(),
            7 => b2.kill_upload_urls(),
            11 => b2.advance(Duration::from_secs(25 * 3600)),
            _ => (),
        }
        upload.feed(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    b2.expire_tokens();
    let version = upload.finish().await.unwrap();
    assert_eq!(read_all(&store, &version).await.unwrap(), sent);
    assert!(b2.count("b2_authorize_account") <= 4, "one login for all who need one");
}

#[tokio::test]
async fn many_who_need_a_new_token_at_once_log_in_once() {
    let b2 = stand_in();
    let store = open_all(&b2);
    store.list("").await.unwrap();
    b2.expire_tokens();
    let all = (0..20).map(|_| store.list("hr/"));
    for listed in futures_util::future::join_all(all).await {
        listed.unwrap();
    }
    assert_eq!(b2.count("b2_authorize_account"), 2);
}

#[tokio::test]
async fn an_upload_url_never_has_two_uploads_and_two_parts_at_most_are_on_their_way() {
    let b2 = stand_in();
    let store = open_all(&b2);
    b2.fault(Fault::on("b2_upload_part").does(What::Late(Duration::from_millis(20))));
    put(&store, "hr/dump", &bytes(12 * PART)).await.unwrap();
    assert_eq!((b2.peak_uploads(), b2.count("b2_get_upload_part_url")), (2, 2));
}

#[tokio::test]
async fn while_b2_stands_still_three_parts_are_held_and_no_more_is_taken() {
    let b2 = stand_in();
    let patient = Tuning { idle: Duration::from_secs(60), ..brisk() };
    let store = open_tuned(&b2, &b2.key(KeySpec::all()), None, patient);
    b2.fault(Fault::on("b2_upload_part").does(What::Stall));
    let mut upload = store.begin("hr/dump", &Terms::default()).await.unwrap();
    let mut taken = 0;
    loop {
        let fed = upload.feed(Bytes::from(vec![0; 1000]));
        match tokio::time::timeout(Duration::from_millis(300), fed).await {
            Ok(fed) => fed.unwrap(),
            Err(_) => break,
        }
        taken += 1000;
    }
    assert_eq!(taken, 3 * PART);
    upload.cancel().await;
    assert_eq!(b2.unfinished(BUCKET), [""; 0]);
}

#[tokio::test]
async fn a_finish_whose_answer_is_lost_is_found_even_when_the_list_lags() {
    let b2 = stand_in();
    b2.switch(|switches| switches.list_lag = 3);
    let store = open_all(&b2);
    for what in [What::LostAnswer, What::StallAfter] {
        b2.heal();
        b2.fault(Fault::on("b2_finish_large_file").nth(1).does(what));
        let version = put(&store, "hr/dump", &bytes(3 * PART)).await.unwrap();
        assert_eq!(read_all(&store, &version).await.unwrap(), bytes(3 * PART));
    }
    assert_eq!(b2.versions(BUCKET).len(), 2);
    assert_eq!(b2.count("b2_start_large_file"), 2, "nothing was sent a second time");
}

#[tokio::test]
async fn a_file_that_is_acknowledged_and_never_listed_is_no_success() {
    let b2 = stand_in();
    let hasty = Tuning { listed_within: Duration::from_millis(200), ..brisk() };
    let store = open_tuned(&b2, &b2.key(KeySpec::all()), Some("prod"), hasty);
    b2.switch(|switches| switches.list_lag = 1000);
    for length in [10, 3 * PART] {
        let (kind, told) = failed(put(&store, "hr/dump", &bytes(length)).await);
        assert!(kind == Kind::Temporary && told.contains("does not list it"), "{told}");
    }
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing_whoever_cancels_it() {
    let b2 = stand_in();
    let store = open_all(&b2);
    for is_signal in [true, false] {
        let mut upload = store.begin("hr/dump", &Terms::default()).await.unwrap();
        let canceller = upload.canceller();
        upload.feed(Bytes::from(bytes(4 * PART))).await.unwrap();
        assert_eq!(b2.unfinished(BUCKET), ["prod/hr/dump"]);
        if is_signal {
            canceller.await;
            assert!(upload.feed(Bytes::from(bytes(4 * PART))).await.is_err());
        }
        upload.cancel().await;
        assert_eq!((b2.unfinished(BUCKET).len(), b2.versions(BUCKET).len()), (0, 0));
    }
}

#[tokio::test]
async fn a_sweep_cancels_what_is_old_and_below_its_prefix_and_nothing_else() {
    let b2 = stand_in();
    b2.switch(|switches| switches.page_rows = Some(1));
    let store = open_all(&b2);
    let other = open(&b2, &b2.key(KeySpec::all()), None);
    for (store, name) in [(&store, "hr/a"), (&store, "hr/b"), (&store, "records/a"), (&other, "other/hr/a")] {
        let mut upload = store.begin(name, &Terms::default()).await.unwrap();
        upload.feed(Bytes::from(bytes(3 * PART))).await.unwrap();
    }
    let (past, future) =
        (Timestamp::now() - Duration::from_secs(3600), Timestamp::now() + Duration::from_secs(3600));
    assert_eq!(store.sweep("hr/", past).await.unwrap(), 0);
    assert_eq!(store.sweep("hr/", future).await.unwrap(), 2);
    let mut left = b2.unfinished(BUCKET);
    left.sort();
    assert_eq!(left, ["other/hr/a", "prod/records/a"]);
}

#[tokio::test]
async fn a_list_has_every_version_and_marker_in_pages_of_one_row_among_things_unheard_of() {
    let b2 = stand_in();
    b2.switch(|switches| (switches.page_rows, switches.has_unknowns) = (Some(1), true));
    let store = open_all(&b2);
    for name in ["hr/a", "hr/b", "hr/a", "hrx", "records/a"] {
        put(&store, name, name.as_bytes()).await.unwrap();
    }
    let listed = store.list("hr/").await.unwrap();
    let names: Vec<&str> = listed.iter().map(|version| version.name.as_str()).collect();
    assert_eq!(names, ["hr/a", "hr/a", "hr/b"]);
    assert!(listed[0].id != listed[1].id && listed[0].stored_at >= listed[1].stored_at);
    assert_eq!(store.list("").await.unwrap().len(), 5);
    assert_eq!(store.list("nothing/").await.unwrap(), []);
}

#[tokio::test]
async fn wrong_bytes_of_a_small_file_are_fetched_again_and_a_damaged_file_is_told() {
    let b2 = stand_in();
    let store = open_all(&b2);
    let version = put(&store, "hr/manifest.json", &bytes(1000)).await.unwrap();
    b2.fault(Fault::on("b2_download_file_by_id").first(2).does(What::FlipByte(500)));
    assert_eq!(read_all(&store, &version).await.unwrap(), bytes(1000));
    b2.heal();
    b2.damage(BUCKET, "prod/hr/manifest.json", |bytes| bytes[3] ^= 1);
    let (kind, told) = failed(read_all(&store, &version).await);
    assert!(kind == Kind::Data && told.contains("SHA-1"), "{told}");
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_and_takes_no_other_range_for_its_own() {
    let b2 = stand_in();
    let store = open_all(&b2);
    let sent = bytes(6 * PART);
    let version = put(&store, "hr/dump", &sent).await.unwrap();
    let faults =
        [What::Truncate(50_000), What::ShiftRange(1), What::IgnoreRange, What::Resize(-1), What::Resize(1)];
    for fault in faults {
        b2.heal();
        b2.fault(Fault::on("b2_download_file_by_id").first(3).does(fault.clone()));
        b2.forget_seen();
        let got = read(&store, &version, 10..version.bytes).await;
        assert!(got.unwrap_or_else(|error| panic!("{fault:?}: {error:#}")) == sent[10..], "{fault:?}");
        if matches!(fault, What::Truncate(_)) {
            let ranges: Vec<String> = b2.seen().iter().map(|call| call.headers["range"].clone()).collect();
            assert_eq!(ranges[..2], ["bytes=10-239999", "bytes=50010-239999"]);
        }
    }
    b2.heal();
    b2.fault(Fault::on("b2_download_file_by_id").does(What::Truncate(0)));
    assert_eq!(failed(read(&store, &version, 10..20_000).await).0, Kind::Temporary);
}

#[tokio::test]
async fn a_version_that_is_gone_was_gone_and_a_locked_one_is_locked() {
    let b2 = stand_in();
    b2.drop_bucket(BUCKET);
    b2.bucket(BUCKET, BucketOptions { has_lock: true, ..BucketOptions::default() });
    let store = open_all(&b2);
    let until = Timestamp::from_second(Timestamp::now().as_second() + 1000).unwrap();
    let mut locked = Vec::new();
    for (length, mode) in [(10, LockMode::Governance), (3 * PART, LockMode::Compliance)] {
        let terms = Terms { lock_until: Some((until, mode)) };
        let version = put_with(&store, "hr/locked", &bytes(length), &terms).await.unwrap();
        assert_eq!(version.locked_until, Some(until));
        for is_400 in [true, false] {
            b2.switch(|switches| switches.locked_is_400 = is_400);
            assert_eq!(store.delete(&version).await.unwrap(), Deleted::Locked(Some(until)));
        }
        locked.push(version);
    }
    b2.advance(Duration::from_secs(2000));
    for version in locked {
        assert_eq!(store.delete(&version).await.unwrap(), Deleted::Gone);
        assert_eq!(store.delete(&version).await.unwrap(), Deleted::WasGone);
        assert_eq!(failed(read_all(&store, &version).await).0, Kind::Data);
    }
}

#[tokio::test]
async fn a_lock_in_a_bucket_without_object_lock_is_config() {
    let b2 = stand_in();
    let store = open_all(&b2);
    let terms =
        Terms { lock_until: Some((Timestamp::now() + Duration::from_secs(1000), LockMode::Governance)) };
    for length in [10, 3 * PART] {
        let (kind, told) = failed(put_with(&store, "hr/a", &bytes(length), &terms).await);
        assert!(kind == Kind::Config && told.contains("Object Lock"), "{told}");
    }
}

#[tokio::test]
async fn each_missing_right_is_named_and_a_backup_needs_no_right_to_delete() {
    let b2 = stand_in();
    let backup = KeySpec::new(&["writeFiles", "listFiles", "listBuckets"]).bucket(BUCKET).prefix("prod/");
    let store = open(&b2, &b2.key(backup), Some("prod"));
    let version = put(&store, "hr/dump", &bytes(3 * PART)).await.unwrap();
    put(&store, "hr/manifest.json", &bytes(10)).await.unwrap();
    assert_eq!(store.list("").await.unwrap().len(), 2);
    assert_eq!(store.sweep("hr/", Timestamp::now()).await.unwrap(), 0);
    let terms = Terms { lock_until: Some((Timestamp::now() + Duration::from_secs(9), LockMode::Governance)) };
    let refused = [
        (failed(store.delete(&version).await), "deleteFiles"),
        (failed(read_all(&store, &version).await), "readFiles"),
        (failed(store.set_rules("", 1).await), "writeBuckets"),
        (failed(store.begin("hr/x", &terms).await.map(drop)), "writeFileRetentions"),
    ];
    for ((kind, told), right) in refused {
        assert!(kind == Kind::Permission && told.contains(right), "{right}: {told}");
    }
    let rules = store.rules("").await.unwrap();
    assert!(rules.unknown.iter().any(|unknown| unknown.contains("readBucketRetentions")), "{rules:?}");
    let nothing = open(&b2, &b2.key(KeySpec::new(&["shareFiles"]).bucket(BUCKET)), None);
    assert!(nothing.rules("").await.unwrap().unknown[0].contains("listBuckets"));
    assert!(failed(nothing.list("").await).1.contains("listFiles"));
    assert!(failed(nothing.begin("a", &Terms::default()).await.map(drop)).1.contains("writeFiles"));
}

#[tokio::test]
async fn a_key_of_several_buckets_or_of_one_prefix_works_there_and_is_told_elsewhere() {
    let b2 = stand_in();
    b2.bucket("other-bucket", BucketOptions::default());
    let both = b2.key(KeySpec::all().bucket("other-bucket").bucket(BUCKET));
    put(&open(&b2, &both, None), "hr/a", b"x").await.unwrap();
    assert_eq!(b2.count("b2_list_buckets"), 0, "the login says the bucket's id");
    let other = b2.key(KeySpec::all().bucket("other-bucket"));
    let (kind, told) = failed(put(&open(&b2, &other, None), "hr/a", b"x").await);
    assert!(kind == Kind::Permission && told.contains("bound to other-bucket"), "{told}");
    let bound = open(&b2, &b2.key(KeySpec::all().bucket(BUCKET).prefix("prod/hr/")), Some("prod"));
    put(&bound, "hr/a", b"x").await.unwrap();
    assert_eq!(bound.list("hr/").await.unwrap().len(), 1);
    for refused in [failed(put(&bound, "records/a", b"x").await), failed(bound.list("").await)] {
        assert!(refused.0 == Kind::Permission && refused.1.contains("prod/hr/"), "{}", refused.1);
    }
    let free = open(&b2, &b2.key(KeySpec::all()), Some("nowhere"));
    assert_eq!(free.list("").await.unwrap(), []);
}

#[tokio::test]
async fn the_login_of_version_three_will_do_too() {
    let b2 = stand_in();
    b2.switch(|switches| switches.shape = Shape::V3);
    days_work(&open(&b2, &b2.key(KeySpec::all().bucket(BUCKET).prefix("prod/")), Some("prod")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_key_a_revoked_one_and_a_bucket_that_is_not_there_are_told_and_no_secret_with_them() {
    let b2 = stand_in();
    let key = b2.key(KeySpec::all());
    let wrong = Key { id: key.id.clone(), secret: "MARK-not-this".into() };
    let (kind, told) = failed(open(&b2, &wrong, None).list("").await);
    assert!(kind == Kind::Permission && !told.contains("MARK") && told.contains("offsite"), "{told}");
    let store = open(&b2, &key, None);
    store.list("").await.unwrap();
    b2.revoke(&key);
    let (kind, told) = failed(store.list("").await);
    assert!(kind == Kind::Permission && !told.contains(&key.secret), "{told}");
    let (store, id) = (open_all(&b2), b2.key(KeySpec::all()));
    put(&store, "hr/a", b"x").await.unwrap();
    b2.drop_bucket(BUCKET);
    for told in [failed(put(&store, "hr/b", b"x").await), failed(open(&b2, &id, None).list("").await)] {
        assert!(told.0 == Kind::Config && told.1.contains(BUCKET), "{}", told.1);
    }
}

#[tokio::test]
async fn rules_are_read_and_set_without_touching_those_of_others_and_a_conflict_is_read_again() {
    let b2 = stand_in();
    b2.drop_bucket(BUCKET);
    let lifecycle = json!([
        {"fileNamePrefix": "other/", "daysFromUploadingToHiding": 3, "daysFromHidingToDeleting": 1,
            "daysFromStartingToCancelingUnfinishedLargeFiles": null},
        {"fileNamePrefix": "prod/", "daysFromUploadingToHiding": 30, "daysFromHidingToDeleting": 1,
            "daysFromStartingToCancelingUnfinishedLargeFiles": null}
    ]);
    b2.bucket(BUCKET, BucketOptions { has_lock: true, default_lock: Some(("compliance", 14)), lifecycle });
    let store = open_all(&b2);
    let before = store.rules("").await.unwrap();
    assert_eq!((before.expires_after_days, before.drops_unfinished_after_days), (Some(30), None));
    assert_eq!((before.can_lock, before.default_lock), (true, Some((14, LockMode::Compliance))));
    b2.fault(Fault::on("b2_update_bucket").nth(1).answers(409, "conflict"));
    b2.fault(Fault::on("b2_update_bucket").nth(1).does(What::LostAnswer));
    assert!(store.set_rules("", 30).await.unwrap());
    let after = store.rules("").await.unwrap();
    assert_eq!((after.expires_after_days, after.drops_hidden_after_days), (None, Some(30)));
    assert_eq!((after.drops_unfinished_after_days, after.unknown.len()), (Some(1), 0));
    assert_eq!(b2.bucket_json(BUCKET)["lifecycleRules"][0]["daysFromUploadingToHiding"], 3);
    let revision = b2.bucket_json(BUCKET)["revision"].clone();
    assert!(store.set_rules("", 30).await.unwrap());
    assert_eq!(b2.bucket_json(BUCKET)["revision"], revision, "what is right is not written again");
}

#[tokio::test]
async fn a_rule_that_covers_more_than_ours_is_left_alone_and_named() {
    let b2 = stand_in();
    b2.drop_bucket(BUCKET);
    let lifecycle = json!([{"fileNamePrefix": "", "daysFromUploadingToHiding": 30,
        "daysFromHidingToDeleting": 1, "daysFromStartingToCancelingUnfinishedLargeFiles": null}]);
    b2.bucket(BUCKET, BucketOptions { lifecycle, ..BucketOptions::default() });
    let (kind, told) = failed(open_all(&b2).set_rules("", 30).await);
    assert!(kind == Kind::Config && told.contains("\"prod/\""), "{told}");
    open(&b2, &b2.key(KeySpec::all()), None).set_rules("", 30).await.unwrap();
    assert_eq!(b2.bucket_json(BUCKET)["lifecycleRules"][0]["daysFromUploadingToHiding"], json!(null));
}

#[tokio::test]
async fn the_default_lock_is_set_where_object_lock_is_and_never_enabled() {
    let b2 = stand_in();
    let store = open_all(&b2);
    let (kind, told) = failed(store.set_default_lock(30, LockMode::Governance).await);
    assert!(kind == Kind::Config && told.contains("not enabled"), "{told}");
    b2.drop_bucket(BUCKET);
    b2.bucket(BUCKET, BucketOptions { has_lock: true, ..BucketOptions::default() });
    let store = open_all(&b2);
    assert!(store.set_default_lock(30, LockMode::Governance).await.unwrap());
    assert_eq!(store.rules("").await.unwrap().default_lock, Some((30, LockMode::Governance)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_temporary() {
    let b2 = stand_in();
    let store = open_all(&b2);
    drop(b2);
    let (kind, told) = failed(store.list("").await);
    assert!(kind == Kind::Temporary && told.contains("no answer"), "{told}");
}
