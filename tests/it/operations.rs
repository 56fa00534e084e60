//! Every command of `docs/operations.md` and `docs/errors/` is run, taken from the page, from an empty folder to
//! the nights that come after; `doctor` leads through the install, and what it says next is what is done next.
//!
//! In:    the pages as they are now.
//! Holds: a command on a page that nobody runs fails the test, and so does one that only the test knows; cron lines
//!        run as cron does, with nothing in the environment but its PATH.
//! Not here: the sections that are run as they stand (`pages`), the restores (`laptop`).

use crate::pages::WHOLE;
use crate::support::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What is on a page and not run here, with the reason.
const NOT_RUN: [(&str, &str); 4] = [
    ("sankofa_airflow doctor", "a program of the package: tests/airflow runs it"),
    ("sankofa COMMAND --help", "COMMAND stands for each; tests/cli runs them"),
    (
        "sankofa sync hr --run ID --accept 'public.t: unique(n)' --by NAME --reason TEXT",
        "ID, NAME and TEXT stand for others; `pages` runs one with words of its own",
    ),
    ("sankofa sync hr --run ID --set-aside public.t --by NAME --reason TEXT", "the same"),
];

/// Every command of a page: lines of `sh` (a loop is one) and of `cron`, and `sankofa ...` in the text.
fn commands(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut section, mut fence, mut prose, mut open) = ("", None, String::new(), String::new());
    for line in page.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (None, None) => {
                section = line.strip_prefix("## ").unwrap_or(section);
                prose.push_str(line);
                prose.push(' ');
            }
            (Some("cron"), None) => drop(found.insert(line.to_owned())),
            (Some("sh"), None) if !WHOLE.contains(&section) => {
                open.push_str(line.split(" # ").next().unwrap_or(line).trim_end());
                let is_open = open.starts_with("for ") && !open.ends_with("done");
                match is_open {
                    true => open.push('\n'),
                    false => drop(found.insert(std::mem::take(&mut open))),
                }
            }
            (Some(_), None) => {}
        }
    }
    let words = |span: &str| span.split_whitespace().collect::<Vec<_>>().join(" ");
    let inline = prose.split('`').skip(1).step_by(2).map(words);
    found.extend(inline.filter(|one| one.starts_with("sankofa ") || one.starts_with("sankofa_airflow ")));
    found
}

#[test]
fn a_page_gives_its_blocks_its_cron_lines_and_the_commands_in_its_text() {
    let page = "## A\nsay `sankofa a\n b` and `x`\n```sh\nsankofa c    # why\nfor d in 1; do\n  e\ndone\n```\n```text\nno\n```\n\
                ## Retention\n```sh\nelsewhere\n```\n```cron\n0 5 * * * f\n```\n";
    let expected = ["0 5 * * * f", "for d in 1; do\n  e\ndone", "sankofa a b", "sankofa c"];
    assert_eq!(commands(page).into_iter().collect::<Vec<_>>(), expected);
}

fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("cannot read {}: {why}", path.display()))
}

/// A person who follows the pages.
struct Walk {
    project: Sankofa,
    /// What the pages say.
    told: BTreeSet<String>,
    ran: BTreeSet<String>,
    source: Database,
    warehouse: Database,
    drill: Server,
}

impl Walk {
    async fn new() -> Walk {
        let server = Server::new(17).start();
        let source = Database::named(&server, "hr");
        server.sql("CREATE DATABASE hr").await;
        let warehouse = Server::major(17).fresh_database("operations_wh").await;
        let mut told = commands(&page("operations.md"));
        for status in ["1", "2", "65", "75", "77", "78", "99", "130", "143"] {
            told.extend(commands(&page(&format!("errors/{status}.md"))));
        }
        let programs = client_program(17, "pg_dump").parent().unwrap().display().to_string();
        let project = Sankofa::new().env("SANKOFA_PG_BIN", &programs).env("RUN_ID", "etl_hr/monday");
        Walk { project, told, ran: BTreeSet::new(), source, warehouse, drill: Server::major(18) }
    }

    fn env(&mut self, name: &str, value: &str) {
        self.project = std::mem::take(&mut self.project).without(name).env(name, value);
    }

    fn path(&self) -> String {
        let binary = Path::new(env!("CARGO_BIN_EXE_sankofa")).parent().unwrap();
        format!("{}:{}/bin:/usr/bin:/bin", binary.display(), self.project.folder().display())
    }

    /// Runs a command of the page, or what begins as `start` does when that is one alone.
    async fn runs(&mut self, start: &str, ends: i32) -> Finished {
        let fits = |one: &&String| {
            one.as_str() == start || start.ends_with("...") && one.starts_with(start.trim_end_matches("..."))
        };
        let found: Vec<&String> = self.told.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{start:?} on the pages: {found:?}");
        let line = found[0].clone();
        let done = match line.starts_with(|first: char| first.is_ascii_digit() || first == '*') {
            true => self.by_cron(&line).await,
            false => {
                let path = format!("PATH={}", self.path());
                self.project.start("/usr/bin/env", &[&path, "sh", "-c", &line]).wait().await
            }
        };
        self.ran.insert(line);
        done.exits(ends)
    }

    /// Runs what a line of a crontab starts, with cron's own environment and the page's folders in ours.
    async fn by_cron(&self, line: &str) -> Finished {
        let mut rest = line;
        for _ in 0..5 {
            rest = rest.split_once(' ').expect("five fields").1.trim_start();
        }
        let here = self.project.folder().display().to_string();
        let fitted = ["/etc/sankofa", "/var/log/sankofa", "/var/www/sankofa"]
            .iter()
            .fold(rest.to_owned(), |line, place| line.replace(place, &format!("{here}/there")))
            .replace("/srv/school", &here);
        let args = ["-i", "PATH=/usr/bin:/bin", "sh", "-c", &fitted];
        self.project.start("/usr/bin/env", &args).wait().await
    }

    /// The files that the crontabs read: the one that the page shows by its names, the others with all there is.
    fn env_files(&self) {
        let known: BTreeMap<&str, &str> =
            self.project.environment().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let path = self.path();
        let export = |name: &str| {
            let value = if name == "PATH" { &path } else { known[name] };
            format!("export {name}='{value}'\n")
        };
        let page = page("operations.md");
        let shown = page.lines().filter_map(|line| line.strip_prefix("export ")?.split('=').next());
        self.project.write("there/env", shown.map(export).collect::<String>());
        let all: String = known.keys().copied().chain(["PATH"]).map(export).collect();
        self.project.write("there/backup.env", &all);
        self.project.write("there/drill.env", &all);
    }

    /// What `doctor --for` says next, in its result and in the last line of what a person reads.
    async fn next(&mut self, of: &str, ends: i32) -> String {
        let done = self.runs(&format!("sankofa doctor --for {of}"), ends).await;
        let next = done.json()["next"].as_str().unwrap_or_default().to_owned();
        assert!(!next.is_empty(), "{}", done.told());
        next
    }

    async fn next_is(&mut self, of: &str, ends: i32, next: &str) {
        let said = self.next(of, ends).await;
        assert!(said.contains(next), "doctor --for {of} says {said:?}, not {next:?}");
    }

    fn change(&self, path: &str, change: impl Fn(&str) -> String) {
        let text = self.project.read(path);
        let changed = change(&text);
        assert_ne!(text, changed, "{path} stays as it is");
        self.project.write(path, changed);
    }

    fn is_everything(&self) {
        let known: BTreeSet<String> = NOT_RUN.iter().map(|(command, _)| (*command).to_owned()).collect();
        let left: Vec<&String> =
            self.told.difference(&self.ran).filter(|one| !known.contains(*one)).collect();
        assert!(left.is_empty(), "on a page, and run by nobody: {left:#?}");
        let gone: Vec<&String> = known.difference(&self.told).collect();
        assert!(gone.is_empty(), "on no page any more: {gone:?}");
    }
}

const TABLES: &str = "CREATE TABLE employee (emp_no int PRIMARY KEY, email text, updated_at timestamptz NOT NULL);
    INSERT INTO employee SELECT n, 'e' || n || '@school.example', '2026-03-01'::timestamptz + n * interval '1 hour'
        FROM generate_series(1, 100) n;
    CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a');
    CREATE TABLE not_loaded (id serial PRIMARY KEY)";
const AUDIT: &str = "CREATE TABLE audit (id int PRIMARY KEY, at timestamptz NOT NULL);
    INSERT INTO audit SELECT n, '2024-02-28'::timestamptz + n * interval '1 hour' FROM generate_series(1, 200) n;
    GRANT SELECT ON audit TO sankofa_rows";
const RIGHTS: &str =
    "GRANT USAGE ON SCHEMA public TO sankofa_rows; GRANT SELECT ON employee, t TO sankofa_rows";

/// Steps 1 to 3 of the install: an empty folder, roles, connections, the first load.
async fn rows(walk: &mut Walk) {
    walk.next_is("rows", 78, "sankofa init --source").await;
    let done = walk.runs("sankofa init --source hr_db --pipeline hr", 77).await;
    assert!(done.stderr.contains("Set AIRFLOW_CONN_HR_DB"), "{}", done.told());
    walk.source.sql(TABLES).await;
    let sql = format!("CREATE ROLE sankofa_rows LOGIN PASSWORD '{PASSWORD}'");
    walk.source.sql(&sql).await;
    walk.env("AIRFLOW_CONN_HR_DB", &walk.source.connection_uri_as("sankofa_rows"));
    let done = walk.runs("sankofa init --source hr_db --pipeline hr", 78).await;
    assert!(done.stderr.contains("may read no table"), "{}", done.told());
    walk.source.sql(RIGHTS).await;
    walk.runs("sankofa init --source hr_db --pipeline hr", 0).await;
    walk.next_is("rows", 77, "Set AIRFLOW_CONN_WAREHOUSE").await;
    walk.env("AIRFLOW_CONN_WAREHOUSE", &walk.warehouse.connection_uri());
    walk.next_is("rows", 77, "GRANT pg_read_all_stats TO ").await;
    walk.source.sql("GRANT pg_read_all_stats TO sankofa_rows").await;
    walk.runs("sankofa secrets check", 0).await;
    walk.runs("sankofa secrets check --class rows", 0).await;
    walk.runs("sankofa secrets policy --class rows", 0).await;
    walk.runs("sankofa secrets policy", 0).await;
    walk.next_is("rows", 0, "`sankofa plan hr`, then `sankofa sync hr`.").await;
    walk.runs("sankofa warehouse init", 0).await;
    walk.runs("sankofa plan hr", 0).await;
    walk.runs("sankofa sync hr", 0).await;
    walk.next_is("rows", 0, "`sankofa doctor --for backup`").await;
    walk.runs("sankofa sync hr --table public.employee", 0).await;
    walk.runs("sankofa state show hr", 0).await;
    assert_eq!(walk.warehouse.value("SELECT count(*) FROM hr.employee").await, "100");
}

/// Steps 4 and 5: the first backup, the first restore.
async fn backups(walk: &mut Walk) {
    walk.next_is("backup", 0, "Name the databases under `backups:`").await;
    walk.next_is("drill", 0, "Name the databases under `backups:`").await;
    let recipient = walk.runs("sankofa keygen", 0).await.json()["recipient"].as_str().unwrap().to_owned();
    walk.change("sankofa.yaml", |text| {
        format!(
            "{text}stores: {{offsite: {{directory: ./offsite}}}}\nbackups:\n  servers: [hr_db]\n  ignore: [postgres]\n  \
             defaults: {{store: offsite, encrypt_to: [{recipient}]}}\n  databases: {{hr: {{connection: hr_db}}}}\n"
        )
    });
    walk.next_is("rows", 0, "`sankofa doctor --for backup`, with the identity of that class").await;
    walk.next_is("backup", 77, "GRANT pg_read_all_data TO ").await;
    walk.env("AIRFLOW_CONN_HR_DB", &walk.source.connection_uri());
    walk.next_is("backup", 0, "`sankofa backup hr`").await;
    walk.runs("sankofa backup hr", 0).await;
    walk.next_is("backup", 0, "`sankofa doctor --for drill`").await;
    walk.next_is("drill", 77, "into variable age_identity").await;
    let identity = walk.project.read("age-identity.txt");
    walk.env("AIRFLOW_VAR_AGE_IDENTITY", identity.lines().last().unwrap());
    walk.next_is("drill", 0, "Name a server for drills").await;
    walk.change("sankofa.yaml", |text| format!("{text}drill: {{connection: drill_server}}\n"));
    walk.next_is("drill", 77, "Set AIRFLOW_CONN_DRILL_SERVER").await;
    let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", walk.drill.port());
    walk.env("AIRFLOW_CONN_DRILL_SERVER", &uri);
    walk.next_is("drill", 0, "`sankofa drill hr`").await;
    walk.runs("sankofa drill hr", 0).await;
    walk.next_is("drill", 0, "`sankofa doctor --for airflow`").await;
    walk.runs("sankofa doctor", 0).await;
    walk.runs("sankofa backups list", 0).await;
    walk.runs("sankofa backups prune", 0).await;
    walk.runs("sankofa backups verify", 0).await;
}

/// Step 6: a stage, locks, a schedule, until what is left is Airflow's own.
async fn airflow(walk: &mut Walk) {
    walk.next_is("airflow", 78, "Add `stores:` and `stage:").await;
    walk.change("sankofa.yaml", |text| {
        let stage =
            "stores: {offsite: {directory: ./offsite}, stage: {directory: ./stage}}\nstage: {store: stage}\n";
        text.replace("stores: {offsite: {directory: ./offsite}}\n", stage)
    });
    walk.next_is("airflow", 78, "`sankofa config compile hr`").await;
    walk.runs("sankofa config compile hr", 0).await;
    walk.next_is("airflow", 0, "Write `schedule: {cron: ...}` into pipelines/hr.yaml").await;
    walk.change("pipelines/hr.yaml", |text| text.replace("# schedule:", "schedule:"));
    walk.next_is("airflow", 78, "`sankofa config compile hr`").await;
    walk.runs("sankofa config compile hr", 0).await;
    walk.next_is("airflow", 0, "then unpause the DAGs").await;
}

/// The nights, by cron and in steps, and who looks at them.
async fn nights(walk: &mut Walk) {
    walk.env_files();
    walk.runs("0 3 * * * . /etc/sankofa/env ...", 0).await;
    walk.runs("sankofa extract  hr --run \"$RUN_ID\" ...", 0).await;
    walk.runs("sankofa validate hr --run \"$RUN_ID\"", 0).await;
    walk.runs("sankofa load     hr --run \"$RUN_ID\"", 0).await;
    walk.runs("30 1 * * * . /etc/sankofa/backup.env ...", 0).await;
    for log in ["there/hr.log", "there/hr-backup.log"] {
        assert!(walk.project.read(log).contains("\"level\":"), "{log}: {}", walk.project.read(log));
    }
    let here = walk.project.folder().to_owned();
    walk.project.write("bin/mail", format!("#!/bin/sh\necho \"$@\" >>{}/mailed\n", here.display()));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(here.join("bin/mail"), mode).unwrap();
    walk.runs("0 8 * * *  . /etc/sankofa/backup.env ...", 0).await;
    assert!(!here.join("mailed").exists(), "nobody was told of nothing");
    walk.source.sql("CREATE DATABASE forgotten").await;
    walk.runs("0 8 * * *  . /etc/sankofa/backup.env ...", 0).await;
    assert_eq!(walk.project.read("mailed"), "-s a database without a backup operator@school.example\n");
    walk.runs("sankofa status", 65).await;
    walk.source.sql("DROP DATABASE forgotten").await;
    walk.runs("0 8 * * *  . /etc/sankofa/backup.env ...", 0).await;
    walk.runs("0 4 1 * *  . /etc/sankofa/drill.env ...", 0).await;
    walk.runs("sankofa status", 0).await;
    walk.runs("*/30 * * * * . /etc/sankofa/env ...", 0).await;
    assert!(walk.project.read("there/index.html").contains("<h1"));
    walk.runs("0 5 * * 0 . /etc/sankofa/env ...", 0).await;
    walk.runs("sankofa prune --dry-run", 0).await;
    walk.runs("sankofa warehouse upgrade", 0).await;
}

/// Tables and pipelines that change, and what is done when something went wrong.
async fn changes(walk: &mut Walk) {
    walk.source.sql(AUDIT).await;
    walk.change("pipelines/hr.yaml", |text| {
        format!("{text}  public.audit: {{mode: incremental, replication_key: at}}\n")
    });
    walk.runs("for day in 2024-02-29 ...", 0).await;
    walk.runs("sankofa sync hr", 0).await;
    assert_eq!(walk.warehouse.value("SELECT count(*) FROM hr.audit").await, "200");
    walk.runs("sankofa sync hr --table public.employee --full-refresh", 0).await;
    walk.runs("sankofa sync hr --table public.employee --from 2026-03-01 --to 2026-03-05", 0).await;
    walk.runs("sankofa state reset hr --table public.employee", 0).await;
    walk.runs("sankofa sync hr", 0).await;

    let hr = walk.project.read("pipelines/hr.yaml");
    let rest: String =
        hr.split("\n\n").filter(|table| !table.starts_with("  public.t:")).collect::<Vec<_>>().join("\n\n");
    assert_ne!(rest, hr);
    walk.project.write("pipelines/hr.yaml", &rest);
    let school = "source: hr_db\nschema: hr\ntables:\n  public.t: {mode: full_refresh}\n";
    walk.project.write("pipelines/school.yaml", school);
    walk.project.run(&["plan", "school"]).await.exits(78);
    walk.runs("sankofa state rename hr school --table public.t", 0).await;
    walk.project.run(&["sync", "school"]).await.succeeds();
    // The table goes back; then the file gets another name.
    walk.project.write("pipelines/hr.yaml", &hr);
    walk.project.run(&["state", "rename", "school", "hr", "--table", "public.t"]).await.succeeds();
    fs::remove_file(walk.project.folder().join("pipelines/hr.yaml")).unwrap();
    walk.project.write("pipelines/school.yaml", &hr);
    walk.runs("sankofa state rename hr school", 0).await;
    walk.project.run(&["sync", "school"]).await.succeeds();
}

#[tokio::test]
async fn every_command_of_the_pages_is_run_from_an_empty_folder_on_and_doctor_says_what_comes_next() {
    let mut walk = Walk::new().await;
    for printed in [
        "sankofa --version",
        "sankofa completions bash",
        "sankofa man",
        "sankofa man 65",
        "sankofa config schema",
    ] {
        assert!(!walk.runs(printed, 0).await.stdout.is_empty(), "{printed}");
    }
    rows(&mut walk).await;
    backups(&mut walk).await;
    airflow(&mut walk).await;
    nights(&mut walk).await;
    walk.runs("sankofa config show", 0).await;
    changes(&mut walk).await;
    walk.is_everything();
}
