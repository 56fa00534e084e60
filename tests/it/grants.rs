//! Least privilege, as shipped: every command runs under exactly the grants of `docs/grants/` and the
//! capabilities of `docs/security.md`, and for each of them that is taken away a command ends with 77 by name.

use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::*;
use age::x25519;
use secrecy::ExposeSecret;

/// The files of `docs/grants` for a server of `major`, with their class and the database in which each is run.
fn files(major: u16) -> [(&'static str, &'static str, &'static str, &'static str); 4] {
    let backup = match major {
        13 => include_str!("../../docs/grants/backup-13.sql"),
        _ => include_str!("../../docs/grants/backup.sql"),
    };
    [
        ("source", "rows", "hr", include_str!("../../docs/grants/source.sql")),
        ("warehouse", "rows", "warehouse", include_str!("../../docs/grants/warehouse.sql")),
        ("backup", "backup", "hr", backup),
        ("drill", "drill", "postgres", include_str!("../../docs/grants/drill.sql")),
    ]
}

/// What the shipped grants are about.
pub const ROWS: &str = "
    CREATE TABLE department (id int PRIMARY KEY, name text, updated_at timestamptz DEFAULT clock_timestamp());
    INSERT INTO department SELECT g, 'd' || g FROM generate_series(1, 5) g;
    CREATE TABLE employee (id int PRIMARY KEY, name text, national_id text, department int REFERENCES department,
        updated_at timestamptz DEFAULT clock_timestamp());
    INSERT INTO employee SELECT g, 'n' || g, 'GHA-' || g, 1 FROM generate_series(1, 20) g;
    ALTER TABLE department ENABLE ROW LEVEL SECURITY; CREATE SEQUENCE ticket;
    SELECT lo_from_bytea(4711, 'a large object')";

const PIPELINE: &str = "source: src\nschema: staff\nafter: [sql/a.sql]\ntables:
  public.department: {mode: full_refresh}
  public.employee: {mode: incremental, replication_key: updated_at, deletes: {every: 1d}}\n";

const BUCKET: &str = "school-backups";

/// Capabilities of the key of each class. Documented in docs/security.md.
const BACKUP: &[&str] = &["listFiles", "readFiles", "writeFiles"];
const DRILL: &[&str] = &["listFiles", "readFiles", "writeFiles"];
const PRUNE: &[&str] = &["listFiles", "deleteFiles"];

/// One server with source and warehouse, one for drills, the roles as shipped, and a project that uses them.
struct Bench {
    server: Server,
    drills: Server,
    b2: B2,
    sankofa: Sankofa,
    count: usize,
}

impl Bench {
    async fn new(major: u16) -> Bench {
        let (server, drills) = (Server::new(major).start(), Server::new(major).start());
        server.sql("CREATE DATABASE hr").await;
        server.sql("CREATE DATABASE warehouse").await;
        sql_in(&server, "hr", ROWS).await;
        for (_, _, database, sql) in files(major) {
            let on = if database == "postgres" { &drills } else { &server };
            sql_in(on, database, sql).await;
        }
        let b2 = B2::start();
        b2.bucket(BUCKET, BucketOptions::default());
        let identity = x25519::Identity::generate();
        let text = format!(
            "version: 1\nsecrets: [environment]\nwarehouse: {{connection: wh, reader_role: metabase, after_role: marts}}\n\
             drill: {{connection: drill_server}}\nstores:\n  local: {{directory: ./stage}}\n  \
             off: {{b2: {{connection: offsite, bucket: {BUCKET}, prefix: prod}}}}\nstage: {{store: local}}\n\
             guard: {{never: ['*.*.*.national_id']}}\n\
             backups:\n  defaults: {{store: off, encrypt_to: [{}], keep: {{days: 0, at_least: 1}}}}\n  \
             databases: {{hr: {{connection: keeper, prune_connection: pruner}}}}\n",
            identity.to_public()
        );
        let programs = client_program(major, "pg_dump").parent().unwrap().display().to_string();
        let mut sankofa = Sankofa::new()
            .file("sankofa.yaml", text)
            .file("pipelines/p.yaml", PIPELINE)
            .file("sql/a.sql", "CREATE TABLE IF NOT EXISTS marts.head AS SELECT count(*) FROM staff.employee")
            .env("SANKOFA_PG_BIN", &programs)
            .env("AIRFLOW_VAR_AGE_IDENTITY", identity.to_string().expose_secret());
        for (id, role, database) in [
            ("src", "sankofa_rows", "hr"),
            ("wh", "sankofa_load", "warehouse"),
            ("keeper", "sankofa_backup", "hr"),
            ("drill_server", "sankofa_drill", "postgres"),
        ] {
            let on = if database == "postgres" { &drills } else { &server };
            let uri = format!("postgres://{role}:change-me@127.0.0.1:{}/{database}", on.port());
            sankofa = sankofa.connection_uri(id, &uri);
        }
        let mut bench = Bench { server, drills, b2, sankofa, count: 0 };
        bench.key("offsite", BACKUP);
        bench.key("pruner", PRUNE);
        bench
    }

    /// Gives connection `id` a new key of the bucket.
    fn key(&mut self, id: &str, capabilities: &[&str]) {
        let key = self.b2.key(KeySpec::new(capabilities).bucket(BUCKET));
        let uri = self.b2.connection_uri(&key);
        self.sankofa = std::mem::take(&mut self.sankofa).connection_uri(id, &uri);
    }

    async fn run(&mut self, command: &str) -> Finished {
        self.count += 1;
        let command = command.replace("{n}", &self.count.to_string());
        self.sankofa.run(&command.split(' ').collect::<Vec<_>>()).await
    }

    /// What `secrets policy` finds that is missing in PostgreSQL for a class, and what is beyond its need.
    async fn compared(&mut self, class: &str) -> (Vec<String>, Vec<String>) {
        let told = self.run(&format!("secrets policy --class {class}")).await.succeeds().json();
        let databases = told["classes"][class]["databases"].as_array().unwrap().clone();
        assert!(!databases.is_empty(), "{told}");
        let of = |key: &str| -> Vec<String> {
            let lists = databases.iter().flat_map(|one| one[key].as_array().unwrap());
            lists.map(|line| line.as_str().unwrap().to_owned()).collect()
        };
        let missing = of("missing");
        let is_whole = !missing.is_empty() || told["warnings"].as_array().is_none_or(Vec::is_empty);
        assert!(is_whole, "something was not compared: {told}");
        (missing, of("beyond"))
    }

    async fn sql(&self, database: &str, sql: &str) {
        let on = if database == "postgres" { &self.drills } else { &self.server };
        sql_in(on, database, sql).await;
    }
}

async fn sql_in(server: &Server, database: &str, sql: &str) {
    let database = Database::named(server, database);
    database.sql(sql).await;
    database.forget();
}

/// Every command that asks a server for anything.
const COMMANDS: &[&str] = &[
    "init --source src --dry-run",
    "warehouse init",
    "warehouse upgrade",
    "plan p",
    "extract p --run r",
    "validate p --run r",
    "load p --run r",
    "sync p",
    "sync p --full-refresh",
    "state show p",
    "state reset p --table public.employee",
    "prune",
    "doctor --for rows",
    "doctor --for backup",
    "backup hr",
    "backups list",
    "backups verify",
    "backups prune",
    "drill hr --no-owner",
    "doctor --for drill",
    "status --for backup",
    "restore hr --into drill_server --database back --no-owner",
];

#[tokio::test]
async fn every_command_runs_under_exactly_the_grants_that_are_shipped() {
    for major in [13, 18] {
        let mut bench = Bench::new(major).await;
        let mut refused = Vec::new();
        for command in COMMANDS {
            let done = bench.run(command).await;
            if done.code() != Some(0) {
                refused.push(done.told());
            }
        }
        bench.run("backups coverage").await;
        assert!(refused.is_empty(), "{major}: {}", refused.join("\n\n"));
        for class in ["rows", "backup", "drill"] {
            let (missing, beyond) = bench.compared(class).await;
            assert_eq!((missing, beyond), (Vec::new(), Vec::new()), "{major} {class}");
        }
        // The rows identity can neither restore nor read what the backup class stores.
        let rows = std::mem::take(&mut bench.sankofa).without("AIRFLOW_VAR_AGE_IDENTITY");
        let uri = format!("postgres://sankofa_rows:change-me@127.0.0.1:{}/hr", bench.server.port());
        bench.sankofa = rows.connection_uri("drill_server", &uri);
        bench.run("restore hr --into drill_server --database mine").await.exits(77);
    }
}

/// What is missing: the line of a file, a command that needs it, the words by which it is named.
const NEEDED: &[(&str, &str, &str, &[&str])] = &[
    (
        "source",
        "GRANT CONNECT ON DATABASE",
        "sync p",
        &["permission denied for database", "CONNECT ON DATABASE"],
    ),
    ("source", "GRANT USAGE ON SCHEMA", "sync p", &["public"]),
    ("source", "GRANT pg_read_all_stats", "sync p", &["pg_read_all_stats"]),
    ("source", "GRANT SELECT ON public.department", "sync p", &["department"]),
    ("source", "GRANT SELECT (id, name", "sync p", &["employee"]),
    ("source", "BYPASSRLS", "sync p --full-refresh", &["department", "BYPASSRLS"]),
    (
        "warehouse",
        "GRANT CONNECT ON DATABASE warehouse TO sankofa_load",
        "state show p",
        &["permission denied for database"],
    ),
    ("warehouse", "GRANT CREATE ON DATABASE", "sync q", &["CREATE ON DATABASE"]),
    ("warehouse", "GRANT marts TO sankofa_load", "sync p --full-refresh", &["marts"]),
    ("warehouse", "GRANT metabase TO marts", "sync p --full-refresh", &["staff"]),
    ("backup", "GRANT CONNECT", "backup hr", &["permission denied for database"]),
    ("backup", "GRANT pg_read_all_data", "backup hr", &["public"]),
    ("backup", "GRANT USAGE ON SCHEMA", "backup hr", &["public"]),
    ("backup", "GRANT SELECT ON ALL TABLES", "backup hr", &["department"]),
    ("backup", "GRANT SELECT ON ALL SEQUENCES", "backup hr", &["ticket"]),
    ("backup", "BYPASSRLS", "backup hr", &["department"]),
    ("backup", "LARGE OBJECT", "backup hr", &["large object"]),
    ("drill", "CREATEDB", "drill hr --no-owner --run {n}", &["CREATEDB"]),
];

/// Lines that are for others than sankofa.
const FOR_READERS: &[&str] = &["GRANT USAGE ON SCHEMA marts TO metabase"];

/// What takes a right away that `line` gives.
fn taken(line: &str) -> String {
    match line.strip_prefix("GRANT ") {
        Some(rest) => format!("REVOKE {}", rest.replace(" TO ", " FROM ")),
        None => line.replace(" BYPASSRLS", " NOBYPASSRLS").replace(" CREATEDB", " NOCREATEDB"),
    }
}

/// Words of a line that `secrets policy` has too when the line is not in force.
const WORDS: &[&str] = &[
    "CONNECT ON DATABASE",
    "USAGE ON SCHEMA",
    "pg_read_all_stats",
    "department",
    "employee",
    "national_id",
    "BYPASSRLS",
    "CREATE ON DATABASE",
    "marts",
    "metabase",
    "pg_read_all_data",
    "ALL TABLES",
    "ALL SEQUENCES",
    "LARGE OBJECT",
    "CREATEDB",
];

#[tokio::test]
async fn each_grant_that_is_taken_away_is_77_and_named_and_secrets_policy_finds_it() {
    each_grant_is_needed(17, &["source", "warehouse", "backup", "drill"]).await;
    each_grant_is_needed(13, &["backup"]).await;
}

async fn each_grant_is_needed(major: u16, of: &[&str]) {
    let mut bench = Bench::new(major).await;
    for command in ["sync p", "backup hr", "drill hr --no-owner"] {
        bench.run(command).await.succeeds();
    }
    bench.sankofa.write(
        "pipelines/q.yaml",
        "source: src\nschema: other\ntables: {public.employee: {mode: full_refresh}}\n",
    );
    let mut wrong = Vec::new();
    for (file, class, database, sql) in files(major).into_iter().filter(|(file, ..)| of.contains(file)) {
        let gives = |line: &&str| line.starts_with("GRANT ") || line.starts_with("ALTER ROLE ");
        for line in
            sql.lines().filter(gives).filter(|line| !FOR_READERS.iter().any(|other| line.starts_with(other)))
        {
            let needed = NEEDED.iter().find(|(of, start, ..)| *of == file && line.contains(start));
            let Some((_, _, command, words)) = needed else { panic!("{file}: no command needs: {line}") };
            bench.sql(database, &taken(line)).await;
            let done = bench.run(command).await;
            let (missing, _) = bench.compared(class).await;
            bench.sql(database, line).await;
            let is_found =
                |missing: &str| WORDS.iter().all(|word| !line.contains(word) || missing.contains(word));
            if missing.len() != 1 || !is_found(&missing[0]) {
                wrong.push(format!("{file}: without {line}\nsecrets policy finds missing: {missing:#?}"));
            }
            let names = words.iter().all(|word| done.stderr.contains(word));
            if done.code() != Some(77) || !names {
                wrong.push(format!("{file}: without {line}\nwanted 77 and {words:?}\n{}", done.told()));
            }
        }
    }
    assert!(wrong.is_empty(), "{major}: {}", wrong.join("\n\n"));
    for command in ["sync p", "sync q", "backup hr", "drill hr --no-owner --run {n}"] {
        bench.run(command).await.succeeds();
    }
}

#[tokio::test]
async fn each_capability_of_a_bucket_key_that_is_taken_away_is_77_and_named() {
    let mut bench = Bench::new(17).await;
    bench.run("backup hr").await.succeeds();
    bench.run("backup hr").await.succeeds();
    let mut wrong = Vec::new();
    for (class, id, capabilities, command) in [
        ("prune", "pruner", PRUNE, "backups prune"),
        ("backup", "offsite", BACKUP, "backup hr"),
        ("drill", "offsite", DRILL, "drill hr --no-owner --run {n}"),
    ] {
        for missing in capabilities {
            let rest: Vec<&str> = capabilities.iter().filter(|one| *one != missing).copied().collect();
            bench.key(id, &rest);
            let command =
                if (class, *missing) == ("prune", "listFiles") { "doctor --for backup" } else { command };
            let done = bench.run(command).await;
            // What was proven stays proven: that it could not be written down is a warning.
            let code = if (class, *missing) == ("drill", "writeFiles") { 0 } else { 77 };
            if done.code() != Some(code) || !done.told().contains(missing) {
                wrong.push(format!("{class} without {missing}:\n{}", done.told()));
            }
        }
        bench.key(id, capabilities);
        bench.run(command).await.succeeds();
    }
    // The rules of the bucket are looked at where the key may; doctor says so where it may not.
    let done = bench.run("doctor --for backup").await.succeeds();
    assert!(done.stdout.contains("the key needs listBuckets"), "{}", done.told());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
