//! pgbouncer before a server.
//!
//! In:    a server; settings of pgbouncer.
//! Out:   a port that speaks for the server, by default in transaction mode.
//! Holds: where pgbouncer is missing the test says so loudly and ends; in CI that is a failure.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::server::{PASSWORD, Server, USER, free_port, write_owned};
use super::{account, bed};

/// A running pgbouncer; dropped, it ends.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    guard: Guard,
}

impl Pooler {
    /// Starts one in transaction mode.
    pub fn before(server: &Server) -> Option<Pooler> {
        Self::with_settings(server, &[])
    }

    /// Starts one with more lines for `[pgbouncer]`, such as `("pool_mode", "session")`.
    ///
    /// # Panics
    /// In CI, when pgbouncer is missing.
    pub fn with_settings(server: &Server, settings: &[(&str, &str)]) -> Option<Pooler> {
        let Some(program) = bed::pgbouncer() else {
            assert!(!bed::is_ci(), "no pgbouncer: tests/testbed/install.sh says why");
            eprintln!("\n!!! NOT TESTED: no pgbouncer (tests/testbed/install.sh says why)\n");
            return None;
        };
        let guard = Guard::new("pooler");
        let (folder, port) = (guard.folder(), free_port());
        write_owned(&folder.join("users"), format!("\"{USER}\" \"{PASSWORD}\"\n").as_bytes());
        write_owned(&folder.join("pgbouncer.ini"), configuration(server.port(), port, settings).as_bytes());
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").args(["-d", "pgbouncer.ini"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        account::lower(&mut command).status().expect("starting pgbouncer");
        let pooler = Pooler { port, guard };
        pooler.wait_until_ready();
        Some(pooler)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.guard.folder().join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&self) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "pgbouncer does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn configuration(server: u16, port: u16, settings: &[(&str, &str)]) -> String {
    let own: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users\n\
         pidfile = pgbouncer.pid\nlogfile = log\npool_mode = transaction\nmax_client_conn = 200\n{own}"
    )
}
