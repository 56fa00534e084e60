//! Real PostgreSQL servers of majors 13 to 18.
//!
//! In:    the programs of the test bed; settings.
//! Out:   running clusters with superuser [`USER`], each in a folder of its own.
//! Holds: nothing syncs to disk, every statement is logged, TCP asks for a password.
//! Not here: its end (`guard`), databases (`database`), standbys (`standby`).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;

use super::guard::Guard;
use super::{account, bed};

/// Superuser of every test server.
pub const USER: &str = "sankofa_test";
/// Its password: obviously not a secret.
pub const PASSWORD: &str = "not-a-secret-only-a-test";

/// Majors that Sankofa supports.
pub const MAJORS: [u16; 6] = [13, 14, 15, 16, 17, 18];

const START: &[&str] = &["start", "-w", "-t", "60", "-l", "log"];

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Sessions are ended, the data is written (`pg_ctl stop -m fast`).
    Fast,
    /// As in a crash: the next start recovers (`-m immediate`).
    Crash,
}

/// One PostgreSQL cluster. A clone is the same cluster; the last one dropped ends it.
#[derive(Clone, Debug)]
pub struct Server(Arc<Cluster>);

#[derive(Debug)]
struct Cluster {
    builder: Builder,
    port: AtomicU16,
    guard: Guard,
    templates: [OnceCell<()>; 3],
}

/// A cluster to be started with settings of its own.
#[derive(Clone, Debug)]
pub struct Builder {
    major: u16,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl Server {
    /// The shared server of `major`; started by its first user in this process.
    ///
    /// Cost: 0.7 s the first time, then nothing.
    pub fn major(major: u16) -> Server {
        static SHARED: [OnceLock<Server>; 6] = [const { OnceLock::new() }; 6];
        let at = MAJORS.iter().position(|&known| known == major).expect("a major from 13 to 18");
        SHARED[at].get_or_init(|| Server::new(major).start()).clone()
    }

    /// A server of its own: chain settings, then [`Builder::start`].
    #[allow(clippy::new_ret_no_self)] // the sentence is `Server::new(17).setting(...).start()`
    pub fn new(major: u16) -> Builder {
        Builder { major, settings: Vec::new(), hba: Vec::new(), files: Vec::new() }
    }

    /// A server of its own with extra settings.
    pub fn with_settings(major: u16, settings: &[(&str, &str)]) -> Server {
        settings.iter().fold(Server::new(major), |server, (name, value)| server.setting(name, value)).start()
    }

    /// The major version, such as 17.
    pub fn number(&self) -> u16 {
        self.0.builder.major
    }

    /// TCP port on 127.0.0.1, where a password is asked for (SCRAM).
    pub fn port(&self) -> u16 {
        self.0.port.load(Ordering::Relaxed)
    }

    /// Folder of the Unix socket, where superuser [`USER`] needs no password.
    pub fn socket_folder(&self) -> &Path {
        self.0.guard.folder()
    }

    /// The cluster's data directory.
    pub fn data_folder(&self) -> PathBuf {
        self.socket_folder().join("data")
    }

    /// The server log so far; every statement is in it, each line with `|database|`.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.socket_folder().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops it; it can be started again.
    pub fn stop(&self, how: Stop) {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Crash => "immediate",
        };
        self.pg_ctl(&["stop", "-w", "-m", mode]).expect("stopping a test server");
    }

    /// Starts it again, on the same port.
    pub fn start(&self) {
        self.pg_ctl(&["start", "-w", "-t", "60", "-l", "log"]).unwrap_or_else(|why| {
            panic!("cannot start PostgreSQL {} again: {why}\n{}", self.number(), self.log())
        });
    }

    /// Runs `pg_resetwal` on the stopped server, with options such as `-e 1`.
    pub fn reset_wal(&self, args: &[&str]) {
        // The servers' packages are without it; any build of the major reads the same control file.
        let mut command = plain(&bed::client_program(self.number(), "pg_resetwal"), self.socket_folder());
        let done = command.args(args).args(["-D", "data"]).output().expect("running pg_resetwal");
        assert!(done.status.success(), "pg_resetwal: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes it outlive this process, so that someone can look. The next run removes it.
    pub(super) fn keep(&self) {
        self.0.guard.keep();
    }

    /// What it was started with.
    pub(super) fn builder(&self) -> &Builder {
        &self.0.builder
    }

    /// Whether the template database of a real data set is there, by the set's number.
    pub(super) fn template(&self, number: usize) -> &OnceCell<()> {
        &self.0.templates[number]
    }

    fn pg_ctl(&self, args: &[&str]) -> Result<(), String> {
        let mut command = program(self.number(), "pg_ctl", self.socket_folder());
        // Standard error is closed, not piped: the server would inherit a pipe and hold it open.
        let status = command.args(["-D", "data", "-s"]).args(args).stderr(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("pg_ctl {}: {status}", args[0])),
            Err(why) => Err(format!("pg_ctl {}: {why}", args[0])),
        }
    }
}

impl Builder {
    /// Adds a line to `postgresql.conf`; later ones win.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a line at the head of `pg_hba.conf`, such as `hostnossl all all all reject`.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Puts a file (mode 0600) into the data directory, such as `server.key`.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Makes and starts the cluster.
    pub fn start(self) -> Server {
        let guard = Guard::new(&self.major.to_string());
        init_cluster(self.major, guard.folder());
        self.start_in(guard)
    }

    /// Starts the cluster whose data directory is already in the guarded folder.
    pub(super) fn start_in(self, guard: Guard) -> Server {
        let data = guard.folder().join("data");
        for (name, content) in &self.files {
            write_owned(&data.join(name), content);
        }
        let hba: String = self.hba.iter().map(|line| format!("{line}\n")).collect();
        write_owned(&data.join("pg_hba.conf"), format!("{hba}{HBA}").as_bytes());
        let cluster =
            Cluster { builder: self, port: AtomicU16::new(0), guard, templates: Default::default() };
        let server = Server(Arc::new(cluster));
        // A free port may be taken by another process before the server binds it.
        for _ in 0..5 {
            let port = free_port();
            let conf = server.builder().configuration(server.socket_folder(), port);
            write_owned(&data.join("testbed.conf"), conf.as_bytes());
            server.0.port.store(port, Ordering::Relaxed);
            if server.pg_ctl(START).is_ok() {
                return server;
            }
        }
        panic!("cannot start PostgreSQL {}:\n{}", server.number(), server.log());
    }

    fn configuration(&self, folder: &Path, port: u16) -> String {
        let own =
            self.settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
        format!("{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n", folder.display())
            + &own.collect::<String>()
    }
}

const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
max_connections = 200
max_prepared_transactions = 20
max_wal_senders = 10
wal_level = logical
shared_buffers = 64MB
max_wal_size = 256MB
min_wal_size = 32MB
password_encryption = 'scram-sha-256'
log_statement = all
log_line_prefix = '%m|%p|%d|%u|%a| '
timezone = 'UTC'
log_timezone = 'UTC'
";

const HBA: &str = "\
local all sankofa_test trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
local replication all trust
host replication all 127.0.0.1/32 scram-sha-256
";

fn init_cluster(major: u16, folder: &Path) {
    let password = folder.join("password");
    write_owned(&password, PASSWORD.as_bytes());
    let mut initdb = program(major, "initdb", folder);
    initdb.args(["-D", "data", "-N", "-U", USER, "--encoding=UTF8", "--locale=C.UTF-8"]);
    initdb.args(["--auth=scram-sha-256", "--pwfile=password"]);
    let done = initdb.output().expect("running initdb");
    assert!(done.status.success(), "initdb {major} failed: {}", String::from_utf8_lossy(&done.stderr));
    let conf = folder.join("data/postgresql.conf");
    let text = fs::read_to_string(&conf).expect("reading postgresql.conf");
    fs::write(&conf, text + "\ninclude 'testbed.conf'\n").expect("writing postgresql.conf");
}

/// A server program to be run in `folder` as the servers' account, in a plain environment.
pub(super) fn program(major: u16, name: &str, folder: &Path) -> Command {
    plain(&bed::server_program(major, name), folder)
}

fn plain(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    account::lower(&mut command);
    command
}

pub(super) fn write_owned(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content).unwrap_or_else(|why| panic!("cannot write {}: {why}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("setting a mode");
    account::give(path);
}

/// A TCP port on 127.0.0.1 that was free a moment ago.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding a free port");
    listener.local_addr().expect("reading the port").port()
}
