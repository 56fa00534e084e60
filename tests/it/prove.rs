//! Restored databases against the proofs of their dumps.

use crate::support::*;
use sankofa::backup::archive::{Read, Reader};
use sankofa::backup::proof::Proof;
use sankofa::backup::prove::{Prover, compare};
use sankofa::error::{Failure, Kind, classify};
use sankofa::progress::{Progress, Shown};
use sankofa::secret::Connection;
use sankofa::stop::{Reason, StopSignal};
use std::time::Duration;

fn read(archive: &[u8]) -> Read {
    let mut reader = Reader::new();
    reader.feed(archive).unwrap();
    reader.finish().unwrap()
}

/// Dumps a database, and restores it to a fresh one of another server by way of offsets.
async fn restored(source: &Database, to: u16, client: u16) -> (Proof, Database) {
    let mut archive = source.dump(client, &[]);
    let read = read(&archive);
    for patch in &read.patches {
        archive[patch.at as usize..][..9].copy_from_slice(&patch.bytes());
    }
    let target = Server::major(to).database_with("restored", "TEMPLATE template0").await;
    target.restore(client, &archive);
    (read.proof, target)
}

async fn prove_as(uri: &str, proof: &Proof, jobs: usize) -> Result<Vec<String>, Failure> {
    let connection = Connection::parse("drill", uri).unwrap();
    let (stop, progress) = (StopSignal::new(), Progress::start("proving", &Shown::Lines));
    let prover =
        Prover { connection: &connection, at: None, jobs, is_alone: true, stop: &stop, progress: &progress };
    let differences = prover.prove(proof).await.map_err(|error| classify(&error))?;
    Ok(differences.iter().map(ToString::to_string).collect())
}

async fn prove(database: &Database, proof: &Proof, jobs: usize) -> Vec<String> {
    prove_as(&database.connection_uri(), proof, jobs).await.unwrap()
}

async fn hostile_database(major: u16) -> Database {
    let database = Server::major(major).fresh_database("hostile").await;
    database.fill_with_hostile_content().await;
    database
        .sql(
            "CREATE TABLE left_hand (n integer); INSERT INTO left_hand SELECT generate_series(1, 5); \
             CREATE TABLE right_hand (n integer); INSERT INTO right_hand SELECT generate_series(6, 10); \
             SELECT lo_from_bytea(5000000, decode(repeat('0123456789abcdef', 150000), 'hex')); \
             SELECT lo_from_bytea(5000001, decode(repeat('00', 1048576), 'hex'))",
        )
        .await;
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_database_is_equal_whatever_the_majors() {
    let nothing: [&str; 0] = [];
    for (from, to, client) in [(13, 18, 18), (13, 13, 13), (15, 15, 15), (16, 17, 16), (17, 17, 17)] {
        if !has_clients(client) {
            continue;
        }
        let (proof, target) = restored(&hostile_database(from).await, to, client).await;
        for jobs in [1, 3] {
            let differences = prove(&target, &proof, jobs).await;
            assert_eq!(differences, nothing, "{from} to {to} by the programs of {client}, {jobs} jobs");
        }
    }
}

#[tokio::test]
async fn a_dump_of_what_was_restored_is_equal_too_with_its_definitions() {
    for major in [16, 17, 18] {
        let (proof, target) = restored(&hostile_database(major).await, major, major).await;
        let again = read(&target.dump(major, &[])).proof;
        assert_eq!(compare(&proof, &again), [], "{major}");
        target.sql("ALTER TABLE doubled ADD CHECK (word <> ''); DELETE FROM left_hand WHERE n = 1").await;
        let told: Vec<String> =
            compare(&proof, &read(&target.dump(major, &[])).proof).iter().map(ToString::to_string).collect();
        let definitions =
            format!("there are {} definitions instead of {}", proof.definitions, proof.definitions);
        assert_eq!(told.len(), 2, "{told:?}, {definitions}");
        assert_eq!(told[0], "table public.left_hand has 4 rows instead of 5");
    }
}

/// What is done to a restored database, and what must be told of it.
const CHANGES: &[(&str, &[&str])] = &[
    ("SELECT 1", &[]),
    ("UPDATE types SET t_text = t_text", &[]),
    (
        "UPDATE types SET t_int2 = t_int2 + 1 WHERE id = 7",
        &["table public.types has the same number of rows (54), but not the same ones"],
    ),
    (
        "UPDATE types SET t_text = t_text || '.' WHERE id = 7",
        &["table public.types has the same number of rows (54), of 37996 bytes instead of 37995"],
    ),
    ("DELETE FROM types WHERE id = 7", &["table public.types has 53 rows instead of 54"]),
    ("INSERT INTO doubled VALUES ('the same')", &["table public.doubled has 21 rows instead of 20"]),
    ("INSERT INTO no_columns DEFAULT VALUES", &["table public.no_columns has 6 rows instead of 5"]),
    (
        "UPDATE left_hand SET n = 6 WHERE n = 5; UPDATE right_hand SET n = 5 WHERE n = 6",
        &[
            "table public.left_hand has the same number of rows (5), but not the same ones",
            "table public.right_hand has the same number of rows (5), but not the same ones",
        ],
    ),
    (
        "UPDATE \"Odd Schéma.x\".\"tab \"\"le\"\", (x) FROM\" SET \"c \"\"o\"\", l)\" = '.' WHERE \"c \"\"o\"\", l)\" = E'\\\\'",
        &[
            "table \"Odd Schéma.x\".\"tab \"\"le\"\", (x) FROM\" has the same number of rows (316), of 601014 bytes instead of 601015",
        ],
    ),
    (
        "UPDATE by_mood SET n = 0 WHERE n = 9",
        &["table public.by_mood has the same number of rows (60), but not the same ones"],
    ),
    ("SELECT setval('called', 7)", &["sequence public.called stands at 7 instead of at 6"]),
    ("SELECT setval('called', 6, false)", &["sequence public.called stands before 6 instead of at 6"]),
    ("DROP SEQUENCE fresh", &["sequence public.fresh is missing"]),
    (
        "SELECT lo_put(1, 0, '\\x01')",
        &["the database has the same number of large objects (1506), but not the same ones"],
    ),
    (
        "SELECT lo_put(5000000, 1100000, '\\x77')",
        &["the database has the same number of large objects (1506), but not the same ones"],
    ),
    ("SELECT lo_unlink(16999)", &["the database has 1505 large objects instead of 1506"]),
    ("SELECT lo_from_bytea(16998, '')", &["the database has 1507 large objects instead of 1506"]),
    ("DROP TABLE doubled", &["table public.doubled is missing (20 rows)"]),
    ("CREATE TABLE \"New\" ()", &["table public.\"New\" is not in the backup"]),
    (
        "ALTER TABLE left_hand ADD more text",
        &["table public.left_hand has columns that are not in the backup: more"],
    ),
    ("ALTER TABLE parent DROP word", &["table public.parent lacks columns: word"]),
    ("ALTER TABLE left_hand ADD more integer GENERATED ALWAYS AS (1) STORED", &[]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_restored_database_is_told_and_nothing_else() {
    let (proof, target) = restored(&hostile_database(17).await, 17, 17).await;
    let template = format!("TEMPLATE {}", quote(target.name()));
    for (change, expected) in CHANGES {
        let changed = Server::major(17).database_with("changed", &template).await;
        changed.sql(change).await;
        let mut told = prove(&changed, &proof, 2).await;
        if change.contains("parent") {
            told.retain(|one| !one.contains("public.child")); // it inherits the change
        }
        assert_eq!(&told, expected, "{change}");
    }
}

#[tokio::test]
async fn settings_of_the_database_and_the_role_change_no_row() {
    let (proof, target) = restored(&hostile_database(17).await, 17, 17).await;
    let role = target.server().role("traveller", "SUPERUSER").await;
    let settings = [
        ("timezone", "America/St_Johns"),
        ("bytea_output", "escape"),
        ("datestyle", "German, DMY"),
        ("intervalstyle", "iso_8601"),
        ("extra_float_digits", "-5"),
        ("lc_monetary", "C.UTF-8"),
        ("search_path", "\"Odd Schéma.x\""),
        ("statement_timeout", "20"),
    ];
    for (name, value) in settings {
        let quoted = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
        target.sql(&format!("ALTER DATABASE {} SET {name} = {quoted}", quote(target.name()))).await;
        target.sql(&format!("ALTER ROLE {role} SET {name} = {quoted}")).await;
    }
    let told = prove_as(&target.connection_uri_as(&role), &proof, 2).await.unwrap();
    assert_eq!(told, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_read_in_ranges_and_every_row_counts() {
    let source = Server::major(17).fresh_database("large").await;
    // One row a page.
    source
        .sql(
            "CREATE TABLE large (id integer, filler text) WITH (fillfactor = 10, autovacuum_enabled = false); \
             ALTER TABLE large ALTER filler SET STORAGE PLAIN; \
             INSERT INTO large SELECT n, repeat('x', 420) FROM generate_series(1, 17000) AS n",
        )
        .await;
    let pages = source.value("SELECT pg_relation_size('large') / 8192").await;
    assert_eq!(pages, "17000"); // three ranges
    let proof = read(&source.dump(17, &[])).proof;
    assert_eq!(prove(&source, &proof, 3).await, [""; 0]);
    for id in [8192, 16385, 17000] {
        source.sql(&format!("UPDATE large SET id = {} WHERE id = {id}", 99_999 - id)).await;
        let told = prove(&source, &proof, 3).await;
        assert_eq!(told.len(), 1, "{id}");
        assert!(told[0].starts_with("table public.large has the same number of rows (17000), "), "{told:?}");
        source.sql(&format!("UPDATE large SET id = {id} WHERE id = {}", 99_999 - id)).await;
    }
    assert_eq!(prove(&source, &proof, 3).await, [""; 0]);
}

#[tokio::test]
async fn what_may_not_be_read_is_a_missing_right_and_not_a_difference() {
    let source = Server::major(17).fresh_database("guarded").await;
    source.sql("CREATE TABLE notes (id integer); INSERT INTO notes VALUES (1), (2)").await;
    let role = source.server().role("reader", "").await;
    let proof = read(&source.dump(17, &[])).proof;
    let uri = source.connection_uri_as(&role);
    let denied = prove_as(&uri, &proof, 1).await.unwrap_err();
    assert_eq!(denied.kind, Kind::Permission, "{denied:?}");
    source.sql(&format!("GRANT SELECT ON notes TO {role}")).await;
    assert_eq!(prove_as(&uri, &proof, 1).await.unwrap(), [""; 0]);
    source
        .sql("ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON notes USING (id = 1)")
        .await;
    let hidden = prove_as(&uri, &proof, 1).await.unwrap_err();
    assert_eq!(hidden.kind, Kind::Permission, "{hidden:?}");
}

#[tokio::test]
async fn of_an_extensions_table_only_the_users_rows_are_compared() {
    let source = Server::major(17).fresh_database("extended").await;
    // What an extension's script does by pg_extension_config_dump.
    source
        .sql(
            "CREATE EXTENSION hstore; CREATE TABLE codes (code integer, is_standard boolean); \
             INSERT INTO codes VALUES (1, true), (2, true), (100, false); ALTER EXTENSION hstore ADD TABLE codes; \
             UPDATE pg_extension SET extconfig = ARRAY['codes'::regclass::oid], \
                 extcondition = ARRAY['WHERE NOT is_standard'] WHERE extname = 'hstore'",
        )
        .await;
    let proof = read(&source.dump(17, &[])).proof;
    assert_eq!((proof.tables.len(), proof.tables[0].set.count), (1, 1));
    assert_eq!(prove(&source, &proof, 2).await, [""; 0]);
    source.sql("INSERT INTO codes VALUES (3, true), (101, false)").await;
    assert_eq!(prove(&source, &proof, 2).await, ["table public.codes has 2 rows instead of 1"]);
}

#[tokio::test]
async fn a_proof_of_some_tables_is_compared_with_those_alone() {
    let source = hostile_database(17).await;
    let (proof, target) = restored(&source, 17, 17).await;
    target.sql("DROP TABLE left_hand; SELECT lo_unlink(1); SELECT setval('called', 9)").await;
    let some = proof.only(|table| table.table.starts_with("parted"));
    let connection = Connection::parse("drill", &target.connection_uri()).unwrap();
    let (stop, progress) = (StopSignal::new(), Progress::start("proving", &Shown::Lines));
    let prover = Prover {
        connection: &connection,
        at: None,
        jobs: 2,
        is_alone: false,
        stop: &stop,
        progress: &progress,
    };
    assert_eq!(prover.prove(&some).await.unwrap(), []);
    assert_eq!(prover.prove(&proof).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_comparison_though_a_table_is_locked() {
    let source = Server::major(17).fresh_database("stopped").await;
    source.sql("CREATE TABLE notes (id integer)").await;
    let proof = read(&source.dump(17, &[])).proof;
    let holder = source.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (stop, progress) = (StopSignal::new(), Progress::start("proving", &Shown::Lines));
    let connection = Connection::parse("drill", &source.connection_uri()).unwrap();
    let prover = Prover {
        connection: &connection,
        at: None,
        jobs: 2,
        is_alone: true,
        stop: &stop,
        progress: &progress,
    };
    let asking = stop.clone();
    let asked = tokio::spawn(async move {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'notes'::regclass";
        while holder.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        asking.request(Reason::Terminated);
        holder
    });
    let ended = stop.race(prover.prove(&proof)).await.unwrap_err();
    assert_eq!(classify(&ended).kind, Kind::Terminated);
    let holder = asked.await.unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sankofa/prove' \
                  AND datname = current_database()";
    for _ in 0..500 {
        if holder.query_one(others, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            return;
        }
        holder.batch_execute("COMMIT").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a session of the comparison is still there");
}
