//! Marks that must not be found again, and the search for them.
//!
//! In:    texts that are secrets or cells; everything that runs have left.
//! Out:   where a mark was found, and how it was written.
//! Holds: a mark is found raw, percent-encoded, in base64 at each alignment, in hexadecimal, and escaped as
//!        JSON or a shell does; what a child is told is seen while it runs.
//! Not here: which finds are no leaks (the tests say).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use super::b2::B2;
use super::database::Database;
use super::runner::Finished;
use super::server::Server;
use super::stand_in::Asked;

/// Headers in which a login goes to whom it is for, and which no access log has.
const LOGINS: [&str; 2] = ["authorization", "x-amz-security-token"];

/// What kind of thing a mark stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A password, a key, a token: it may be nowhere.
    Secret,
    /// A value of a table: it may be where rows are.
    Cell,
}

/// One mark, in every way in which it could be written.
#[derive(Clone, Debug)]
struct Planted {
    name: String,
    kind: Mark,
    ways: Vec<Way>,
}

#[derive(Clone, Debug)]
struct Way {
    /// How the text is written.
    named: &'static str,
    bytes: Vec<u8>,
    /// Letters of either case are the same.
    any_case: bool,
}

/// A mark where it may not be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Which mark.
    pub mark: String,
    /// What it is.
    pub is_secret: bool,
    /// How it was written.
    pub way: &'static str,
    /// Where.
    pub place: String,
    /// What stands around it.
    pub around: String,
}

/// All marks of a test.
#[derive(Debug, Default)]
pub struct Marks(Vec<Planted>);

impl Marks {
    /// A new secret: a text with a mark in it and characters that every encoding writes differently.
    pub fn secret(&mut self, name: &str) -> String {
        let mark = self.word(name, Mark::Secret);
        format!("{mark}:\\'\"é %/@#&+=")
    }

    /// A new mark of letters and digits alone.
    pub fn word(&mut self, name: &str, kind: Mark) -> String {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let mark = format!("Mk{}x{}", self.0.len(), &unique[12..]);
        self.add(name, kind, &mark);
        mark
    }

    /// A secret that somebody else has made; the longest part of letters and digits is searched for.
    pub fn known(&mut self, name: &str, secret: &str) {
        let parts = secret.split(|c: char| !c.is_ascii_alphanumeric());
        let longest = parts.max_by_key(|part| part.len()).filter(|part| part.len() >= 10);
        self.add(name, Mark::Secret, longest.expect("a secret with a part that is long enough"));
    }

    fn add(&mut self, name: &str, kind: Mark, mark: &str) {
        self.0.push(Planted { name: name.to_owned(), kind, ways: ways(mark) });
    }

    /// Every mark that is in `bytes`.
    pub fn find(&self, place: &str, bytes: &[u8]) -> Vec<Found> {
        let lower = bytes.to_ascii_lowercase();
        let mut found = Vec::new();
        for mark in &self.0 {
            for way in &mark.ways {
                let text = if way.any_case { &lower } else { bytes };
                if let Some(at) = memmem::find(text, &way.bytes) {
                    let around = &bytes[at.saturating_sub(80)..(at + way.bytes.len() + 40).min(bytes.len())];
                    found.push(Found {
                        mark: mark.name.clone(),
                        is_secret: mark.kind == Mark::Secret,
                        way: way.named,
                        place: place.to_owned(),
                        around: String::from_utf8_lossy(around).into_owned(),
                    });
                }
            }
        }
        found
    }
}

/// Every way in which `mark`, of letters and digits alone, is searched for.
fn ways(mark: &str) -> Vec<Way> {
    let each = |write: &dyn Fn(u8) -> String| mark.bytes().map(write).collect::<String>();
    let folded =
        |named, text: String| Way { named, bytes: text.to_ascii_lowercase().into_bytes(), any_case: true };
    let exact = |named, bytes: Vec<u8>| Way { named, bytes, any_case: false };
    let mut all = vec![
        folded("raw, or escaped around it", mark.to_owned()),
        folded("percent-encoded", each(&|byte| format!("%{byte:02x}"))),
        folded("hexadecimal", each(&|byte| format!("{byte:02x}"))),
        folded("hexadecimal with \\x", each(&|byte| format!("\\x{byte:02x}"))),
        folded("JSON-escaped", each(&|byte| format!("\\u{byte:04x}"))),
        exact("shell-escaped in octal", each(&|byte| format!("\\{byte:03o}")).into_bytes()),
    ];
    // What stands before it shifts its six-bit groups; the letters at both ends belong to neighbours too.
    for (shift, named) in [(0, "base64"), (1, "base64, shifted by one"), (2, "base64, shifted by two")] {
        let text = STANDARD.encode([&vec![0; shift], mark.as_bytes()].concat());
        let own = &text[(shift * 8).div_ceil(6)..(shift + mark.len()) * 8 / 6];
        all.push(exact(named, own.as_bytes().to_vec()));
    }
    all
}

/// What runs have left, by place.
#[derive(Debug, Default)]
pub struct Evidence(Vec<(String, Vec<u8>)>);

impl Evidence {
    /// Anything.
    pub fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// What a run has said.
    pub fn run(&mut self, run: &Finished) {
        self.add(format!("stdout of {}", run.args.join(" ")), run.stdout.as_bytes());
        self.add(format!("stderr of {}", run.args.join(" ")), run.stderr.as_bytes());
    }

    /// The result file of a run of `what` in the project `folder`.
    pub fn result(&mut self, what: &str, folder: &Path) {
        let bytes = fs::read(folder.join("result.json")).unwrap_or_default();
        self.add(format!("result file of {what}"), bytes);
    }

    /// Every file below `folder`, its name, and what it unpacks to.
    pub fn folder(&mut self, what: &str, folder: &Path) {
        for path in files(folder) {
            let place = format!("{what} {}", path.strip_prefix(folder).unwrap_or(&path).display());
            self.add(format!("name of {place}"), place.as_bytes());
            let bytes = fs::read(&path).unwrap_or_default();
            if let Ok(plain) = zstd::decode_all(bytes.as_slice()) {
                self.add(place.clone(), plain);
            }
            self.add(place, bytes);
        }
    }

    /// Every row of every table of a schema, as text.
    pub async fn schema(&mut self, database: &Database, schema: &str) {
        let tables = format!(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = '{schema}'"
        );
        for table in database.query_text(&tables).await.into_iter().flatten().flatten() {
            let rows = database.query_text(&format!("SELECT * FROM {table}")).await;
            let text: Vec<String> = rows.into_iter().flatten().flatten().collect();
            self.add(format!("table {table}"), text.join("\n"));
        }
    }

    /// The log of a server.
    pub fn log(&mut self, what: &str, server: &Server) {
        self.add(format!("log of {what}"), server.log());
    }

    /// What a bucket holds, and the access log of its service.
    pub fn b2(&mut self, b2: &B2, bucket: &str) {
        for version in b2.versions(bucket) {
            self.add(
                format!("name of object {}", version.name),
                format!("{} {:?}", version.name, version.info),
            );
            if version.action == "upload" {
                self.add(format!("object {}", version.name), b2.bytes(bucket, &version.name));
            }
        }
        let calls = b2.seen();
        let lines = calls.iter().map(|call| {
            let headers = call.headers.iter().map(|(name, value)| format!("{name}: {value}"));
            format!("{} {} {}", call.path, call.json, headers.collect::<Vec<_>>().join("; "))
        });
        self.add("access log of B2", lines.collect::<Vec<_>>().join("\n"));
    }

    /// What a stand-in was asked: lines, bodies, and headers but those that are the login itself.
    pub fn asked(&mut self, what: &str, asked: &[Asked]) {
        for one in asked {
            let shown = one.headers.iter().filter(|(name, _)| !LOGINS.contains(&name.as_str()));
            let headers: Vec<String> = shown.map(|(name, value)| format!("{name}: {value}")).collect();
            let text = format!("{}\n{}\n\n{}", one.line, headers.join("\n"), one.body);
            self.add(format!("access log of {what}"), text);
        }
    }

    /// What a watch has seen.
    pub fn watched(&mut self, watch: Watch) {
        for (place, bytes) in watch.end() {
            self.add(place, bytes);
        }
    }

    /// Whether something was collected of a place that starts so and holds `text`.
    pub fn has(&self, place: &str, text: &str) -> bool {
        let mut of_place = self.0.iter().filter(|(name, _)| name.starts_with(place));
        of_place.any(|(_, bytes)| memmem::find(bytes, text.as_bytes()).is_some())
    }

    /// Every mark in it.
    pub fn search(&self, marks: &Marks) -> Vec<Found> {
        self.0.iter().flat_map(|(place, bytes)| marks.find(place, bytes)).collect()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    all.sort();
    all
}

/// Places and what was there.
type Seen = HashSet<(String, Vec<u8>)>;

/// Looks at a process, its children and its temporary files, a thousand times a second, until it is gone.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Watches process `pid`, whose temporary files are in `temporary`.
    pub fn start(pid: u32, temporary: &Path) -> Watch {
        let (seen, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (here, over, temporary) = (Arc::clone(&seen), Arc::clone(&is_over), temporary.to_owned());
        let look = move || {
            while !over.load(Ordering::Relaxed) {
                let mut now = HashSet::new();
                now.insert(("arguments of sankofa".to_owned(), read(pid, "cmdline")));
                look_at_children(pid, &mut now);
                for file in files(&temporary) {
                    now.insert(("temporary file".to_owned(), fs::read(&file).unwrap_or_default()));
                }
                let here: &Mutex<Seen> = &here;
                here.lock().expect("unpoisoned").extend(now);
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        Watch { seen, is_over, thread: std::thread::spawn(look) }
    }

    fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("watching");
        std::mem::take(&mut *self.seen.lock().expect("unpoisoned"))
    }
}

/// Arguments and environment of all that `pid` has started, and of what those have started.
fn look_at_children(pid: u32, seen: &mut Seen) {
    let own = read(pid, "cmdline");
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            let arguments = read(child, "cmdline");
            if arguments != own {
                // between fork and exec it still is what we are
                seen.insert(("environment of a child".to_owned(), read(child, "environ")));
                seen.insert(("arguments of a child".to_owned(), arguments));
            }
            look_at_children(child, seen);
        }
    }
}

fn read(pid: u32, file: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()
}
