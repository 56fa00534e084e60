//! Restores on real servers: what comes back, what is refused, what is left when it is stopped.

use crate::stored::*;
use crate::support::*;
use sankofa::backup::inventory;
use sankofa::backup::restore::spool::Spool;
use sankofa::backup::restore::verify::verify;
use sankofa::backup::seal::Identities;
use sankofa::error::classify;
use sankofa::store::Store;
use sankofa::store::directory::Directory;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tables of every kind of thing that hangs on a table.
const SMALL: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE person (id serial PRIMARY KEY, name text NOT NULL, feels mood, big bigint GENERATED ALWAYS AS (id * 2) STORED);
CREATE INDEX person_name ON person (name);
CREATE TRIGGER t BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE visit (id int GENERATED ALWAYS AS IDENTITY, person int REFERENCES person, at timestamptz);
CREATE TABLE part (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (500);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (500) TO (1000);
CREATE SCHEMA other; CREATE TABLE other.note (t text);
INSERT INTO person (name, feels) SELECT 'p' || g, 'ok' FROM generate_series(1, 300) g;
INSERT INTO visit (person, at) SELECT 1 + g % 300, now() FROM generate_series(1, 1000) g;
INSERT INTO part SELECT g, md5(g::text) FROM generate_series(0, 999) g;
INSERT INTO other.note VALUES ('it''s'), (NULL), ('');
SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex'));
COMMENT ON TABLE person IS 'people';";

/// So that a restore takes a moment.
const MORE: &str =
    "INSERT INTO part SELECT g % 1000, repeat(md5(g::text), 3) FROM generate_series(1, 60000) g";

async fn small(server: &Server) -> Stored {
    let source = server.fresh_database("small").await;
    source.sql(SMALL).await;
    Stored::of(source).await
}

async fn databases(server: &Server) -> Vec<String> {
    let sql = "SELECT datname FROM pg_database ORDER BY 1";
    let client = server.connect().await;
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_three_real_databases_come_back_on_another_cluster_and_their_own_dumps_are_equal() {
    let (from, to) = (Server::major(16), Server::new(16).start());
    for which in Real::ALL {
        let Some(source) = from.real_database(which).await else { return };
        let stored = Stored::of(source).await;
        let done = stored.restore(&to, "back", &[]).await.succeeds();
        let told = done.json();
        assert_eq!(told["proven"], true, "{}", done.told());
        assert_eq!(told["rows"].as_u64(), Some(stored.rows()), "{}", done.told());
        let back = to.existing("back");
        assert_eq!(definition_and_rows(&back), definition_and_rows(&stored.source), "{which:?}");
    }
}

#[tokio::test]
async fn a_database_of_one_major_comes_back_on_a_newer_one_but_not_on_an_older_one() {
    let stored = small(&Server::major(16)).await;
    let to = Server::major(18);
    stored.restore(&to, "newer", &["--jobs", "3"]).await.succeeds();
    assert_eq!(to.existing("newer").value("SELECT count(*) FROM visit").await, "1000");
    let older = stored.restore(&Server::major(15), "older", &[]).await.exits(78);
    assert!(older.stderr.contains("the server is PostgreSQL 15"), "{}", older.told());
}

#[tokio::test]
async fn a_backup_of_each_major_comes_back_on_the_newest_by_its_own_pg_restore() {
    let to = Server::major(18);
    for major in CLIENT_MAJORS.into_iter().filter(|major| has_clients(*major)) {
        let stored = small(&Server::major(major)).await;
        let done = stored.restore(&to, &format!("of_{major}"), &[]).await.succeeds();
        assert_eq!(
            (&done.json()["proven"], done.json()["rows"].as_u64()),
            (&true.into(), Some(stored.rows()))
        );
        drop(to.existing(&format!("of_{major}")));
    }
}

#[tokio::test]
async fn a_database_that_restore_makes_has_the_settings_and_the_comment_of_its_source() {
    let source = Server::major(16).fresh_database("settings").await;
    let name = source.name().to_owned();
    source
        .sql(&format!(
            "ALTER DATABASE {name} SET search_path TO other, public; COMMENT ON DATABASE {name} IS 'it''s'"
        ))
        .await;
    source.sql("CREATE TABLE public.t (id int)").await;
    let stored = Stored::of(source).await;
    let to = Server::major(17);
    stored.restore(&to, "with settings", &[]).await.succeeds();
    let back = to.existing("with settings");
    assert_eq!(back.value("SHOW search_path").await, "other, public");
    let comment =
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    assert_eq!(back.value(comment).await, "it's");
}

#[tokio::test]
async fn a_given_database_is_marked_while_it_is_filled_and_has_its_comment_back_afterwards() {
    let stored = small(&Server::major(16)).await;
    let given = Server::major(17).fresh_database("given").await;
    let comment = format!(
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '-') FROM pg_database WHERE datname = '{}'",
        given.name()
    );
    given.sql(&format!("COMMENT ON DATABASE {} IS 'mine'", given.name())).await;
    let other = given.server().fresh_database("watcher").await;
    let running = stored.start(given.server(), given.name(), &[]);
    let mut seen = Vec::new();
    let watch = async {
        while !seen.iter().any(|text: &String| text.contains("do not use it")) {
            seen.push(other.value(&comment).await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), watch).await.expect("a marker");
    running.wait().await.succeeds();
    assert_eq!(seen.first().map(String::as_str), Some("mine"));
    assert_eq!(other.value(&comment).await, "mine");
    assert_eq!(given.value("SELECT count(*) FROM person").await, "300");
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_refused_and_left_as_it_was() {
    let stored = small(&Server::major(16)).await;
    let full = Server::major(17).fresh_database("full").await;
    full.sql("CREATE TABLE mine (id int)").await;
    let refused = stored.restore(full.server(), full.name(), &[]).await.exits(78);
    assert!(refused.stderr.contains("it is not empty (1 objects)"), "{}", refused.told());
    stored.restore(full.server(), full.name(), &["--not-empty"]).await.succeeds();
    assert_eq!(full.value("SELECT count(*) FROM person").await, "300");
    let again = stored.restore(full.server(), full.name(), &["--not-empty"]).await.exits(78);
    assert!(
        again.stderr.contains("there already") && again.stderr.contains("public.person"),
        "{}",
        again.told()
    );
    assert_eq!(full.value("SELECT count(*) FROM person").await, "300");
}

#[tokio::test]
async fn the_source_itself_is_refused_unless_told_so_twice_and_then_gets_a_lost_table_back() {
    let stored = small(&Server::major(16)).await;
    let (server, name) = (stored.source.server().clone(), stored.source.name().to_owned());
    stored.source.sql("DROP TABLE visit").await;
    let table = ["--table", "public.visit"];
    for told in [&[][..], &["--not-empty"], &["--not-empty", "--over-source", "other"]] {
        let refused = stored.restore(&server, &name, &[&table, told].concat()).await.exits(78);
        assert!(refused.stderr.contains("the very database"), "{}", refused.told());
    }
    let once =
        stored.restore(&server, &name, &["--table", "public.visit", "--over-source", &name]).await.exits(78);
    assert!(once.stderr.contains("it is not empty"), "{}", once.told());
    let twice = [&table[..], &["--not-empty", "--over-source", &name]].concat();
    let done = stored.restore(&server, &name, &twice).await.succeeds();
    assert_eq!(stored.source.value("SELECT count(*) FROM visit").await, "1000");
    assert!(done.stdout.contains("visit_person_fkey"), "{}", done.told());
}

#[tokio::test]
async fn a_table_comes_back_with_all_that_hangs_on_it_and_nothing_else() {
    let stored = small(&Server::major(16)).await;
    let to = Server::major(17);
    stored.restore(&to, "one_table", &["--table", "public.person"]).await.succeeds();
    let back = to.existing("one_table");
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    assert_eq!(back.value(tables).await, "person");
    let parts = "SELECT (SELECT count(*) FROM pg_indexes WHERE tablename = 'person') || ' ' || (SELECT count(*) FROM pg_trigger
        WHERE tgname = 't') || ' ' || (SELECT last_value FROM person_id_seq) || ' ' || obj_description('person'::regclass)";
    assert_eq!(back.value(parts).await, "2 1 300 people");
    stored.restore(&to, "parts", &["--table", "public.part"]).await.succeeds();
    assert_eq!(to.existing("parts").value("SELECT count(*) FROM part").await, "1000");
    stored.restore(&to, "one_schema", &["--schema", "other"]).await.succeeds();
    assert_eq!(to.existing("one_schema").value("SELECT count(*) FROM other.note").await, "3");
    let none = stored.restore(&to, "none", &["--table", "public.persn"]).await.exits(2);
    assert!(none.stderr.contains("Did you mean public.person?"), "{}", none.told());
}

#[tokio::test]
async fn roles_and_extensions_that_are_missing_are_named_before_anything_is_written() {
    let (from, to) = (Server::major(16), Server::new(16).start());
    let (owner, reader) = (from.role("own", "").await, from.role("read", "").await);
    let source = from.fresh_database("needs").await;
    source.sql(&format!("CREATE EXTENSION hstore; CREATE TABLE t (h hstore); ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO {reader}")).await;
    let stored = Stored::of(source).await;
    let before = databases(&to).await;
    let refused = stored.restore(&to, "back", &[]).await.exits(78);
    assert!(refused.stderr.contains(&owner) && refused.stderr.contains(&reader), "{}", refused.told());
    assert!(refused.stderr.contains("--with-globals"), "{}", refused.told());
    assert_eq!(databases(&to).await, before);
    stored.restore(&to, "back", &["--no-owner"]).await.succeeds();
    assert_eq!(to.existing("back").value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn wrong_missing_and_additional_identities_are_told_apart() {
    let stored = small(&Server::major(16)).await;
    let to = Server::major(17);
    let (wrong, _) = key_pair();
    let both = format!("# two\n{wrong}\n{}\n", stored.identity);
    let file = |name: &str, text: &str| {
        let path = stored.project().folder().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = stored.restore(&to, "x", &["--identity-file", &file("wrong", &wrong)]).await.exits(77);
    assert!(
        refused.stderr.contains(&stored.recipient) && !refused.told().contains("SECRET-KEY-1Q"),
        "{}",
        refused.told()
    );
    let no_file = stored.restore(&to, "x", &["--identity-file", "/nowhere/at/all"]).await.exits(77);
    assert!(no_file.stderr.contains("no such file"), "{}", no_file.told());
    let without = stored.command(&to, "x", &[]);
    let none = stored.project_without_identity(&to).run(&without).await.exits(77);
    assert!(
        none.stderr.contains("variable age_identity") && none.stderr.contains(&stored.recipient),
        "{}",
        none.told()
    );
    stored.restore(&to, "both", &["--identity-file", &file("both", &both)]).await.succeeds();
    drop(to.existing("both"));
}

#[tokio::test]
async fn the_archive_is_written_to_a_file_of_its_owner_alone_and_never_over_another() {
    let stored = small(&Server::major(16)).await;
    let path = stored.project().folder().join("archive");
    let args = ["restore", "db", "--to-file", path.to_str().unwrap()];
    stored.project().run(&args).await.succeeds();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&path).unwrap(), stored.archive);
    let again = stored.project().run(&args).await.exits(78);
    assert!(again.stderr.contains("something is there already"), "{}", again.told());
}

#[tokio::test]
async fn a_backup_is_chosen_by_time_by_id_or_as_the_newest_good_one() {
    let source = Server::major(16).fresh_database("chosen").await;
    source.sql("CREATE TABLE t (id int)").await;
    let mut stored = Stored::of(source).await;
    stored.source.sql("INSERT INTO t VALUES (1)").await;
    let second = stored.back_up("2026-11-20T03:00:00Z").await;
    stored.source.sql("INSERT INTO t VALUES (2)").await;
    let third = stored.back_up("2026-11-21T03:00:00Z").await;
    fs::remove_file(stored.place().join(&third).join("dump.pgc.zst.age")).unwrap();
    let to = Server::major(17);
    let count = "SELECT count(*) FROM t";
    for (name, args, rows) in [
        ("newest", &[][..], "1"), // the third is not good
        ("by_id", &["--backup", stored.id.as_str()], "0"),
        ("by_day", &["--at", "2026-11-20"], "1"),
        ("by_time", &["--at", "2026-11-20T02:59:59Z"], "0"),
    ] {
        stored.restore(&to, name, args).await.succeeds();
        assert_eq!(to.existing(name).value(count).await, rows, "{name}");
    }
    let gone = stored.restore(&to, "x", &["--backup", &third]).await.exits(78);
    assert!(gone.stderr.contains("is missing"), "{}", gone.told());
    let early = stored.restore(&to, "x", &["--at", "2020-01-01"]).await.exits(78);
    assert!(early.stderr.contains(&stored.id), "{}", early.told());
    assert_ne!(second, third);
}

#[tokio::test]
async fn a_dry_run_tells_the_plan_and_touches_nothing() {
    let stored = small(&Server::major(16)).await;
    let to = Server::new(17).start();
    let before = databases(&to).await;
    let done = stored.restore(&to, "plan", &["--dry-run"]).await.succeeds();
    assert_eq!(
        (done.json()["dry_run"].as_bool(), done.json()["target"].as_str()),
        (Some(true), Some("plan on target"))
    );
    assert_eq!(databases(&to).await, before);
}

#[tokio::test]
async fn two_hundred_bit_flips_and_cuts_of_a_stored_backup_are_all_found_before_a_server_is_touched() {
    let stored = small(&Server::major(16)).await;
    let identities = Identities::parse(&stored.identity.clone().into(), "a test").unwrap();
    let store: Arc<dyn Store> = Arc::new(Directory::new(stored.place().parent().unwrap()));
    let folder = stored.place().join(&stored.id);
    let mut random = Random(20_261_121);
    let mut checked = 0;
    for round in 0..rounds(200, 500) {
        let name = if round % 5 == 0 { "proof.age" } else { "dump.pgc.zst.age" };
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let at = random.below(whole.len());
        match round % 4 {
            0 => damaged.truncate(at),
            _ => damaged[at] ^= 1 << random.below(8),
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, &damaged).unwrap();
        let inventory = inventory::take(store.as_ref(), "db/", "default").await.unwrap();
        let backup = &inventory.backups[0];
        // A cut is seen in the listing; it must be found also where a store lies about the length.
        let found = match backup.is_good() {
            false => true,
            true => verify(&store, backup, &identities, ()).await.is_err_and(|error| {
                let kind = classify(&error).kind.exit_code();
                assert!(kind == 65 || kind == 77, "{error:#}"); // the header's list of recipients may be hit
                true
            }),
        };
        assert!(found, "round {round}: {name} damaged at {at} was not found");
        checked += 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole).unwrap();
    }
    assert!(checked >= 200, "{checked}");
    let inventory = inventory::take(store.as_ref(), "db/", "default").await.unwrap();
    verify(&store, &inventory.backups[0], &identities, ()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_backup_ends_with_65_and_the_server_is_as_it_was() {
    let stored = small(&Server::major(16)).await;
    let to = Server::new(17).start();
    let path = stored.place().join(&stored.id).join("dump.pgc.zst.age");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let before = databases(&to).await;
    stored.restore(&to, "damaged", &[]).await.exits(65);
    assert_eq!(databases(&to).await, before);
    assert!(!to.log().contains("damaged__restoring_"));
}

#[tokio::test]
async fn a_restore_killed_at_any_moment_leaves_nothing_that_looks_whole_and_the_next_one_succeeds() {
    let stored = small(&Server::major(16)).await;
    stored.source.sql(MORE).await;
    let stored = Stored::of(stored.source).await;
    let to = Server::new(17).start();
    let begun = Instant::now();
    stored.restore(&to, "whole", &[]).await.succeeds();
    let whole = begun.elapsed();
    let mut random = Random(7);
    let mut killed = 0;
    for round in 0..rounds(20, 200) {
        let name = format!("killed_{round}");
        let delay = whole.mul_f64(random.below(1000) as f64 / 1000.0);
        let done = stored.start(&to, &name, &[]).kill_after(delay).await;
        killed += u32::from(done.code().is_none());
        if databases(&to).await.contains(&name) {
            let rows = to.existing(&name).value("SELECT count(*) FROM part").await;
            assert_eq!(rows, "61000", "round {round}");
        }
    }
    assert!(killed > 5, "{killed}");
    stored.restore(&to, "last", &[]).await.succeeds();
    let left: Vec<String> =
        databases(&to).await.into_iter().filter(|name| name.contains("__restoring_")).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(to.existing("last").value("SELECT count(*) FROM part").await, "61000");
}

#[tokio::test]
async fn a_given_database_that_a_killed_restore_filled_in_part_is_filled_anew() {
    let stored = small(&Server::major(16)).await;
    stored.source.sql(MORE).await;
    let stored = Stored::of(stored.source).await;
    let given = Server::major(17).fresh_database("killed").await;
    let running = stored.start(given.server(), given.name(), &[]);
    let begun = Instant::now();
    while given.value("SELECT count(*) FROM pg_class WHERE relname = 'visit'").await == "0" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", running.log_so_far());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ended = running.kill_after(Duration::ZERO).await;
    assert_eq!(ended.code(), None, "{}", ended.told());
    let comment = format!(
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = '{}'",
        given.name()
    );
    assert!(given.value(&comment).await.contains("do not use it"));
    stored.restore(given.server(), given.name(), &[]).await.succeeds();
    assert_eq!(given.value(&comment).await, "");
    assert_eq!(given.value("SELECT count(*) FROM part").await, "61000");
    assert_eq!(given.value("SELECT count(*) FROM pg_largeobject_metadata").await, "1");
}

#[tokio::test]
async fn a_signal_ends_a_restore_in_time_and_takes_its_database_away() {
    let stored = small(&Server::major(16)).await;
    let to = Server::new(17).start();
    let mut running = stored.start(&to, "stopped", &["-v"]);
    running.says("under a temporary name").await;
    let begun = Instant::now();
    let done = running.signal_after(Duration::ZERO, libc::SIGTERM).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    if done.code() == Some(143) {
        let left: Vec<String> =
            databases(&to).await.into_iter().filter(|name| name.contains("stopped")).collect();
        assert_eq!(left, [""; 0], "{}", done.told());
    }
}

#[tokio::test]
async fn a_spool_that_does_not_fit_and_one_that_fills_up_are_75_and_the_server_is_as_it_was() {
    let stored = small(&Server::major(16)).await;
    stored
        .source
        .sql("INSERT INTO part SELECT g % 1000, repeat(md5(g::text), 10) FROM generate_series(1, 80000) g")
        .await;
    let stored = Stored::of(stored.source).await; // some 26 MB
    let Some(disk) = Disk::of_mib(20) else { return };
    let to = Server::new(17).start();
    let before = databases(&to).await;
    let spool = disk.path().to_str().unwrap().to_owned();
    let refused = stored.restore(&to, "x", &["--spool", &spool]).await.exits(75);
    assert!(refused.stderr.contains("it takes") && refused.stderr.contains("are free"), "{}", refused.told());
    // The disk fills up on the way.
    let mut filling = Spool::new(disk.path(), 1000).unwrap();
    let written = (0..40).try_for_each(|_| filling.write(&[7; 1 << 20]));
    assert_eq!(classify(&written.unwrap_err()).kind.exit_code(), 75);
    drop(filling);
    // A manifest that understates the length is found out before the disk is full.
    let path = stored.place().join(&stored.id).join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let length = format!("\"plain_bytes\": {}", stored.archive.len());
    assert!(text.contains(&length));
    fs::remove_file(&path).unwrap();
    fs::write(&path, text.replace(&length, "\"plain_bytes\": 1000")).unwrap();
    let understated = stored.restore(&to, "x", &["--spool", &spool]).await.exits(65);
    assert!(understated.stderr.contains("longer than its manifest says"), "{}", understated.told());
    assert_eq!(databases(&to).await, before);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn no_plain_text_has_a_name_on_the_disk_while_a_restore_runs_or_after_it_was_killed() {
    let stored = small(&Server::major(16)).await;
    let spool = tempfile::tempdir().unwrap();
    let to = Server::major(17);
    let args = ["--spool", spool.path().to_str().unwrap(), "-v"];
    let mut running = stored.start(&to, "unseen", &args);
    running.says("fetched, decrypted and verified").await;
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
    running.kill_after(Duration::ZERO).await;
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
    drop(to.existing("unseen"));
}
