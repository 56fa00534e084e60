//! Sources and targets that are not as one's own machine: TLS on the way, things that the target lacks, a key
//! that only a person has.

use crate::connect::{Authority, for_localhost, tls_server};
use crate::stored::*;
use crate::support::*;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

#[tokio::test]
async fn a_server_that_takes_tls_and_scram_alone_is_dumped_where_its_authority_vouches_for_it() {
    let (ours, other) = (Authority::named("ours"), Authority::named("other"));
    let server = tls_server(17, ours.sign(for_localhost())).hba("hostnossl all all all reject").start();
    let source = server.fresh_database("over_tls").await;
    source.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 300) g").await;
    let (_, recipient) = key_pair();
    let programs = client_program(17, "pg_dump").parent().unwrap().display().to_string();
    let through = |authority: &Authority, host: &str, more: &str| {
        let uri = format!(
            "postgres://{USER}:{PASSWORD}@{host}:{}/{}?sslmode=verify-full&sslrootcert={}{more}",
            server.port(),
            source.name(),
            authority.file("ca.pem")
        );
        let text = format!(
            "version: 1\nstores: {{here: {{directory: store}}}}\nbackups: {{databases: {{db: {{connection: source, \
             store: here, encrypt_to: [{recipient}]}}}}}}\n"
        );
        let project = Sankofa::new().connection_uri("source", &uri).env("SANKOFA_PG_BIN", &programs);
        project.file("sankofa.yaml", text)
    };
    let done =
        through(&ours, "localhost", "&channel_binding=require").run(&["backup", "db"]).await.succeeds();
    assert_eq!(done.json()["rows"], 300, "{}", done.told());
    for (authority, host) in [(&other, "localhost"), (&ours, "127.0.0.1")] {
        let project = through(authority, host, "");
        let refused = project.run(&["backup", "db"]).await.exits(78);
        assert!(!refused.told().contains(PASSWORD), "{}", refused.told());
        assert!(!project.folder().join("store/db").exists());
    }
}

#[tokio::test]
async fn a_target_without_the_extension_the_tablespace_or_the_locale_is_78_and_names_each() {
    let from = Server::with_settings(16, &[("allow_in_place_tablespaces", "on")]);
    from.sql("CREATE TABLESPACE fast_disk LOCATION ''").await;
    let to = Server::new(17).start();
    let source = from.fresh_database("odd").await;
    // adminpack went with 17. No two servers of this machine differ in their locales: one that is none is
    // written into the catalog, as a dump of another machine has it.
    source.sql("CREATE EXTENSION adminpack; CREATE TABLE kept (id int); INSERT INTO kept VALUES (1);
        CREATE TABLE quick (id int) TABLESPACE fast_disk; CREATE COLLATION accra (provider = libc, locale = 'C');
        UPDATE pg_collation SET collcollate = 'tw_GH.utf8', collctype = 'tw_GH.utf8' WHERE collname = 'accra'").await;
    let stored = Stored::of(source).await;
    let refused = stored.restore(&to, "odd_back", &[]).await.exits(78);
    for name in ["extension adminpack", "tablespace fast_disk", "locale tw_GH.utf8", "--no-tablespaces"] {
        assert!(refused.stderr.contains(name), "{name}: {}", refused.told());
    }
    let there = "SELECT count(*)::text FROM pg_database WHERE datname LIKE 'odd%'";
    let count: String = to.connect().await.query_one(there, &[]).await.unwrap().get(0);
    assert_eq!(count, "0", "nothing was written");
    let refused = stored.restore(&to, "odd_back", &["--no-tablespaces"]).await.exits(78);
    assert!(!refused.stderr.contains("fast_disk"), "{}", refused.told());
    // One table needs none of them.
    stored.restore(&to, "odd_back", &["--table", "public.kept"]).await.succeeds();
    assert_eq!(to.existing("odd_back").value("SELECT count(*)::text FROM kept").await, "1");
}

/// Both ends of a new terminal, which no other child inherits.
fn terminal() -> (File, File) {
    let mut name = [0; 64];
    // SAFETY: the descriptor is new and nobody else's; the name is written within its length.
    let master = unsafe {
        let number = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(number >= 0 && libc::grantpt(number) == 0 && libc::unlockpt(number) == 0);
        assert_eq!(libc::ptsname_r(number, name.as_mut_ptr(), name.len()), 0);
        File::from_raw_fd(number)
    };
    let name = CStr::from_bytes_until_nul(name.map(|byte| byte as u8).as_slice()).unwrap().to_owned();
    let slave =
        File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name.to_str().unwrap());
    (master, slave.unwrap())
}

/// Whether a terminal shows what is typed.
fn echoes(terminal: &impl AsRawFd) -> bool {
    // SAFETY: an all-zero termios is a valid value, and tcgetattr writes one into it.
    unsafe {
        let mut state: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut state), 0);
        state.c_lflag & libc::ECHO != 0
    }
}

#[tokio::test]
async fn a_person_is_asked_for_the_identity_and_what_is_typed_is_not_shown() {
    let source = Server::major(16).fresh_database("asked").await;
    source.sql("CREATE TABLE t AS SELECT 7 AS id").await;
    let stored = Stored::of(source).await;
    let to = Server::major(17);
    let project = stored.project_without_identity(&to);
    let (master, slave) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sankofa"));
    command.args(stored.command(&to, "asked_back", &[])).current_dir(project.folder()).env_clear();
    command.envs(project.environment().iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::from(slave.try_clone().unwrap())).stdout(Stdio::piped()).stderr(Stdio::piped());
    let number = slave.as_raw_fd();
    let own_terminal = move || {
        // SAFETY: both may be called between fork and exec; the descriptor is open until then.
        let done = unsafe { libc::setsid() >= 0 && libc::ioctl(number, libc::TIOCSCTTY as _, 0) == 0 };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure calls two system calls and nothing else.
    unsafe { command.pre_exec(own_terminal) };
    let child = command.spawn().unwrap();
    drop((command, slave)); // else the terminal would never end
    let identity = stored.identity.clone();
    let typed = tokio::task::spawn_blocking(move || {
        let (mut master, mut seen, mut buffer) = (master, Vec::new(), [0; 1024]);
        let mut answered = false;
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..count]);
            if !answered && String::from_utf8_lossy(&seen).contains("age identity") {
                // The question is there a moment before what is typed is no longer shown.
                while echoes(&master) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                master.write_all(format!("{identity}\n").as_bytes()).unwrap();
                answered = true;
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let shown = typed.await.unwrap();
    let told = format!(
        "{shown}\n{}\n{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "{told}");
    assert!(shown.contains("age identity") && !told.contains(&stored.identity), "{told}");
    assert_eq!(to.existing("asked_back").value("SELECT id::text FROM t").await, "7");
}
