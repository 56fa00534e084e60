use super::*;
use crate::error::classify;
use futures_util::TryStreamExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

fn store() -> (TempDir, Directory) {
    let place = TempDir::new().unwrap();
    let store = Directory::new(place.path().join("store"));
    (place, store)
}

async fn put(store: &Directory, name: &str, text: &str) -> Result<Version> {
    let mut upload = store.begin(name, &Terms::default()).await?;
    for piece in text.as_bytes().chunks(3) {
        upload.feed(Bytes::copy_from_slice(piece)).await?;
    }
    upload.finish().await
}

async fn names(store: &Directory, prefix: &str) -> Vec<String> {
    store.list(prefix).await.unwrap().into_iter().map(|version| version.name).collect()
}

async fn text(store: &Directory, version: &Version, range: Range<u64>) -> Result<String> {
    let pieces: Vec<Bytes> = store.read(version, range).await?.try_collect().await?;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

fn kind<T>(done: Result<T>) -> Kind {
    match done {
        Ok(_) => panic!("it went through"),
        Err(error) => classify(&error).kind,
    }
}

/// Every file and folder below the store, temporary ones too.
fn everything(store: &Directory) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { 1 + count(&path) } else { 1 }).sum()
    }
    count(&store.root)
}

#[tokio::test]
async fn what_is_stored_is_listed_by_name_and_read_in_ranges() {
    let (_place, store) = store();
    for name in ["hr/2/b", "hr/1/b", "hr/1/a", "hrx/a", "top"] {
        put(&store, name, &format!("text of {name}")).await.unwrap();
    }
    assert_eq!(names(&store, "").await, ["hr/1/a", "hr/1/b", "hr/2/b", "hrx/a", "top"]);
    assert_eq!(names(&store, "hr").await, ["hr/1/a", "hr/1/b", "hr/2/b", "hrx/a"]);
    assert_eq!(names(&store, "hr/").await, ["hr/1/a", "hr/1/b", "hr/2/b"]);
    assert_eq!(names(&store, "hr/1/b").await, ["hr/1/b"]);
    assert_eq!(names(&store, "no/such").await, [""; 0]);
    let found = store.list("hr/1/a").await.unwrap().remove(0);
    assert_eq!((found.bytes, found.is_marker), (14, false));
    assert_eq!(text(&store, &found, 0..14).await.unwrap(), "text of hr/1/a");
    assert_eq!(text(&store, &found, 5..7).await.unwrap(), "of");
    assert_eq!(text(&store, &found, 8..99).await.unwrap(), "hr/1/a");
    assert_eq!(text(&store, &found, 99..100).await.unwrap(), "");
}

#[tokio::test]
async fn nothing_is_seen_before_the_end_and_nothing_is_left_of_what_was_withdrawn() {
    let (_place, store) = store();
    put(&store, "kept", "k").await.unwrap();
    let begin = async |name| {
        let mut upload = store.begin(name, &Terms::default()).await.unwrap();
        upload.feed(Bytes::from_static(b"secret")).await.unwrap();
        upload
    };
    let upload = begin("a/b/c").await;
    assert_eq!(names(&store, "").await, ["kept"]);
    upload.cancel().await;
    assert_eq!(everything(&store), 1);

    let upload = begin("a/b/c").await;
    upload.canceller().await;
    assert_eq!(everything(&store), 1);
    assert_eq!(kind(upload.finish().await), Kind::Temporary);

    let dropped = begin("a/b/c").await;
    let canceller = dropped.canceller();
    drop(dropped);
    canceller.await;
    assert_eq!(everything(&store), 1);

    let finished = begin("done").await;
    let late = finished.canceller();
    finished.finish().await.unwrap();
    late.await;
    assert_eq!(names(&store, "").await, ["done", "kept"]);
}

#[tokio::test]
async fn what_is_there_is_never_replaced() {
    let (_place, store) = store();
    let mut late = store.begin("a", &Terms::default()).await.unwrap();
    late.feed(Bytes::from_static(b"late")).await.unwrap();
    let first = put(&store, "a", "first").await.unwrap();
    assert_eq!(kind(late.finish().await), Kind::Data);
    assert_eq!(kind(put(&store, "a", "second").await), Kind::Data);
    assert_eq!(text(&store, &first, 0..5).await.unwrap(), "first");
    assert_eq!(everything(&store), 1);
}

#[tokio::test]
async fn no_name_leaves_the_directory_and_no_link_is_followed() {
    let (place, store) = store();
    put(&store, "in", "x").await.unwrap();
    for name in ["../out", "a/../../out", "/etc/passwd", "a//b", "", ".", "a/", "a\0b", "a/.part-1"] {
        assert_eq!(kind(put(&store, name, "x").await), Kind::Config, "{name:?}");
        let version = Version { name: name.into(), ..store.list("in").await.unwrap().remove(0) };
        assert_eq!(kind(store.read(&version, 0..1).await), Kind::Config, "{name:?}");
        assert_eq!(kind(store.delete(&version).await), Kind::Config, "{name:?}");
    }
    assert_eq!(kind(store.list("../").await), Kind::Config);

    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    symlink(&outside, store.root.join("link")).unwrap();
    symlink(outside.join("file"), store.root.join("file")).unwrap();
    assert_eq!(names(&store, "").await, ["in"]);
    assert_eq!(kind(store.list("link/").await), Kind::Config);
    assert_eq!(kind(put(&store, "link/new", "x").await), Kind::Config);
    let through = |name: &str| Version {
        name: name.into(),
        id: String::new(),
        bytes: 7,
        stored_at: Timestamp::MIN,
        is_marker: false,
        locked_until: None,
    };
    assert_eq!(kind(store.delete(&through("link/file")).await), Kind::Config);
    assert_eq!(kind(store.read(&through("file"), 0..7).await), Kind::Config);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_deleted_object_is_gone_with_its_empty_folders_and_deleting_it_again_is_no_failure() {
    let (_place, store) = store();
    let one = put(&store, "hr/1/a", "x").await.unwrap();
    let other = put(&store, "hr/2/a", "x").await.unwrap();
    assert_eq!(store.delete(&one).await.unwrap(), Deleted::Gone);
    assert_eq!(store.delete(&one).await.unwrap(), Deleted::WasGone);
    assert_eq!(everything(&store), 3);
    assert_eq!(store.delete(&other).await.unwrap(), Deleted::Gone);
    assert_eq!(everything(&store), 0);
}

#[tokio::test]
async fn old_unfinished_files_are_swept_but_not_those_that_are_being_written() {
    let (_place, store) = store();
    put(&store, "hr/1/a", "x").await.unwrap();
    let mut running = store.begin("hr/1/b", &Terms::default()).await.unwrap();
    running.feed(Bytes::from_static(b"x")).await.unwrap();
    for folder in ["hr/1", "hr"] {
        fs::write(store.root.join(folder).join(".part-0"), "left").unwrap();
    }
    assert_eq!(store.sweep("hr/", Timestamp::UNIX_EPOCH).await.unwrap(), 0);
    assert_eq!(store.sweep("other/", Timestamp::MAX).await.unwrap(), 0);
    assert_eq!(store.sweep("hr/1/", Timestamp::MAX).await.unwrap(), 1);
    assert_eq!(store.sweep("", Timestamp::MAX).await.unwrap(), 1);
    running.finish().await.unwrap();
    assert_eq!(names(&store, "hr/1").await, ["hr/1/a", "hr/1/b"]);
}

#[tokio::test]
async fn a_root_that_nobody_has_made_is_empty_and_one_on_no_disk_is_78() {
    let (place, store) = store();
    assert_eq!(names(&store, "hr/").await, [""; 0]);
    assert_eq!(store.sweep("", Timestamp::MAX).await.unwrap(), 0);
    let lost = Directory::new(place.path().join("not/mounted"));
    assert_eq!(kind(lost.list("hr/").await), Kind::Config);
    fs::write(place.path().join("store"), "a file").unwrap();
    assert_eq!(kind(store.list("").await), Kind::Config);
}

#[tokio::test]
async fn a_file_whose_length_is_not_the_listed_one_is_65() {
    let (_place, store) = store();
    let version = put(&store, "a", "text").await.unwrap();
    fs::write(store.root.join("a"), "tex").unwrap();
    assert_eq!(kind(text(&store, &version, 0..4).await), Kind::Data);
    fs::remove_file(store.root.join("a")).unwrap();
    assert_eq!(kind(text(&store, &version, 0..4).await), Kind::Data);
}

#[tokio::test]
async fn a_full_disk_is_75_and_leaves_nothing() {
    let (_place, store) = store();
    put(&store, "kept", "x").await.unwrap();
    // Every write to /dev/full fails with ENOSPC: the writer gets it in the place of its file.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let begun = upload::Begun::new(&store.root, store.root.join("a"), "a".into()).unwrap();
    let mut upload = begun.writing_to(full).start();
    let mut fed = Ok(());
    for _ in 0..10 {
        fed = upload.feed(Bytes::from_static(b"text")).await;
        if fed.is_err() {
            break;
        }
    }
    let failure = match fed {
        Err(error) => classify(&error),
        Ok(()) => classify(&Box::new(upload).finish().await.unwrap_err()),
    };
    assert_eq!(failure.kind, Kind::Temporary, "{}", failure.what);
    assert_eq!(failure.hint.as_deref(), Some("Free some disk space and run it again."));
    assert_eq!(everything(&store), 1);
}

#[tokio::test]
async fn what_may_not_be_written_or_read_is_77() {
    // SAFETY: always.
    if unsafe { libc::geteuid() } == 0 {
        let failure = classify(&failed(ErrorKind::PermissionDenied.into(), "write", Path::new("a")));
        assert_eq!(failure.kind, Kind::Permission); // root may write anywhere
        return;
    }
    let (_place, store) = store();
    put(&store, "hr/a", "x").await.unwrap();
    let folder = store.root.join("hr");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(kind(put(&store, "hr/b", "x").await), Kind::Permission);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(kind(store.list("hr/").await), Kind::Permission);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn an_object_lock_is_refused_because_a_directory_has_none() {
    let (_place, store) = store();
    let terms = Terms { lock_until: Some((Timestamp::MAX, crate::store::LockMode::Governance)) };
    assert_eq!(kind(store.begin("a", &terms).await), Kind::Config);
    assert_eq!(store.rules("").await.unwrap(), Rules::default());
    assert!(!store.set_rules("", 1).await.unwrap());
}

#[tokio::test]
async fn uploads_and_deletes_in_the_same_folder_do_not_trip_over_each_other() {
    let (_place, store) = store();
    for _ in 0..50 {
        let one = put(&store, "hr/1/a", "x").await.unwrap();
        let (deleted, stored) = tokio::join!(store.delete(&one), put(&store, "hr/1/b", "y"));
        deleted.unwrap();
        store.delete(&stored.unwrap()).await.unwrap();
    }
}
