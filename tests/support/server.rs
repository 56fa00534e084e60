//! Real PostgreSQL servers of majors 13 to 18.
//!
//! In:    the programs of the test bed; settings.
//! Out:   running clusters with superuser [`USER`], each in its own folder in /tmp.
//! Holds: a server ends with the test process however that ends (SIGKILL included): a watcher
//!        per server waits for the end of a pipe that only the test process holds open.
//! Not here: databases (`database`).

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Once, OnceLock};

use super::{account, bed};

/// Superuser of every test server.
pub const USER: &str = "sankofa_test";
/// Its password: obviously not a secret.
pub const PASSWORD: &str = "not-a-secret-only-a-test";

/// Majors that Sankofa supports.
pub const MAJORS: [u16; 6] = [13, 14, 15, 16, 17, 18];

/// Waits for its standard input to end, then ends the server in folder $1 and removes the folder.
const WATCHER: &str = r#"
read -r _
[ -e "$1/keep" ] && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -CONT "$pid"
    kill -QUIT "$pid"
    tries=100
    while [ -e "$1/data/postmaster.pid" ] && [ $tries -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    [ $tries -gt 0 ] || kill -KILL "$pid"
fi
rm -rf "$1"
"#;

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
    major: u16,
    folder: PathBuf,
    port: AtomicU16,
    watcher: Child,
    is_kept: AtomicBool,
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
        self.0.major
    }

    /// TCP port on 127.0.0.1, where a password is asked for (SCRAM).
    pub fn port(&self) -> u16 {
        self.0.port.load(Ordering::Relaxed)
    }

    /// Folder of the Unix socket, where superuser [`USER`] needs no password.
    pub fn socket_folder(&self) -> &Path {
        &self.0.folder
    }

    /// The cluster's data directory.
    pub fn data_folder(&self) -> PathBuf {
        self.0.folder.join("data")
    }

    /// The server log so far; every statement is in it, each line with `|database|`.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.0.folder.join("log")).unwrap_or_default();
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
            panic!("cannot start PostgreSQL {} again: {why}\n{}", self.0.major, self.log())
        });
    }

    /// Makes it outlive this process, so that someone can look. The next run removes it.
    pub(super) fn keep(&self) {
        if !self.0.is_kept.swap(true, Ordering::Relaxed) {
            fs::write(self.0.folder.join("keep"), "").expect("marking a server as kept");
        }
    }

    fn pg_ctl(&self, args: &[&str]) -> Result<(), String> {
        pg_ctl(self.0.major, &self.0.folder, args)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
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
        let folder = new_folder(self.major);
        init_cluster(self.major, &folder);
        self.start_in(folder)
    }

    /// Starts the cluster whose data directory is already in `folder`.
    pub(super) fn start_in(self, folder: PathBuf) -> Server {
        let data = folder.join("data");
        for (name, content) in &self.files {
            write_owned(&data.join(name), content);
        }
        let hba: String = self.hba.iter().map(|line| format!("{line}\n")).collect();
        write_owned(&data.join("pg_hba.conf"), format!("{hba}{HBA}").as_bytes());
        let (port, is_kept) = (AtomicU16::new(0), AtomicBool::new(false));
        let watcher = watch(&folder);
        let server = Server(Arc::new(Cluster { major: self.major, folder, port, watcher, is_kept }));
        // A free port may be taken by another process before the server binds it.
        for _ in 0..5 {
            let port = free_port();
            write_owned(&data.join("testbed.conf"), self.configuration(&server.0.folder, port).as_bytes());
            server.0.port.store(port, Ordering::Relaxed);
            if server.pg_ctl(START).is_ok() {
                return server;
            }
        }
        panic!("cannot start PostgreSQL {}:\n{}", self.major, server.log());
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
    let mut command = Command::new(bed::server_program(major, name));
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    account::lower(&mut command);
    command
}

fn pg_ctl(major: u16, folder: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = program(major, "pg_ctl", folder);
    // Its standard error is closed, not piped: the server would inherit a pipe and hold it open.
    let status = command.args(["-D", "data", "-s"]).args(args).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("pg_ctl {}: {status}", args[0])),
        Err(why) => Err(format!("pg_ctl {}: {why}", args[0])),
    }
}

fn watch(folder: &Path) -> Child {
    use std::os::unix::process::CommandExt;
    let mut sh = Command::new("/bin/sh");
    sh.args(["-c", WATCHER, "watcher"]).arg(folder).current_dir("/").stdin(Stdio::piped());
    sh.stdout(Stdio::null()).stderr(Stdio::null());
    sh.process_group(0); // Ctrl-C ends the tests, not what cleans up after them
    account::lower(&mut sh).spawn().expect("starting a server's watcher")
}

/// A new folder in /tmp: a Unix socket's path may have 107 bytes, so it stays short.
pub(super) fn new_folder(major: u16) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static SWEEP: Once = Once::new();
    SWEEP.call_once(remove_stale);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(format!("{}{}-{major}-{count}", folder_prefix(), std::process::id()));
    fs::create_dir(&folder).unwrap_or_else(|why| panic!("cannot make {}: {why}", folder.display()));
    account::give(&folder);
    folder
}

/// Names the checkout, so that two of them do not remove each other's servers.
fn folder_prefix() -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
    format!("/tmp/sankofa-bed-{:08x}-", hasher.finish() as u32)
}

/// Ends and removes what dead test processes of this checkout left or kept.
fn remove_stale() {
    let Ok(entries) = fs::read_dir("/tmp") else { return };
    let prefix = folder_prefix();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(rest) = path.to_str().and_then(|path| path.strip_prefix(&prefix)) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_file(path.join("keep"));
            let mut watcher = watch(&path);
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
    }
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
