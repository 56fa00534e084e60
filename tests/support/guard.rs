//! Ends what a test process started, however that process ends.
//!
//! In:    a folder per server, made here: in memory (/dev/shm) where there is room, else in /tmp.
//! Holds: a watcher (`/bin/sh`) per folder waits for the end of a pipe that only the test process
//!        holds open; then it ends the server in the folder and removes the folder. SIGKILL of
//!        the tests is no exception. What a killed watcher left is removed by the next run.
//! Not here: what runs in the folder (`server`, `pooler`).

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};

use super::account;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
const PREFIX: &str = "sankofa-bed-";

/// Waits for its standard input to end, then ends what runs in folder $1 and removes the folder.
/// A server is gone when its pid file is: a dead process may stay a zombie of init for a while.
const WATCHER: &str = r#"
read -r _
[ -e "$1/keep" ] && exit 0
[ -e "$1/pgbouncer.pid" ] && kill -KILL "$(cat "$1/pgbouncer.pid")"
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

/// A folder whose servers end with this value, or with the process.
#[derive(Debug)]
pub struct Guard {
    folder: PathBuf,
    watcher: Child,
}

impl Guard {
    /// Makes a folder, its name ending in `label`, owned by the servers' account.
    pub fn new(label: &str) -> Guard {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_stale);
        // A Unix socket's path may have 107 bytes, so it stays short.
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = base().join(format!("{PREFIX}{pid}-{count}-{label}"));
        fs::create_dir(&folder).unwrap_or_else(|why| panic!("cannot make {}: {why}", folder.display()));
        // Another checkout's tests, and tests/testbed/remove.sh, leave alone what is not their own.
        fs::write(folder.join("checkout"), CHECKOUT).expect("naming the checkout");
        account::give(&folder);
        let watcher = watch(&folder);
        Guard { folder, watcher }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets folder and server outlive this process, so that someone can look.
    pub fn keep(&self) {
        fs::write(self.folder.join("keep"), "").expect("marking a server as kept");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

fn watch(folder: &Path) -> Child {
    use std::os::unix::process::CommandExt;
    let mut sh = Command::new("/bin/sh");
    sh.args(["-c", WATCHER, "watcher"]).arg(folder).current_dir("/").stdin(Stdio::piped());
    sh.stdout(Stdio::null()).stderr(Stdio::null());
    sh.process_group(0); // Ctrl-C ends the tests, not what cleans up after them
    account::lower(&mut sh).spawn().expect("starting a watcher")
}

/// Where servers live. A new database is some 300 files: 12 to 25 ms in memory, up to 250 ms on disk.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| match std::env::var_os("SANKOFA_TESTBED_SERVERS") {
        Some(folder) => PathBuf::from(folder),
        None if has_room_in_memory() => PathBuf::from("/dev/shm"),
        None => PathBuf::from("/tmp"),
    })
}

fn has_room_in_memory() -> bool {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let available_kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    available_kib > 8 << 20 && free_bytes(c"/dev/shm") > 4 << 30
}

fn free_bytes(folder: &CStr) -> u64 {
    // SAFETY: statvfs is plain numbers, for which zero is a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and `found` outlives the call.
    let is_known = unsafe { libc::statvfs(folder.as_ptr(), &mut found) } == 0;
    if is_known { found.f_bavail * found.f_frsize } else { 0 }
}

/// Ends and removes what dead test processes of this checkout left or kept.
fn remove_stale() {
    let entries = ["/dev/shm", "/tmp"].into_iter().filter_map(|base| fs::read_dir(base).ok()).flatten();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        let is_ours = fs::read_to_string(path.join("checkout")).is_ok_and(|checkout| checkout == CHECKOUT);
        if is_ours && !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_file(path.join("keep"));
            let watcher = watch(&path);
            drop(Guard { folder: path, watcher });
        }
    }
}
