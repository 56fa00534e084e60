//! Nothing leaks: marks stand in every secret and in cells, every command runs to its success and into its
//! failures, and nothing that is left holds a mark that may not be there.

use crate::stored::Disk;
use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::leaks::{Evidence, Found, Mark, Marks, Watch};
use crate::support::moto::{Moto, REGION};
use crate::support::stand_in::{Reply, StandIn};
use crate::support::vault::{self, Approle, VaultServer};
use crate::support::*;
use age::x25519;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use std::path::{Path, PathBuf};

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
    ("log of the warehouse: verbose", "DETAIL and CONTEXT quote the row: what `terse` leaves out"),
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
    let script = "printf %s \"$1\"; printf %s \"$1\" >&2; printf %s \"$1\" > $TMPDIR/list; printf %s \"$1\" > result.json; \
                  MARKED=\"$1\" /bin/sh -c 'sleep 0.3; :' child \"$1\"; rm $TMPDIR/list";
    let running = shell.start("/bin/sh", &["-c", script, "sh", &text]);
    let watch = Watch::start(running.pid(), temporary.path());
    evidence.run(&running.wait().await.succeeds());
    evidence.watched(watch);
    evidence.result("x", shell.folder());
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
    let receiver = StandIn::start(|_, _| Reply::ok("")).await;
    reqwest::Client::new().post(receiver.url()).body(text.clone()).send().await.unwrap();
    evidence.asked("the webhook", &receiver.asked());
    let mut logs = Vec::new();
    if let Some(vault) = VaultServer::shared().await {
        let audit = Audit::start(&vault).await;
        vault.get(&mark).await;
        evidence.add("audit device of Vault", audit.end(&vault).await);
        logs.push("audit device of Vault");
    }
    if let Some(moto) = Moto::shared().await {
        reqwest::get(format!("{}/{mark}", moto.url())).await.unwrap();
        evidence.add("access log of AWS", moto.log());
        logs.push("access log of AWS");
    }

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
        "access log of the webhook",
        "result file of",
    ] {
        for (way, text) in &ways {
            let is_found = found.iter().any(|found| found.place.starts_with(place) && found.way == *way);
            assert!(is_found, "{place}: {way} ({text}) is not found");
        }
    }
    for log in logs {
        assert!(found.iter().any(|found| found.place == log), "{log}: {mark} is not found");
    }
}

/// An audit device of a Vault, from now on.
struct Audit {
    device: String,
    file: tempfile::TempPath,
}

impl Audit {
    async fn start(vault: &VaultServer) -> Audit {
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let device = vault::unique("sys/audit/leaks");
        let options = serde_json::json!({"file_path": &*file, "mode": "0644"});
        vault.put(&device, serde_json::json!({"type": "file", "options": options})).await;
        Audit { device, file }
    }

    /// All that it has written; it ends.
    async fn end(self, vault: &VaultServer) -> Vec<u8> {
        vault.delete(&self.device).await;
        std::fs::read(&self.file).unwrap()
    }
}

/// A source, a warehouse, a drill server, a bucket and a project, with marks in all that is secret.
struct Bench {
    marks: Marks,
    evidence: Evidence,
    source: Database,
    warehouse: Database,
    b2: B2,
    receiver: StandIn,
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

/// The connection of a receiver of notices.
fn webhook(receiver: &StandIn, token: &str) -> String {
    let extra = serde_json::json!({"endpoint": "hooks/x", "headers": {"x-school": "one"}});
    serde_json::json!({"conn_type": "http", "host": receiver.url(), "password": token, "extra": extra})
        .to_string()
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
        let receiver = StandIn::start(|_, _| Reply::ok("")).await;
        let alerts = webhook(&receiver, &marks.word("webhook token", Mark::Secret));
        let temporary = tempfile::tempdir().unwrap();
        let sankofa = Sankofa::new()
            .env("TMPDIR", temporary.path().to_str().unwrap())
            .env("SANKOFA_PG_BIN", &programs())
            .env("SANKOFA_RESULT_LINE", "1")
            .env("SANKOFA_RESULT_FILE", "result.json")
            .env("SANKOFA_PING", &format!("http://127.0.0.1:1/{}", marks.word("ping URL", Mark::Secret)))
            .env("AIRFLOW_VAR_HMAC_KEY", &marks.secret("HMAC key"))
            .connection_uri("offsite", &b2.connection_uri(&key))
            .connection_uri("alerts", &alerts);
        let evidence = Evidence::default();
        let mut bench = Bench {
            marks,
            evidence,
            source,
            warehouse,
            b2,
            receiver,
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
             notify: [{{webhook: {{connection: alerts}}, when: [failure, late, success]}}]\n\
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
        self.evidence.result(&args.join(" "), self.sankofa.folder());
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

    /// What is left in files, in schema `sankofa`, in the logs of both servers, and at the receiver.
    async fn gathers(&mut self) {
        self.evidence.folder("project", self.sankofa.folder());
        self.evidence.schema(&self.warehouse, "sankofa").await;
        let (source, warehouse) = (self.source.server().clone(), self.warehouse.server().clone());
        self.evidence.log("the source", &source);
        self.evidence.log("the warehouse", &warehouse);
        self.evidence.asked("the webhook", &self.receiver.asked());
    }

    /// Nothing ended otherwise than it should, and no mark is where it may not be.
    #[track_caller]
    fn is_clean(&self) {
        let surprises = &self.surprises;
        assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n\n"));
        let told: Vec<String> = self
            .leaks()
            .iter()
            .map(|found| format!("{} ({}) in {}: ...{}...", found.mark, found.way, found.place, found.around))
            .collect();
        assert!(told.is_empty(), "{} leaks:\n{}", told.len(), told.join("\n"));
    }

    /// Finds that are leaks: not those of cells where rows belong.
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
    for args in [
        &["backups", "coverage"][..],
        &["status"],
        &["status", "--html", "page.html"],
        &["secrets", "check"],
        &["secrets", "policy", "--class", "rows"],
    ] {
        bench.run(args).await;
    }
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
    let token = bench.marks.secret("webhook token that cannot be sent");
    let elsewhere = StandIn::start(|_, _| Reply::status(500, "MARK")).await;
    for receiver in [webhook(&bench.receiver, &token), webhook(&elsewhere, "x"), format!("http://{token}")] {
        bench.with("AIRFLOW_CONN_ALERTS", &receiver, &[(78, &["backup", "nosuch"])]).await;
    }
    let ping = bench.marks.word("bad ping URL", Mark::Secret);
    bench.with("SANKOFA_PING", &format!("ftp://{ping}/"), &[(2, &["backup", "hr"])]).await;
}

/// A constraint that no row fits, and its end.
const CHECK: (&str, &str) = (
    "ALTER TABLE w.pupil ADD CONSTRAINT c CHECK (name IS NULL) NOT VALID",
    "ALTER TABLE w.pupil DROP CONSTRAINT c",
);

/// Rows that the warehouse does not take once it has `made` something.
async fn unwelcome(bench: &mut Bench, made: &str, dropped: &str) {
    bench.warehouse.sql(made).await;
    bench.source.sql("UPDATE pupil SET n = 1, u = clock_timestamp()").await;
    bench.run(&["sync", "p"]).await;
    bench.warehouse.sql(dropped).await;
}

/// Rows and wishes that do not work.
async fn data(bench: &mut Bench) {
    for (made, dropped) in [
        CHECK,
        ("CREATE UNIQUE INDEX one ON w.pupil (name, n)", "DROP INDEX w.one"),
        (
            "CREATE DOMAIN w.few AS text CHECK (length(value) < 3); ALTER TABLE w.pupil ADD COLUMN few w.few",
            "ALTER TABLE w.pupil DROP COLUMN few",
        ),
    ] {
        unwelcome(bench, made, dropped).await;
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
    full_disk(bench).await;
    panics(bench).await;
}

/// Places without room: the stage's, the spool's.
async fn full_disk(bench: &mut Bench) {
    let Some(disk) = Disk::of_mib(1) else { return };
    let filled = std::fs::write(disk.path().join("others"), vec![0; 2 << 20]);
    assert!(filled.is_err(), "there is room");
    let kept = bench.sankofa.read("sankofa.yaml");
    let at = format!("local: {{directory: {}}}", disk.path().display());
    bench.sankofa.write("sankofa.yaml", kept.replace("local: {directory: ./stage}", &at));
    bench.fails(75, &["extract", "p", "--run", "full"]).await;
    let spool = disk.path().display().to_string();
    let restore = ["restore", "hr", "--into", "drill_server", "--database", "full", "--spool", &spool];
    bench.fails(75, &restore).await;
    bench.sankofa.write("sankofa.yaml", kept);
    bench.evidence.folder("full disk", disk.path());
}

/// From too little address space to enough, as small steps: where no thread can be had for the look-up of a
/// name it panics, elsewhere it is aborted.
async fn panics(bench: &mut Bench) {
    let secret = bench.marks.secret("password of one that panics");
    let uri = bench.uri(true, "leak_src", &secret, "x").replace("127.0.0.1", "localhost");
    let kept = ["AIRFLOW_CONN_SRC", "AIRFLOW_CONN_WH"].map(|name| {
        let known = bench.sankofa.environment().iter().rfind(|(known, _)| known == name).cloned();
        bench.set(name, &uri);
        (name, known.unwrap_or_default().1)
    });
    let mut panicked = 0;
    // The window may be narrower than a step: then the steps are set off against the first ones.
    for offset in [0, 250, 125, 375] {
        let mut well = 0;
        for kib in (30_000 + offset..400_000).step_by(500) {
            let script = format!("ulimit -v {kib}; exec \"$0\" -vv sync p");
            let running = bench.sankofa.start("/bin/sh", &["-c", &script, env!("CARGO_BIN_EXE_sankofa")]);
            let watch = Watch::start(running.pid(), bench.temporary.path());
            let done = running.kill_after(std::time::Duration::from_secs(5)).await;
            panicked += usize::from(done.stderr.contains("panicked at"));
            well = if done.code() == Some(77) { well + 1 } else { 0 };
            bench.evidence.run(&done);
            bench.evidence.watched(watch);
            if well == 3 {
                break;
            }
        }
        if panicked > 0 {
            break;
        }
    }
    kept.into_iter().for_each(|(name, value)| bench.set(name, &value));
    assert!(panicked > 0, "nothing panicked");
}

/// The servers tell all that they know: rows are in their logs then, secrets are not.
async fn verbose(bench: &mut Bench) {
    for server in [bench.source.server(), bench.warehouse.server()] {
        server.sql("ALTER SYSTEM SET log_error_verbosity = 'verbose'").await;
        server.sql("SELECT pg_reload_conf()").await;
    }
    let wrong = bench.marks.secret("wrong password, verbosely told");
    let (name, uri) = (bench.source.name().to_owned(), bench.uri(false, "leak_wh", &wrong, "postgres"));
    bench.with("AIRFLOW_CONN_WH", &uri, &[(77, &["sync", "p"])]).await;
    let uri = bench.uri(true, "leak_src", &wrong, &name);
    bench.with("AIRFLOW_CONN_SRC", &uri, &[(77, &["sync", "p"]), (77, &["backup", "hr"])]).await;
    unwelcome(bench, CHECK.0, CHECK.1).await;
    let warehouse = bench.warehouse.server().clone();
    bench.evidence.log("the warehouse: verbose", &warehouse);
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
    verbose(&mut bench).await;
    named(&mut bench).await;
    let told = bench.receiver.asked();
    assert!(told.iter().any(|one| one.header("authorization").starts_with("Bearer Mk")), "{told:?}");
    bench.evidence.asked("the webhook", &told);
    bench.is_clean();
    let all = bench.evidence.search(&bench.marks);
    for (place, why) in CELLS_BELONG {
        assert!(
            all.iter().any(|found| found.place.starts_with(place)),
            "{place} is on the list for nothing: {why}"
        );
    }
}

/// Moves what the environment of the project holds into Vault, which is asked from now on; its mount.
async fn move_to_vault(bench: &mut Bench, vault: &VaultServer) -> String {
    let mount = vault.kv(2).await;
    let all: Vec<(String, String)> = bench.sankofa.environment().to_vec();
    for (name, value) in all {
        let (path, field) = match (name.strip_prefix("AIRFLOW_CONN_"), name.strip_prefix("AIRFLOW_VAR_")) {
            (Some(id), _) => (format!("connections/{}", id.to_lowercase()), "conn_uri"),
            (_, Some(key)) => (format!("variables/{}", key.to_lowercase()), "value"),
            _ => continue,
        };
        vault.write((&mount, 2), &path, serde_json::json!({ field: value })).await;
        bench.sankofa = std::mem::take(&mut bench.sankofa).without(&name);
    }
    mount
}

/// The project asks Vault at `address` alone, and logs in by approle with the secret id in `file`.
fn ask_vault(bench: &Bench, (address, mount): (&str, &str), role: &Approle, (file, wrapped): (&Path, bool)) {
    let kept = bench.sankofa.read("sankofa.yaml");
    let line = kept.lines().find(|line| line.starts_with("secrets:")).unwrap();
    let auth = format!(
        "{{approle: {{mount: {}, role_id: {}, secret_id_file: {}, wrapped: {wrapped}}}}}",
        role.mount,
        role.role_id,
        file.display()
    );
    let asked = format!("secrets: [{{vault: {{address: \"{address}\", mount: {mount}, auth: {auth}}}}}]");
    bench.sankofa.write("sankofa.yaml", kept.replace(line, &asked));
}

#[tokio::test]
async fn nothing_that_vault_gives_or_is_given_is_left_anywhere() {
    let Some(vault) = VaultServer::shared().await else { return };
    let mut bench = Bench::new().await;
    let audit = Audit::start(&vault).await;
    let mount = move_to_vault(&mut bench, &vault).await;
    let rule = |path: &str| format!("path \"{mount}/data/{path}\" {{ capabilities = [\"read\"] }}\n");
    let role =
        vault.approle(&["connections/*", "variables/*"].map(rule).concat(), serde_json::json!({})).await;
    let (given, secret_id) = (tempfile::tempdir().unwrap(), vault.secret_id(&role).await);
    let file = given.path().join("secret_id");
    std::fs::write(&file, &secret_id).unwrap();
    bench.marks.known("secret id", &secret_id);
    ask_vault(&bench, (&vault.address, &mount), &role, (&file, false));
    for args in [&["sync", "p"][..], &["extract", "p", "--run", "r"], &["backup", "hr"], &["drill", "hr"]] {
        bench.ok(args).await;
    }
    bench.run(&["secrets", "check"]).await;
    bench.run(&["doctor"]).await;

    let wrong = bench.marks.word("wrong secret id", Mark::Secret);
    std::fs::write(&file, wrong).unwrap();
    bench.fails(77, &["sync", "p"]).await;
    let path = format!("auth/{}/role/rows/secret-id", role.mount);
    let wrapping = vault::text(&vault.wrapped(&path, "60s").await, "/wrap_info/token");
    bench.marks.known("wrapping token", &wrapping);
    std::fs::write(&file, &wrapping).unwrap();
    ask_vault(&bench, (&vault.address, &mount), &role, (&file, true));
    bench.ok(&["backups", "list", "hr"]).await;
    bench.fails(77, &["backups", "list", "hr"]).await; // it was unwrapped: taken
    std::fs::write(&file, &secret_id).unwrap();
    ask_vault(&bench, ("http://127.0.0.1:1", &mount), &role, (&file, false));
    bench.fails(75, &["sync", "p"]).await;
    ask_vault(&bench, (&vault.address, "elsewhere"), &role, (&file, false));
    bench.fails(77, &["sync", "p"]).await;

    let audited = audit.end(&vault).await;
    bench.gathers().await;
    assert!(!bench.evidence.has("", "hvs."), "a token of Vault is left somewhere");
    bench.evidence.add("audit device of Vault", audited);
    assert!(bench.evidence.has("audit device of Vault", &mount), "the audit device has seen nothing");
    bench.is_clean();
}

/// Moves what the environment of the project holds into Secrets Manager; the prefix of its names.
async fn move_to_aws(bench: &mut Bench, moto: &Moto) -> String {
    let prefix = vault::unique("leaks");
    let all: Vec<(String, String)> = bench.sankofa.environment().to_vec();
    for (name, value) in all {
        let path = match (name.strip_prefix("AIRFLOW_CONN_"), name.strip_prefix("AIRFLOW_VAR_")) {
            (Some(id), _) => format!("{prefix}/connections/{}", id.to_lowercase()),
            (_, Some(key)) => format!("{prefix}/variables/{}", key.to_lowercase()),
            _ => continue,
        };
        moto.create(&path, &value).await;
        bench.sankofa = std::mem::take(&mut bench.sankofa).without(&name);
    }
    prefix
}

/// The project asks Secrets Manager at `endpoint` alone.
fn ask_aws(bench: &Bench, prefix: &str, endpoint: &str) {
    let kept = bench.sankofa.read("sankofa.yaml");
    let line = kept.lines().find(|line| line.starts_with("secrets:")).unwrap();
    let asked = format!(
        "secrets: [{{aws_secrets_manager: {{region: {REGION}, connections: {prefix}/connections, \
         variables: {prefix}/variables, endpoint_url: \"{endpoint}\"}}}}]"
    );
    bench.sankofa.write("sankofa.yaml", kept.replace(line, &asked));
}

/// An STS that gives these keys to whoever shows a token, since moto makes up its own.
async fn sts(key: &str, session: &str) -> StandIn {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    let answer = format!(
        "<R><Credentials><AccessKeyId>ASIATEST</AccessKeyId><SecretAccessKey>{key}</SecretAccessKey>\
         <SessionToken>{session}</SessionToken><Expiration>{end}</Expiration></Credentials></R>"
    );
    StandIn::start(move |_, _| Reply::ok(answer.clone())).await
}

#[tokio::test]
async fn nothing_that_aws_gives_or_is_given_is_left_anywhere() {
    let Some(moto) = Moto::shared().await else { return };
    let mut bench = Bench::new().await;
    let prefix = move_to_aws(&mut bench, &moto).await;
    ask_aws(&bench, &prefix, &moto.url());
    let (key, session) = (bench.marks.secret("AWS key"), bench.marks.word("AWS session token", Mark::Secret));
    for (name, value) in
        [("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", &key), ("AWS_SESSION_TOKEN", &session)]
    {
        bench.set(name, value);
    }
    for args in [&["sync", "p"][..], &["extract", "p", "--run", "r"], &["backup", "hr"], &["drill", "hr"]] {
        bench.ok(args).await;
    }
    for args in [&["secrets", "check"][..], &["doctor"]] {
        bench.run(args).await;
    }
    let quoting = format!("{{\"__type\": \"InvalidSignatureException\", \"message\": \"{session}\"}}");
    let refusing = StandIn::start(move |_, _| Reply::status(403, quoting.clone())).await;
    for (code, endpoint) in [(77, refusing.url()), (75, "http://127.0.0.1:1".into()), (77, moto.url())] {
        let prefix = if endpoint == moto.url() { "nowhere" } else { &prefix };
        ask_aws(&bench, prefix, &endpoint);
        bench.fails(code, &["sync", "p"]).await;
    }
    ask_aws(&bench, &prefix, &moto.url());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        bench.sankofa = std::mem::take(&mut bench.sankofa).without(name);
    }
    let made =
        [bench.marks.word("key by STS", Mark::Secret), bench.marks.word("session by STS", Mark::Secret)];
    let sts = sts(&made[0], &made[1]).await;
    let (given, token) = (tempfile::tempdir().unwrap(), bench.marks.word("web identity", Mark::Secret));
    let file = given.path().join("token");
    std::fs::write(&file, format!("header.{token}.signature")).unwrap();
    bench.set("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap());
    bench.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/rows");
    bench.set("AWS_ENDPOINT_URL_STS", &sts.url());
    bench.ok(&["sync", "p"]).await;
    assert!(sts.asked()[0].body.contains(&token), "STS was not asked");
    bench.set("AWS_ENDPOINT_URL_STS", &refusing.url());
    bench.fails(77, &["sync", "p"]).await;

    bench.gathers().await;
    bench.evidence.add("access log of AWS", moto.log());
    assert!(bench.evidence.has("access log of AWS", "POST /"), "moto was not asked");
    bench.is_clean();
}
