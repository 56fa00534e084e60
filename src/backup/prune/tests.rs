use super::*;
use crate::backup::inventory::tests::{manifest, put, store_backup, time};
use crate::backup::manifest::Manifest;
use crate::store::directory::Directory;
use crate::store::{LockMode, Rules, Stream, Terms, Upload};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::ops::Range;
use std::sync::Mutex;
use tempfile::TempDir;

const NOW: &str = "2026-11-21T12:00:00Z";

fn day(month: u32, day: u32) -> Timestamp {
    time(&format!("2026-{month:02}-{day:02}T03:00:00Z"))
}

fn keep(days: u32, at_least: u32) -> Keep {
    Keep { days, at_least, daily: 0, weekly: 0, monthly: 0 }
}

fn policies(names: &[&str], keep: Keep) -> Policies {
    names.iter().map(|name| (names::home(Kind::Database, name), keep)).collect()
}

/// Gives every file below `folder` the time in its path, as if it had been stored then.
fn age_files(folder: &std::path::Path) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            age_files(&path);
        } else if let Some(at) =
            path.parent().and_then(|id| id.file_name()).and_then(|id| names::started_at(id.to_str().unwrap()))
        {
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(at.into()).unwrap();
        }
    }
}

struct Bench {
    place: TempDir,
    store: Directory,
}

impl Bench {
    fn new() -> Bench {
        let place = TempDir::new().unwrap();
        let store = Directory::new(place.path());
        Bench { place, store }
    }

    async fn backup(&self, name: &str, at: Timestamp, globals: Option<&str>) -> Manifest {
        let globals = globals.map(str::to_owned);
        let manifest = Manifest { globals, ..manifest(Kind::Database, name, at, 10) };
        store_backup(&self.store, &manifest).await;
        manifest
    }

    async fn globals(&self, at: Timestamp) -> String {
        store_backup(&self.store, &manifest(Kind::Globals, "hr_db", at, 10)).await
    }

    async fn plan(&self, policies: &Policies) -> Plan {
        age_files(self.place.path());
        let inventory = inventory::take(&self.store, "", "default").await.unwrap();
        plan(&inventory, policies, "default", time(NOW))
    }

    async fn names(&self) -> Vec<String> {
        self.store.list("").await.unwrap().into_iter().map(|version| version.name).collect()
    }
}

fn going(plan: &Plan) -> Vec<String> {
    plan.going().map(Item::folder).collect()
}

#[tokio::test]
async fn what_the_policy_lets_go_goes_and_everything_else_is_still_there() {
    let bench = Bench::new();
    for (month, at) in [(9, 1), (9, 2), (11, 19), (11, 20)] {
        bench.backup("hr", day(month, at), None).await;
        bench.backup("records", day(month, at), None).await;
    }
    let dev = Manifest { environment: "dev".into(), ..manifest(Kind::Database, "hr", day(8, 1), 10) };
    store_backup(&bench.store, &dev).await;
    put(&bench.store, "hr/20260101T000000Z-1/manifest.json", b"{\"schema\": 7}").await;
    put(&bench.store, "hr/20260901T030000Z-0a1b2c3d/mine.txt", b"hands off").await;
    put(&bench.store, "other/file", b"hands off").await;
    let before = bench.names().await;
    let plan = bench.plan(&policies(&["hr"], keep(30, 2))).await;
    assert_eq!(going(&plan), ["hr/20260902T030000Z-0a1b2c3d/", "hr/20260901T030000Z-0a1b2c3d/"]);
    let pruned = plan.carry_out(&bench.store, &StopSignal::new()).await.unwrap();
    let expected: u64 = plan.going().map(|item| item.bytes).sum();
    assert_eq!((pruned.bytes, pruned.versions, pruned.folders.len()), (expected, 6, 2));
    let gone = |name: &String| name.starts_with("hr/202609") && !name.ends_with("mine.txt");
    assert_eq!(bench.names().await, before.into_iter().filter(|name| !gone(name)).collect::<Vec<_>>());
}

#[tokio::test]
async fn globals_stay_while_a_backup_that_stays_refers_to_them() {
    let bench = Bench::new();
    let mut folders = Vec::new();
    for (month, at) in [(9, 1), (9, 2), (9, 3), (11, 20)] {
        folders.push(bench.globals(day(month, at)).await);
    }
    bench.backup("hr", day(9, 1), Some(&folders[0])).await;
    bench.backup("unknown", day(9, 3), Some(folders[2].trim_end_matches('/'))).await;
    bench.backup("hr", day(11, 20), Some(&folders[3])).await;
    let policies = policies(&["hr"], keep(30, 1));
    let plan = bench.plan(&policies).await;
    assert_eq!(going(&plan), ["hr/20260901T030000Z-0a1b2c3d/", &folders[1], &folders[0]]);
    put(&bench.store, "unknown/20260101T000000Z-1/manifest.json", b"{\"schema\": 7}").await;
    let plan = bench.plan(&policies).await;
    assert_eq!(going(&plan), ["hr/20260901T030000Z-0a1b2c3d/"]);
}

#[tokio::test]
async fn an_orphan_goes_when_two_days_have_passed_in_the_store_and_not_by_our_clock_alone() {
    let bench = Bench::new();
    let policies = policies(&["hr"], keep(30, 1));
    put(&bench.store, "hr/20261101T030000Z-1/dump.pgc.zstd.age", b"half").await;
    put(&bench.store, "unknown/20261101T030000Z-1/dump.pgc.zstd.age", b"half").await;
    assert_eq!(going(&bench.plan(&policies).await), [""; 0]);
    bench.backup("hr", day(11, 2), None).await;
    assert_eq!(going(&bench.plan(&policies).await), [""; 0]);
    bench.backup("hr", day(11, 20), None).await;
    let plan = bench.plan(&policies).await;
    assert_eq!(going(&plan), ["hr/20261101T030000Z-1/"]);

    // It ends well before its turn comes.
    put(&bench.store, "hr/20261101T030000Z-1/manifest.json", b"{}").await;
    let pruned = plan.carry_out(&bench.store, &StopSignal::new()).await.unwrap();
    assert_eq!((pruned.versions, pruned.revived.len()), (0, 1));
}

/// A store that notes what is deleted, and protects what has this name.
struct Noting<'a> {
    store: &'a Directory,
    locked: &'a str,
    deleted: Mutex<Vec<String>>,
}

impl Store for Noting<'_> {
    fn place(&self) -> String {
        self.store.place()
    }
    fn begin<'a>(&'a self, name: &'a str, terms: &'a Terms) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        self.store.begin(name, terms)
    }
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Version>>> {
        self.store.list(prefix)
    }
    fn read<'a>(&'a self, version: &'a Version, range: Range<u64>) -> BoxFuture<'a, Result<Stream>> {
        self.store.read(version, range)
    }
    fn delete<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Deleted>> {
        async move {
            if version.name.ends_with(self.locked) {
                return Ok(Deleted::Locked(None));
            }
            self.deleted.lock().unwrap().push(version.name.clone());
            self.store.delete(version).await
        }
        .boxed()
    }
    fn sweep<'a>(&'a self, prefix: &'a str, before: Timestamp) -> BoxFuture<'a, Result<usize>> {
        self.store.sweep(prefix, before)
    }
    fn rules<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Rules>> {
        self.store.rules(prefix)
    }
    fn set_rules<'a>(&'a self, prefix: &'a str, keep_days: u32) -> BoxFuture<'a, Result<bool>> {
        self.store.set_rules(prefix, keep_days)
    }

    fn set_default_lock(&self, _: u32, _: LockMode) -> BoxFuture<'_, Result<bool>> {
        unimplemented!("prune sets nothing")
    }
}

#[tokio::test]
async fn a_manifest_goes_first_and_one_that_is_locked_keeps_its_objects() {
    let bench = Bench::new();
    bench.backup("hr", day(9, 1), None).await;
    bench.backup("hr", day(11, 20), None).await;
    let plan = bench.plan(&policies(&["hr"], keep(30, 1))).await;
    let noting = |locked| Noting { store: &bench.store, locked, deleted: Mutex::default() };

    let locked = noting("manifest.json");
    let pruned = plan.carry_out(&locked, &StopSignal::new()).await.unwrap();
    assert_eq!((pruned.locked.len(), pruned.folders.len()), (1, 0));
    assert!(locked.deleted.into_inner().unwrap().is_empty());

    let locked = noting("proof.age");
    let pruned = plan.carry_out(&locked, &StopSignal::new()).await.unwrap();
    assert_eq!((pruned.locked.len(), pruned.bytes), (1, plan.items[1].bytes - 5));
    let deleted = locked.deleted.into_inner().unwrap();
    assert!(
        deleted[0].ends_with("manifest.json") && deleted[1].ends_with("dump.pgc.zstd.age"),
        "{deleted:?}"
    );
}

#[tokio::test]
async fn what_the_store_says_is_locked_is_not_even_tried() {
    let bench = Bench::new();
    bench.backup("hr", day(9, 1), None).await;
    bench.backup("hr", day(11, 20), None).await;
    age_files(bench.place.path());
    let mut inventory = inventory::take(&bench.store, "", "default").await.unwrap();
    let locked_until = Some(time("2026-11-24T12:00:00Z"));
    inventory.backups[1].versions[0].locked_until = locked_until;
    let verdicts = plan(&inventory, &policies(&["hr"], keep(30, 1)), "default", time(NOW)).items;
    assert_eq!(verdicts[1].verdict.why, "older than 30 days, but locked for 3 days more");
    let later = plan(&inventory, &policies(&["hr"], keep(30, 1)), "default", time("2026-11-25T00:00:00Z"));
    assert_eq!(later.going().count(), 1);
}

#[test]
fn of_several_manifests_the_one_that_counts_goes_last_and_before_any_object() {
    let version = |name: &str, id: &str| Version {
        name: format!("hr/1/{name}"),
        id: id.into(),
        bytes: 1,
        stored_at: time(NOW),
        is_marker: id == "marker",
        locked_until: None,
    };
    let listed = [
        version("dump.pgc.zstd.age", "dump"),
        version("manifest.json", "marker"),
        version("manifest.json", "newer"),
        version("manifest.json", "oldest"),
        version("proof.age", "proof"),
    ];
    let order: Vec<String> = manifest_first(&listed).into_iter().map(|version| version.id).collect();
    assert_eq!(order, ["marker", "newer", "oldest", "dump", "proof"]);
}

#[tokio::test]
async fn a_stop_ends_it_between_two_deletes() {
    let bench = Bench::new();
    bench.backup("hr", day(9, 1), None).await;
    bench.backup("hr", day(11, 20), None).await;
    let plan = bench.plan(&policies(&["hr"], keep(30, 1))).await;
    let stop = StopSignal::new();
    stop.request(crate::stop::Reason::Terminated);
    assert!(plan.carry_out(&bench.store, &stop).await.is_err());
    assert_eq!(bench.names().await.len(), 6);
}
