//! The process guards what it knows: nobody of the same user looks into it, its children get a password and
//! nothing else, no variable of a library weakens a connection; and all of it works for an ordinary user.

use crate::support::*;
use age::x25519;
use secrecy::ExposeSecret;

/// The operator's file for one database `hr`, opened by variable `age_identity`.
fn project(sankofa: Sankofa) -> Sankofa {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public();
    let programs = CLIENT_MAJORS.iter().filter(|major| has_clients(**major));
    let programs =
        programs.map(|major| client_program(*major, "pg_dump").parent().unwrap().display().to_string());
    let text = format!(
        "version: 1\nsecrets: [environment]\nwarehouse: {{connection: wh}}\ndrill: {{connection: drill_server}}\n\
         stores: {{local: {{directory: ./store}}}}\n\
         backups: {{databases: {{hr: {{connection: src, store: local, encrypt_to: [{recipient}]}}}}}}\n"
    );
    sankofa
        .file("sankofa.yaml", text)
        .file("pipelines/p.yaml", "source: src\nschema: w\ntables: {public.t: {mode: full_refresh}}\n")
        .env("AIRFLOW_VAR_AGE_IDENTITY", identity.to_string().expose_secret())
        .env("SANKOFA_PG_BIN", &programs.collect::<Vec<_>>().join(":"))
}

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 500) g;
    CREATE TABLE u (id int PRIMARY KEY); SELECT lo_from_bytea(0, 'ab')";

#[tokio::test]
async fn an_ordinary_user_syncs_backs_up_restores_with_two_jobs_and_drills() {
    let server = Server::new(17).start();
    let (source, warehouse) = (server.fresh_database("src").await, server.fresh_database("wh").await);
    source.sql(ROWS).await;
    let drill = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port());
    let sankofa = project(Sankofa::new()).connection("src", &source).connection("wh", &warehouse);
    let sankofa = sankofa.connection_uri("drill_server", &drill).env("TMPDIR", "/tmp").by_ordinary_user();
    let restore = ["restore", "hr", "--into", "drill_server", "--database", "back", "--jobs", "2"];
    for args in [&["sync", "p"][..], &["backup", "hr"], &restore, &["drill", "hr"], &["backups", "verify"]] {
        sankofa.run(args).await.succeeds();
    }
    assert_eq!(Database::named(&server, "back").value("SELECT count(*)::text FROM t").await, "500");
}

#[tokio::test]
async fn a_password_of_a_thousand_characters_with_colons_reaches_every_pg_dump() {
    let password = format!("a:b\\c'é%{}", "x".repeat(1000));
    for major in CLIENT_MAJORS.into_iter().filter(|major| has_clients(*major)) {
        let source = Server::major(major).fresh_database("passfile").await;
        source.sql(ROWS).await;
        let role = format!("keeper_of_{}", source.name());
        let made = format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{}'", password.replace('\'', "''"));
        source.sql(&made).await;
        let connection = serde_json::json!({"conn_type": "postgres", "host": "127.0.0.1", "login": role,
            "password": password, "schema": source.name(), "port": source.server().port()});
        let sankofa = project(Sankofa::new()).connection_uri("src", &connection.to_string());
        sankofa.run(&["backup", "hr"]).await.succeeds();
    }
}

#[tokio::test]
async fn a_password_with_a_line_break_is_told_of_and_not_shown() {
    let source = Server::major(17).fresh_database("line_break").await;
    source.sql(ROWS).await;
    let role = format!("broken_{}", source.name());
    source.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD E'MARK\\nED'")).await;
    let uri = format!("postgres://{role}:MARK%0AED@127.0.0.1:{}/{}", source.server().port(), source.name());
    let done = project(Sankofa::new()).connection_uri("src", &uri).run(&["backup", "hr"]).await.exits(78);
    assert!(done.stderr.contains("line break") && !done.told().contains("MARK"), "{}", done.told());
}

/// The lines of `/proc/PID/NAME`, which end in NUL or in a line break.
fn lines_of(pid: &str, name: &str) -> Vec<String> {
    let text = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let split = text.split(|byte| [b'\0', b'\n', b' '].contains(byte));
    split.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[tokio::test]
async fn a_child_has_its_password_in_a_file_of_memory_that_is_its_users_alone_and_no_other_variable_of_ours()
{
    use std::os::unix::fs::PermissionsExt;
    let source = Server::major(17).fresh_database("memfd").await;
    source.sql("CREATE TABLE t (id int)").await;
    let proxy = Proxy::to(source.server().port());
    proxy.add(Rule::on(Direction::FromServer, 'H').before(Deed::Freeze));
    let sankofa = project(Sankofa::new()).connection_uri("src", &source.connection_uri_through(proxy.port()));
    let running = sankofa.spawn(&["backup", "hr", "--skip-globals"]);
    while proxy.fired().is_empty() {
        assert!(!running.log_so_far().contains("error:"), "{}", running.log_so_far());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let own = running.pid().to_string();
    let threads = std::fs::read_dir(format!("/proc/{own}/task")).unwrap().flatten();
    let children =
        threads.flat_map(|thread| lines_of(&own, &format!("task/{}/children", thread.file_name().display())));
    let dump = children
        .filter(|child| !child.is_empty())
        .find(|child| lines_of(child, "cmdline").iter().any(|word| word.ends_with("/pg_dump")));
    let dump = dump.unwrap_or_else(|| panic!("no pg_dump is at work: {}", running.log_so_far()));
    let variables = lines_of(&dump, "environ");
    let passfile =
        variables.iter().find_map(|one| one.strip_prefix("PGPASSFILE=/proc/self/")).expect("PGPASSFILE");
    let file = format!("/proc/{dump}/{passfile}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        std::fs::read_link(&file).unwrap().display().to_string().starts_with("/memfd:"),
        "a file on a disk"
    );
    assert!(std::fs::read_to_string(&file).unwrap().contains(PASSWORD));
    assert!(
        !variables.iter().any(|one| one.starts_with("AIRFLOW_") || one.contains(PASSWORD)),
        "{variables:?}"
    );
    proxy.cut();
    running.wait().await.exits(75);
}

#[tokio::test]
async fn another_process_of_the_same_user_reads_neither_environment_nor_memory() {
    // A server that takes a connection and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("postgres://u:p@127.0.0.1:{}/x", silent.local_addr().unwrap().port());
    let sankofa = project(Sankofa::new()).connection_uri("src", &uri).connection_uri("wh", &uri);
    let sankofa = sankofa.by_ordinary_user();
    let running = sankofa.spawn(&["state", "show", "p"]);
    let _connection = silent.accept().await.unwrap();
    let pid = running.pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    for file in ["environ", "mem", "maps"] {
        let read = sankofa.start("/bin/cat", &[format!("/proc/{pid}/{file}")]).wait().await;
        assert_ne!(read.code(), Some(0), "{file} can be read: {}", read.told());
        assert!(read.stderr.contains("Permission denied") && read.stdout.is_empty(), "{}", read.told());
    }
    running.signal(libc::SIGTERM);
    running.wait().await.exits(143);
}

#[tokio::test]
async fn variables_that_could_weaken_a_connection_are_ignored_and_named_without_their_values() {
    let warehouse = Server::major(17).fresh_database("ambient").await;
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("MARK");
    let mut sankofa = project(Sankofa::new()).connection("wh", &warehouse);
    let names =
        ["PGHOST", "PGOPTIONS", "PGSSLMODE", "VAULT_SKIP_VERIFY", "HTTP_PROXY", "SSLKEYLOGFILE", "RUST_LOG"];
    for name in names {
        sankofa = sankofa.env(name, file.to_str().unwrap());
    }
    let done = sankofa.run(&["state", "show", "p"]).await.succeeds();
    assert!(names.iter().all(|name| done.stderr.contains(name)), "{}", done.told());
    assert!(done.stderr.contains("are ignored") && !done.told().contains("MARK"), "{}", done.told());
    assert!(!file.exists());
    let quiet =
        project(Sankofa::new()).connection("wh", &warehouse).run(&["state", "show", "p"]).await.succeeds();
    assert!(!quiet.stderr.contains("ignored"), "{}", quiet.told());
}
