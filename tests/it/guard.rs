//! What the operator forbids does not leave the source; secrets and cells are said nowhere.

use crate::pair::*;
use crate::support::*;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz DEFAULT clock_timestamp(), name text, email text, national_id text, birth date);
    INSERT INTO t SELECT g, clock_timestamp(), 'n' || g, 'CANARYMAIL' || g, 'CANARYID' || g, '2001-02-03' FROM generate_series(1, 10) g;
    CREATE TABLE payroll (id int PRIMARY KEY)";
const GUARD: &str = "guard: {never: ['*.*.*.national_id', '*.public.payroll'], mask: {'*.*.*.email': hmac, '*.*.*.birth': nullify}, sources: {src: [w]}}";
const KEY: &str = "0123456789abcdef0123456789abcdef";

async fn guarded(pipeline: &str) -> Pair {
    let mut pair = Pair::new(TABLE, pipeline).await;
    pair.project(GUARD);
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", KEY);
    pair
}

#[tokio::test]
async fn guarded_columns_never_leave_and_masks_always_apply_in_sync_and_through_a_stage() {
    for by_stage in [false, true] {
        let pair =
            guarded("tables: {public.t: {mode: incremental, replication_key: u, mask: {name: redact}}}")
                .await;
        if by_stage {
            pair.steps("s", &[]).await.succeeds()
        } else {
            pair.sync(&[]).await.succeeds()
        };
        let columns = "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'w.t'::regclass AND attnum > 0 AND attname NOT LIKE '\\_sankofa%'";
        assert_eq!(pair.there(columns).await, "id,u,name,email,birth");
        assert_eq!(pair.there("SELECT DISTINCT name, birth FROM w.t").await, "[redacted]|-");
        let hashes = "SELECT count(DISTINCT email), bool_and(email ~ '^[0-9a-f]{64}$') FROM w.t";
        assert_eq!(pair.there(hashes).await, "10|t");
        let log = pair.source.log().join("\n");
        assert!(
            !log.contains("national_id") || !log.contains("COPY (SELECT id, u, name, email, national_id"),
            "read"
        );
        for line in log.lines().filter(|line| line.contains("COPY ") && line.contains("TO STDOUT")) {
            assert!(!line.contains("national_id"), "{line}");
        }
        let bytes = std::process::Command::new("grep")
            .args(["-rc", "CANARY"])
            .arg(pair.sankofa.folder())
            .output()
            .unwrap();
        let found = String::from_utf8_lossy(&bytes.stdout).into_owned();
        assert!(found.lines().all(|line| line.ends_with(":0")), "{found}");
    }
}

#[tokio::test]
async fn what_the_guard_covers_cannot_be_asked_for_in_another_way() {
    for (table, why) in [
        ("public.payroll: {mode: full_refresh}", "never"),
        ("public.t: {mode: full_refresh, filter: \"national_id LIKE '1%'\"}", "filter"),
        ("public.t: {mode: full_refresh, filter: \"t::text LIKE '%1%'\"}", "filter"),
        ("public.t: {mode: full_refresh, filter: \"email > 'm'\"}", "filter"),
        ("public.t: {mode: full_refresh, key: national_id}", "national_id"),
        ("public.t: {mode: incremental, replication_key: birth}", "birth"),
    ] {
        let pair = guarded(&format!("tables: {{{table}}}")).await;
        let done = pair.sync(&[]).await;
        assert_eq!(done.code(), Some(78), "{table}: {}", done.told());
        says(&done, &[why]);
        assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
    }
}

#[tokio::test]
async fn a_pipeline_cannot_loosen_a_mask_nor_fill_another_schema() {
    let pair = guarded("tables: {public.t: {mode: full_refresh, mask: {birth: hmac}}}").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT DISTINCT birth FROM w.t").await, "-");
    pair.sankofa.write(
        "pipelines/q.yaml",
        "source: src\nschema: elsewhere\ntables: {public.t: {mode: full_refresh}}",
    );
    says(&pair.sankofa.run(&["sync", "q"]).await.exits(78), &["guard"]);
}

#[tokio::test]
async fn a_stage_from_before_the_guard_said_never_is_refused() {
    let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh}}").await;
    pair.command("extract", &["--run", "r"]).await.succeeds();
    pair.project("guard: {never: ['*.*.*.national_id']}");
    let done = pair.command("load", &["--run", "r"]).await;
    assert_eq!(done.code(), Some(65), "{}", done.told());
    assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
}

#[tokio::test]
async fn without_its_key_or_with_a_short_one_nothing_is_masked_and_nothing_moves() {
    let mut pair = guarded("tables: {public.t: {mode: full_refresh}}").await;
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", "short");
    pair.sync(&[]).await.exits(77);
    let pair = {
        let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh}}").await;
        pair.project(GUARD);
        pair
    };
    pair.sync(&[]).await.exits(77);
    assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
}

#[tokio::test]
async fn another_key_of_masks_reads_every_row_again() {
    let mut pair = guarded("tables: {public.t: {mode: incremental, replication_key: u}}").await;
    pair.sync(&[]).await.succeeds();
    let before = pair.there("SELECT email FROM w.t WHERE id = 1").await;
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", &KEY.replace('0', "f"));
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!(reason(&done), "the key of HMAC masks has changed, and every mask with it");
    assert_ne!(pair.there("SELECT email FROM w.t WHERE id = 1").await, before);
}

/// Runs that succeed and runs that fail, at the most verbose level; nothing may name the canaries.
#[tokio::test]
async fn no_password_and_no_cell_is_said_anywhere_whatever_happens() {
    let server = Server::with_settings(17, &[]);
    let table = "CREATE TABLE t (id int, u timestamptz DEFAULT clock_timestamp(), v text, n numeric);
        INSERT INTO t VALUES (1, now(), 'CANARYCELL1', 1), (2, now(), 'CANARYCELL2', 2)";
    let mut pair =
        Pair::on(&server, &server, table, "tables: {public.t: {mode: full_refresh, key: id}}").await;
    server.sql("CREATE ROLE canary SUPERUSER LOGIN PASSWORD 'CANARY p@ss/wörd%'").await;
    let secret = "CANARY%20p%40ss%2Fw%C3%B6rd%25";
    let uri = |database: &Database, password: &str, port: u16| {
        format!("postgres://canary:{password}@127.0.0.1:{port}/{}", database.name())
    };
    let identity = age::x25519::Identity::generate();
    let stage = format!("{{store: local, encrypt_to: [{}], identity: stage_identity}}", identity.to_public());
    pair.sankofa.write("sankofa.yaml", PROJECT.replace("{store: local}", &stage));
    let port = server.port();
    pair.sankofa = pair
        .sankofa
        .connection_uri("src", &uri(&pair.source, secret, port))
        .connection_uri("wh", &uri(&pair.warehouse, secret, port));
    let mut said = String::new();
    let run = async |pair: &Pair, code: Option<i32>, args: &[&str]| {
        let mut all = vec!["-vv"];
        all.extend(args);
        let done = pair.sankofa.run(&all).await;
        assert!(code.is_none() || done.code() == code, "{}", done.told());
        done.told()
    };
    said += &run(&pair, Some(0), &["sync", "p"]).await;
    said += &run(&pair, Some(0), &["extract", "p", "--run", "r"]).await;
    said += &run(&pair, Some(77), &["load", "p", "--run", "r"]).await; // no identity
    pair.source.sql("INSERT INTO t VALUES (2, now(), 'CANARYCELL2', 3)").await;
    said += &run(&pair, Some(65), &["sync", "p"]).await; // duplicate key
    pair.source.sql("DELETE FROM t WHERE n = 3; UPDATE t SET v = 'CANARYCELL3'").await;
    for (made, dropped) in [
        ("ALTER TABLE w.t ADD CONSTRAINT c CHECK (v !~ 'CELL3')", "ALTER TABLE w.t DROP CONSTRAINT c"),
        ("CREATE UNIQUE INDEX one ON w.t (v)", "DROP INDEX w.one"),
        ("CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM new.v::int; RETURN new; END $$;
          CREATE TRIGGER g BEFORE UPDATE ON w.t FOR EACH ROW EXECUTE FUNCTION public.f()", "DROP TRIGGER g ON w.t"),
    ] {
        pair.warehouse.sql(made).await;
        said += &run(&pair, Some(65), &["sync", "p"]).await;
        pair.warehouse.sql(dropped).await;
    }
    pair.pipeline("tables: {public.t: {mode: full_refresh, key: id, filter: \"v::int > 0\"}}");
    said += &run(&pair, Some(65), &["sync", "p"]).await;
    pair.pipeline("tables: {public.t: {mode: full_refresh, key: id, checks: {accepted: {v: [x]}, sql: {s: 'SELECT v::int FROM {table}'}}}}");
    said += &run(&pair, Some(65), &["sync", "p"]).await;
    for wrong in [
        uri(&pair.source, "CANARY%20wrong", port),
        uri(&pair.source, secret, 1),
        "postgres://canary:CANARY p@ss@@:x/y".to_owned(),
        r#"{"conn_type": "postgres", "password": "CANARYJSON", "port": "x"}"#.to_owned(),
    ] {
        pair.sankofa = pair.sankofa.connection_uri("src", &wrong);
        said += &run(&pair, None, &["sync", "p"]).await;
        said += &run(&pair, None, &["doctor"]).await;
        said += &run(&pair, None, &["plan", "p"]).await;
    }
    assert!(
        !said.contains("CANARY"),
        "{}",
        said.lines().filter(|line| line.contains("CANARY")).collect::<Vec<_>>().join("\n")
    );
    let grep = std::process::Command::new("grep")
        .args(["-rl", "CANARY"])
        .arg(pair.sankofa.folder().join("stage"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    for table in ["run", "table_run", "table_state", "contract", "check_result"] {
        let hits = pair
            .there(&format!("SELECT count(*) FROM sankofa.{table} r WHERE r::text LIKE '%CANARY%'"))
            .await;
        assert_eq!(hits, "0", "{table}");
    }
}

#[tokio::test]
async fn a_generated_column_is_covered_by_what_covers_the_columns_it_is_made_of() {
    for major in [13, 18] {
        let source = "CREATE TABLE t (id int PRIMARY KEY, email text, national_id text,
                shown text GENERATED ALWAYS AS ('<' || email || '>') STORED,
                tail text GENERATED ALWAYS AS (right(national_id, 4)) STORED);
            INSERT INTO t VALUES (1, 'ama@example.org', 'GHA-1234')";
        let server = Server::major(major);
        let mut pair = Pair::on(&server, &server, source, "tables: {public.t: {mode: full_refresh}}").await;
        pair.project(GUARD);
        pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", KEY);
        pair.sync(&[]).await.succeeds();
        let columns = "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = 'w.t'::regclass AND attnum > 0 AND attname NOT LIKE '\\_sankofa%'";
        assert_eq!(pair.there(columns).await, "id,email,shown");
        assert_eq!(pair.there("SELECT shown ~ '^[0-9a-f]{64}$' FROM w.t").await, "t");
    }
}
