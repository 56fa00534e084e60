//! Nothing leaks: marks stand in every secret and in cells, every command runs to its success and into its
//! failures, and nothing that is left holds a mark that may not be there.

use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::leaks::{Evidence, Found, Mark, Marks, Watch};
use crate::support::*;
use age::x25519;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use std::path::PathBuf;

const BUCKET: &str = "school-backups";

/// Where cells may be: (what the place begins with, why).
const CELLS_BELONG: &[(&str, &str)] = &[
    ("project plain-stage/", "a stage without `encrypt_to`: its files are rows"),
    ("project archive.pgc", "`restore --to-file` writes the plain archive that was asked for"),
    // Messages of the server that quote a value by themselves: no DETAIL, so `terse` keeps them.
    (
        "log of the warehouse: cast",
        "a check's or an `after:`'s own SQL that casts: invalid input syntax quotes the value",
    ),
    ("log of the source: cast", "a filter's own SQL that casts: invalid input syntax quotes the value"),
];

/// `mark` in every way in which something could write it.
fn written(mark: &str) -> Vec<(&'static str, String)> {
    use base64::Engine;
    let base64 = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let each = |write: fn(u8) -> String| mark.bytes().map(write).collect::<String>();
    vec![
        ("raw, or escaped around it", mark.to_uppercase()),
        ("percent-encoded", each(|byte| format!("%{byte:02X}"))),
        ("hexadecimal", each(|byte| format!("{byte:02X}"))),
        ("hexadecimal with \\x", each(|byte| format!("\\x{byte:02x}"))),
        ("JSON-escaped", each(|byte| format!("\\u{byte:04X}"))),
        ("shell-escaped in octal", each(|byte| format!("\\{byte:03o}"))),
        ("base64", base64(format!("{mark}-"))),
        ("base64, shifted by one", base64(format!("user:{mark}@"))[1..].to_owned()),
        ("base64, shifted by one", base64(format!("x{mark}"))),
        ("base64, shifted by two", base64(format!("id{mark}--"))),
    ]
}

#[test]
fn a_secret_is_found_as_a_url_json_a_shell_and_an_environment_would_have_it() {
    let mut marks = Marks::default();
    let secret = marks.secret("password");
    let quoted = format!("'{}'", secret.replace('\'', r"'\''"));
    for text in [
        secret.clone(),
        utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string(),
        serde_json::to_string(&secret).unwrap(),
        serde_json::to_string(&serde_json::to_string(&secret).unwrap()).unwrap(),
        quoted,
        format!("{secret:?}"),
    ] {
        let found = marks.find("here", format!("before {text} after").as_bytes());
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].is_secret && found[0].mark == "password");
    }
    assert_eq!(marks.find("here", b"nothing of the kind"), []);
}

#[tokio::test]
async fn a_mark_that_is_put_into_a_place_on_purpose_is_found_there_however_it_is_written() {
    let mut marks = Marks::default();
    let mark = marks.word("planted", Mark::Secret);
    let ways = written(&mark);
    let text = ways.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ");
    let mut evidence = Evidence::default();

    let temporary = tempfile::tempdir().unwrap();
    let shell = Sankofa::new().file("stage/part-0", &text).env("TMPDIR", temporary.path().to_str().unwrap());
    let script = "printf %s \"$1\"; printf %s \"$1\" >&2; printf %s \"$1\" > $TMPDIR/list; \
                  MARKED=\"$1\" /bin/sh -c 'sleep 0.3; :' child \"$1\"; rm $TMPDIR/list";
    let running = shell.start("/bin/sh", &["-c", script, "sh", &text]);
    let watch = Watch::start(running.pid(), temporary.path());
    evidence.run(&running.wait().await.succeeds());
    evidence.watched(watch);
    evidence.folder("project", shell.folder());

    let server = Server::major(17);
    let database = server.fresh_database("planted").await;
    let row = format!("CREATE SCHEMA sankofa; CREATE TABLE sankofa.run AS SELECT '{text}'::text AS error");
    database.sql(&row).await;
    evidence.schema(&database, "sankofa").await;
    evidence.log("a server", &server);

    let b2 = B2::start();
    b2.bucket(BUCKET, BucketOptions::default());
    b2.put(BUCKET, "prod/manifest.json", text.as_bytes());
    let request = reqwest::Client::new().get(b2.endpoint()).header("x-marked", &text);
    let _ = request.send().await.unwrap();
    evidence.b2(&b2, BUCKET);

    let found = evidence.search(&marks);
    for place in [
        "stdout of",
        "stderr of",
        "arguments of sankofa",
        "arguments of a child",
        "environment of a child",
        "temporary file",
        "project stage/part-0",
        "table sankofa.run",
        "log of a server",
        "object prod/manifest.json",
        "access log of B2",
    ] {
        for (way, text) in &ways {
            let is_found = found.iter().any(|found| found.place.starts_with(place) && found.way == *way);
            assert!(is_found, "{place}: {way} ({text}) is not found");
        }
    }
}

/// A source, a warehouse, a drill server, a bucket and a project, with marks in all that is secret.
struct Bench {
    marks: Marks,
    evidence: Evidence,
    source: Database,
    warehouse: Database,
    b2: B2,
    sankofa: Sankofa,
    temporary: tempfile::TempDir,
    runs: usize,
    /// Runs that ended otherwise than they should.
    surprises: Vec<String>,
}

/// A server that keeps what quotes values out of its log, where that can be had.
async fn quiet_server() -> Server {
    let server = Server::new(17).setting("log_error_verbosity", "terse").start();
    server.sql(&format!("ALTER ROLE {USER} SET log_statement = 'none'")).await; // the tests' own words
    server
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn programs() -> String {
    client_program(17, "pg_dump").parent().unwrap().display().to_string()
}

impl Bench {
    async fn new() -> Bench {
        let mut marks = Marks::default();
        let (source_server, warehouse_server) = (quiet_server().await, quiet_server().await);
        let source = source_server.fresh_database("leaks_source").await;
        let warehouse = warehouse_server.fresh_database("leaks_warehouse").await;
        let b2 = B2::start();
        b2.bucket(BUCKET, BucketOptions::default());
        let key = b2.key(KeySpec::all());
        marks.known("B2 key", &key.secret);
        let temporary = tempfile::tempdir().unwrap();
        let sankofa = Sankofa::new()
            .env("TMPDIR", temporary.path().to_str().unwrap())
            .env("SANKOFA_PG_BIN", &programs())
            .env("SANKOFA_RESULT_LINE", "1")
            .env("SANKOFA_RESULT_FILE", "result.json")
            .env("SANKOFA_PING", &format!("http://127.0.0.1:1/{}", marks.word("ping URL", Mark::Secret)))
            .env("AIRFLOW_VAR_HMAC_KEY", &marks.secret("HMAC key"))
            .connection_uri("offsite", &b2.connection_uri(&key));
        let evidence = Evidence::default();
        let mut bench = Bench {
            marks,
            evidence,
            source,
            warehouse,
            b2,
            sankofa,
            temporary,
            runs: 0,
            surprises: Vec::new(),
        };
        let identities = [("AGE_IDENTITY", "age identity"), ("STAGE_IDENTITY", "stage identity")];
        let [recipient, stage] = identities.map(|(variable, name)| bench.identity(variable, name));
        bench.project(
            "sankofa.yaml",
            &recipient,
            &format!("{{store: local, encrypt_to: [{stage}], identity: stage_identity}}"),
        );
        for (id, on_source) in [("src", true), ("wh", false), ("drill_server", false)] {
            let secret = bench.marks.secret(&format!("password of {id}"));
            let database = if on_source { &bench.source } else { &bench.warehouse };
            let role = format!("CREATE ROLE leak_{id} SUPERUSER LOGIN PASSWORD {}", literal(&secret));
            database.sql(&role).await;
            let database = if id == "drill_server" { "postgres" } else { database.name() };
            let uri = bench.uri(on_source, &format!("leak_{id}"), &secret, database);
            bench.set(&format!("AIRFLOW_CONN_{}", id.to_uppercase()), &uri);
        }
        bench.fill().await;
        bench
    }

    fn uri(&self, on_source: bool, role: &str, secret: &str, database: &str) -> String {
        let server = if on_source { self.source.server() } else { self.warehouse.server() };
        let secret = utf8_percent_encode(secret, NON_ALPHANUMERIC);
        format!("postgres://{role}:{secret}@127.0.0.1:{}/{database}", server.port())
    }

    /// Makes an identity, puts it into a variable; its recipient.
    fn identity(&mut self, variable: &str, name: &str) -> String {
        let identity = x25519::Identity::generate();
        let text = identity.to_string().expose_secret().to_owned();
        self.marks.known(name, text.strip_prefix("AGE-SECRET-KEY-1").unwrap());
        self.set(&format!("AIRFLOW_VAR_{variable}"), &text);
        identity.to_public().to_string()
    }

    fn set(&mut self, variable: &str, value: &str) {
        self.sankofa = std::mem::take(&mut self.sankofa).env(variable, value);
    }

    fn project(&self, file: &str, recipient: &str, stage: &str) {
        let text = format!(
            "version: 1\nsecrets: [environment]\nwarehouse: {{connection: wh}}\ndrill: {{connection: drill_server}}\n\
             stores:\n  local: {{directory: ./stage}}\n  plain: {{directory: ./plain-stage}}\n  \
             off: {{b2: {{connection: offsite, bucket: {BUCKET}, prefix: prod}}}}\n  \
             shut: {{s3: {{connection: aws, bucket: shut}}}}\nstage: {stage}\n\
             guard: {{never: ['*.*.*.national_id'], mask: {{'*.*.*.email': hmac}}}}\n\
             backups:\n  defaults: {{store: off, encrypt_to: [{recipient}], keep: {{days: 30, at_least: 1}}}}\n  \
             databases: {{hr: {{connection: src}}, shut: {{connection: src, store: shut}}}}\n"
        );
        self.sankofa.write(file, text);
    }

    fn pipeline(&self, tables: &str) {
        self.sankofa.write("pipelines/p.yaml", format!("source: src\nschema: w\ntables: {{{tables}}}\n"));
    }

    /// Rows with marks in every kind of cell.
    async fn fill(&mut self) {
        let mut cell = |name: &str| self.marks.word(&format!("cell {name}"), Mark::Cell);
        let (code, name, email, id) = (cell("key"), cell("text"), cell("masked"), cell("never"));
        let (json, bytes, large, list) = (cell("json"), cell("bytea"), cell("large object"), cell("array"));
        let sql = format!(
            "CREATE TABLE pupil (code text PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), name text,
                email text, national_id text, extra jsonb, raw bytea, list text[], n int);
             INSERT INTO pupil SELECT '{code}' || g, clock_timestamp(), '{name}', '{email}' || g, '{id}' || g,
                '{{\"k\": \"{json}\"}}', convert_to('{bytes}', 'UTF8'), ARRAY['{list}'], g FROM generate_series(1, 50) g;
             CREATE TABLE loose (code text, name text);
             INSERT INTO loose SELECT '{code}', '{name}' || g FROM generate_series(1, 2) g;
             SELECT lo_from_bytea(0, convert_to('{large}', 'UTF8'))"
        );
        self.source.sql(&sql).await;
        self.pipeline(PUPIL);
    }

    /// Runs a command at the most verbose level and keeps what it says; in turn with logs of text and JSON.
    async fn run(&mut self, args: &[&str]) -> Finished {
        self.runs += 1;
        let format = if self.runs.is_multiple_of(2) { "text" } else { "json" };
        let all = [&["-vv", "--log-format", format], args].concat();
        let running = self.sankofa.spawn(&all);
        let watch = Watch::start(running.pid(), self.temporary.path());
        let done = running.wait().await;
        self.evidence.run(&done);
        self.evidence.watched(watch);
        let left: Vec<PathBuf> =
            std::fs::read_dir(&self.temporary).unwrap().flatten().map(|e| e.path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "{}", done.told());
        let result = self.sankofa.folder().join("result.json");
        self.evidence
            .add(format!("result file of {}", args.join(" ")), std::fs::read(result).unwrap_or_default());
        done
    }

    async fn ok(&mut self, args: &[&str]) {
        self.fails(0, args).await;
    }

    async fn fails(&mut self, code: i32, args: &[&str]) {
        let done = self.run(args).await;
        if done.code() != Some(code) {
            self.surprises.push(format!("not {code}: {}", done.told()));
        }
    }

    /// With another value of a variable, for some runs.
    async fn with(&mut self, variable: &str, value: &str, runs: &[(i32, &[&str])]) {
        let before = self.sankofa.environment().iter().rfind(|(name, _)| name == variable).cloned();
        self.set(variable, value);
        for (code, args) in runs {
            self.fails(*code, args).await;
        }
        self.set(variable, &before.map(|(_, value)| value).unwrap_or_default());
    }

    /// Finds that are no leaks: cells where rows belong.
    fn leaks(&self) -> Vec<Found> {
        let belongs = |found: &Found| {
            !found.is_secret && CELLS_BELONG.iter().any(|(place, _)| found.place.starts_with(place))
        };
        self.evidence.search(&self.marks).into_iter().filter(|found| !belongs(found)).collect()
    }
}

const PUPIL: &str =
    "public.pupil: {mode: incremental, replication_key: u, deletes: {every: 1d, at_most: 100%}}";

/// Everything goes well.
async fn successes(bench: &mut Bench) {
    for args in [
        &["plan", "p"][..],
        &["init", "--source", "src", "--dry-run"],
        &["warehouse", "init"],
        &["warehouse", "upgrade"],
        &["extract", "p", "--run", "r"],
        &["validate", "p", "--run", "r"],
        &["load", "p", "--run", "r"],
        &["sync", "p"],
        &["sync", "p", "--full-refresh"],
        &["state", "show", "p"],
        &["state", "reset", "p", "--table", "public.pupil"],
        &["prune"],
        &["config", "show"],
        &["config", "compile"],
        &["config", "schema"],
        &["config", "reference"],
        &["completions", "bash"],
        &["man"],
        &["backup", "--help"],
        &["keygen", "--out", "own-identity.txt"],
        &["backup", "hr", "--run", "b"],
        &["backups", "list", "hr"],
        &["backups", "verify", "hr"],
        &["backups", "prune", "hr"],
        &["restore", "hr", "--into", "drill_server", "--database", "back", "--jobs", "2"],
        &["restore", "hr", "--into", "drill_server", "--database", "part", "--table", "public.pupil"],
        &["restore", "hr", "--to-file", "archive.pgc"],
        &["drill", "hr"],
        &["backups", "list", "hr"],
    ] {
        bench.ok(args).await;
    }
    bench.run(&["backups", "coverage"]).await;
    bench.run(&["doctor"]).await; // a superuser reads what the guard says never of
    bench.run(&["doctor", "--for", "backup"]).await;
    for program in ["pg_dump", "pg_restore"] {
        assert!(bench.evidence.has("arguments of a child", program), "no {program} was seen");
    }
    assert!(bench.evidence.has("environment of a child", "PGPASSFILE=/proc/self/fd/"));
}

/// Connections and keys that do not work.
async fn refused(bench: &mut Bench) {
    const ROWS: [&[&str]; 4] =
        [&["plan", "p"], &["sync", "p"], &["doctor"], &["init", "--source", "src", "--dry-run"]];
    let wrong = bench.marks.secret("wrong password");
    let broken = bench.marks.word("broken connection", Mark::Secret);
    let (name, dead) = (bench.source.name().to_owned(), bench.source.server().port().to_string());
    let uri = bench.uri(true, "leak_src", &wrong, &name);
    for (codes, value) in [([77; 5], uri.clone()), ([75, 75, 77, 75, 75], uri.replace(&dead, "1"))] {
        let backup: [&[&str]; 1] = [&["backup", "hr"]];
        let runs: Vec<(i32, &[&str])> = codes.into_iter().zip(ROWS.into_iter().chain(backup)).collect();
        bench.with("AIRFLOW_CONN_SRC", &value, &runs).await;
    }
    for value in [
        format!("postgres://u:{broken}@@host:99999999/x"),
        format!("{{\"conn_type\": \"postgres\", \"password\": \"{broken}\", \"port\": \"{broken}\"}}"),
        format!("{{\"conn_type\": \"postgres\", \"password\": \"{broken}\""),
        format!("{uri}?sslpassword={broken}"),
        format!("{uri}?passfile={broken}"),
        format!("{uri}?sslmode={broken}"),
    ] {
        bench.with("AIRFLOW_CONN_SRC", &value, &[(78, &["sync", "p"]), (78, &["backup", "hr"])]).await;
    }
    let uri = bench.uri(false, "leak_wh", &wrong, "postgres");
    bench
        .with(
            "AIRFLOW_CONN_WH",
            &uri,
            &[(77, &["sync", "p"]), (77, &["state", "show", "p"]), (77, &["prune"])],
        )
        .await;
    let uri = bench.uri(false, "leak_drill_server", &wrong, "postgres");
    let restore: &[&str] = &["restore", "hr", "--into", "drill_server", "--database", "x"];
    bench.with("AIRFLOW_CONN_DRILL_SERVER", &uri, &[(77, &["drill", "hr"]), (77, restore)]).await;
    let other = x25519::Identity::generate().to_string().expose_secret().to_owned();
    bench.marks.known("another identity", other.strip_prefix("AGE-SECRET-KEY-1").unwrap());
    let torn = other.replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-2");
    for (code, value) in [(77, other.as_str()), (78, torn.as_str())] {
        bench.with("AIRFLOW_VAR_AGE_IDENTITY", value, &[(code, &["drill", "hr"]), (code, restore)]).await;
        bench.ok(&["extract", "p", "--run", "shut"]).await;
        bench.with("AIRFLOW_VAR_STAGE_IDENTITY", value, &[(77, &["load", "p", "--run", "shut"])]).await;
    }
    let short = bench.marks.word("short HMAC key", Mark::Secret)[..15].to_owned();
    bench.with("AIRFLOW_VAR_HMAC_KEY", &short, &[(77, &["sync", "p"])]).await;
    let key = bench.marks.secret("revoked B2 key");
    let endpoint = bench.b2.endpoint();
    let [key, endpoint] =
        [&key, &endpoint].map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
    let uri = format!("b2://someid:{key}@/?endpoint={endpoint}");
    let b2: &[(i32, &[&str])] =
        &[(77, &["backup", "hr"]), (77, &["backups", "list", "hr"]), (77, &["doctor", "--for", "backup"])];
    bench.with("AIRFLOW_CONN_OFFSITE", &uri, b2).await;
    let (id, key) = (bench.marks.word("AWS key id", Mark::Secret), bench.marks.secret("AWS key"));
    let aws = serde_json::json!({"conn_type": "aws", "login": id, "password": key,
        "extra": {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"}});
    bench.with("AIRFLOW_CONN_AWS", &aws.to_string(), &[(75, &["backup", "shut", "--deadline", "2s"])]).await;
    let ping = bench.marks.word("bad ping URL", Mark::Secret);
    bench.with("SANKOFA_PING", &format!("ftp://{ping}/"), &[(2, &["backup", "hr"])]).await;
}

/// Rows and wishes that do not work.
async fn data(bench: &mut Bench) {
    for (made, dropped) in [
        (
            "ALTER TABLE w.pupil ADD CONSTRAINT c CHECK (name IS NULL) NOT VALID",
            "ALTER TABLE w.pupil DROP CONSTRAINT c",
        ),
        ("CREATE UNIQUE INDEX one ON w.pupil (name, n)", "DROP INDEX w.one"),
        (
            "CREATE DOMAIN w.few AS text CHECK (length(value) < 3); ALTER TABLE w.pupil ADD COLUMN few w.few",
            "ALTER TABLE w.pupil DROP COLUMN few",
        ),
    ] {
        bench.warehouse.sql(made).await;
        bench.source.sql("UPDATE pupil SET n = 1, u = clock_timestamp()").await;
        bench.run(&["sync", "p"]).await;
        bench.warehouse.sql(dropped).await;
    }
    for (code, tables) in [
        (65, "public.loose: {mode: full_refresh, key: code}"),
        (
            65,
            "public.pupil: {mode: full_refresh, checks: {rows: {min: 1000}, accepted: {name: [x]}, unique: [n]}}",
        ),
        (
            65,
            "public.pupil: {mode: full_refresh, checks: {freshness: {u: 1s}, null_rate: {n: 0%}, references: {name: w.pupil.email}}}",
        ),
        (78, "public.pupil: {mode: full_refresh, filter: \"national_id > 'x'\"}"),
        (78, "public.nosuch: {mode: full_refresh}"),
    ] {
        bench.pipeline(tables);
        bench.run(&["plan", "p"]).await;
        let done = bench.run(&["sync", "p"]).await;
        if done.code() != Some(code) {
            bench.surprises.push(format!("not {code}: {tables}: {}", done.told()));
        }
        if code == 65 {
            bench.ok(&["extract", "p", "--run", "bad"]).await;
            bench.run(&["validate", "p", "--run", "bad"]).await;
            bench.run(&["load", "p", "--run", "bad"]).await;
        }
    }
    bench.pipeline(PUPIL);
    bench.source.sql("ALTER TABLE pupil ALTER COLUMN n TYPE text").await;
    bench.run(&["plan", "p", "--check"]).await;
    bench.run(&["sync", "p"]).await;
    bench.source.sql("ALTER TABLE pupil ALTER COLUMN n TYPE int USING n::int").await;
    for args in [
        &["sync", "nosuch"][..],
        &["sync", "p", "--table", "public.nosuch"],
        &["backup", "nosuch"],
        &["restore", "hr", "--into", "nosuch", "--database", "x"],
        &["restore", "hr", "--into", "drill_server", "--backup", "nosuch"],
        &["load", "p", "--run", "nosuch"],
        &["sync", "p", "--from", "x"],
        &["nosuch"],
        &["init", "--source", "nosuch"],
    ] {
        let done = bench.run(args).await;
        assert_ne!(done.code(), Some(0), "{}", done.told());
    }
    let kept = bench.sankofa.read("sankofa.yaml");
    let secret = bench.marks.secret("secret in a project file");
    let written = format!("{kept}\nx: {{password: {}}}\n", serde_json::to_string(&secret).unwrap());
    bench.sankofa.write("sankofa.yaml", &written);
    bench.fails(78, &["sync", "p"]).await;
    bench.fails(78, &["config", "show"]).await;
    bench.sankofa.write("sankofa.yaml", &kept);
    bench.with("SANKOFA_RESULT_FILE", "/dev/full", &[(75, &["state", "show", "p"])]).await;
}

/// Ends that nobody chose: signals, and bytes that were changed in the store.
async fn accidents(bench: &mut Bench) {
    for (args, signal) in
        [(["sync", "p"], libc::SIGTERM), (["backup", "hr"], libc::SIGTERM), (["backup", "hr"], libc::SIGKILL)]
    {
        let all = [&["-vv", "--log-format", "json"], &args[..]].concat();
        let running = bench.sankofa.spawn(&all);
        let watch = Watch::start(running.pid(), bench.temporary.path());
        let done = running.signal_after(std::time::Duration::from_millis(150), signal).await;
        bench.evidence.run(&done);
        bench.evidence.watched(watch);
    }
    let stored: Vec<String> = bench.b2.versions(BUCKET).into_iter().map(|version| version.name).collect();
    for name in stored.iter().filter(|name| name.contains("/hr/") && name.ends_with(".age")) {
        bench.b2.damage(BUCKET, name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    bench.fails(65, &["backups", "verify", "hr"]).await;
    bench.run(&["drill", "hr"]).await;
    bench.run(&["restore", "hr", "--into", "drill_server", "--database", "torn"]).await;
}

/// What cannot be helped: each is on the list, and found, so that the list does not outlive its reasons.
async fn named(bench: &mut Bench) {
    bench.evidence.folder("project", bench.sankofa.folder()); // before: nothing in it is plain but what was asked for
    for (what, tables) in [
        ("the source: cast", "public.pupil: {mode: full_refresh, filter: \"name::int > 0\"}"),
        (
            "the warehouse: cast",
            "public.pupil: {mode: full_refresh, checks: {sql: {s: 'SELECT 1 FROM {table} WHERE name::int > 0'}}}",
        ),
    ] {
        bench.pipeline(tables);
        bench.fails(65, &["sync", "p"]).await;
        let server =
            if what.starts_with("the source") { bench.source.server() } else { bench.warehouse.server() };
        bench.evidence.log(what, server);
    }
    bench.pipeline("public.pupil: {mode: full_refresh}");
    let kept = bench.sankofa.read("sankofa.yaml");
    let line = kept.lines().find(|line| line.starts_with("stage:")).unwrap();
    bench.sankofa.write("sankofa.yaml", kept.replace(line, "stage: {store: plain}"));
    bench.ok(&["extract", "p", "--run", "plain"]).await;
    bench.evidence.folder("project", bench.sankofa.folder());
}

#[tokio::test]
async fn no_secret_and_no_cell_is_left_anywhere_whatever_is_run_and_whatever_goes_wrong() {
    let mut bench = Bench::new().await;
    successes(&mut bench).await;
    refused(&mut bench).await;
    data(&mut bench).await;
    accidents(&mut bench).await;
    let (source, warehouse) = (bench.source.server().clone(), bench.warehouse.server().clone());
    bench.evidence.log("the source", &source);
    bench.evidence.log("the warehouse", &warehouse);
    bench.evidence.schema(&bench.warehouse, "sankofa").await;
    bench.evidence.schema(&bench.warehouse, "sankofa_stage").await;
    bench.evidence.b2(&bench.b2, BUCKET);
    named(&mut bench).await;
    assert!(
        bench.surprises.is_empty(),
        "{} surprises:\n{}",
        bench.surprises.len(),
        bench.surprises.join("\n\n")
    );
    let leaks = bench.leaks();
    let told: Vec<String> = leaks
        .iter()
        .map(|found| format!("{} ({}) in {}: ...{}...", found.mark, found.way, found.place, found.around))
        .collect();
    assert!(told.is_empty(), "{} leaks:\n{}", told.len(), told.join("\n"));
    let all = bench.evidence.search(&bench.marks);
    for (place, why) in CELLS_BELONG {
        assert!(
            all.iter().any(|found| found.place.starts_with(place)),
            "{place} is on the list for nothing: {why}"
        );
    }
}
