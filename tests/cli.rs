//! The command line from outside: help pages, user errors, results, signals.

use serde_json::Value;
use std::ffi::CString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary, without the variables that steer it.
fn sankofa(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sankofa"));
    command.args(words).stdin(Stdio::null());
    for name in ["SANKOFA_LOG_FORMAT", "SANKOFA_RESULT_FILE", "SANKOFA_RESULT_LINE"] {
        command.env_remove(name);
    }
    // A shell starts what runs in the background with SIGINT ignored, and a signal that was ignored
    // stays so: the tests may run there.
    // SAFETY: `signal` may be called between fork and exec.
    unsafe { command.pre_exec(default_interrupt) };
    command
}

fn default_interrupt() -> std::io::Result<()> {
    // SAFETY: no handler is given.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    Ok(())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", text(bytes)))
}

#[test]
fn every_help_page_and_every_refused_command_line_reads_as_recorded() {
    trycmd::TestCases::new()
        .env("SANKOFA_LOG_FORMAT", "")
        .env("SANKOFA_RESULT_FILE", "")
        .env("SANKOFA_RESULT_LINE", "")
        .case("tests/cli/*.trycmd");
}

#[test]
fn every_command_has_its_help_page_recorded() {
    fn missing(command: &clap::Command, words: &str, found: &mut Vec<String>) {
        let name = format!("tests/cli/help{words}.trycmd");
        if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&name).exists() {
            found.push(name);
        }
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            missing(below, &format!("{words}-{}", below.get_name()), found);
        }
    }
    let mut found = Vec::new();
    missing(&sankofa::cmd::help::command(), "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_refused_command_line_leaves_its_result_in_the_file_on_the_line_and_on_stdout() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("result.json");
    std::fs::write(&file, "of an earlier try").unwrap();
    let out = sankofa(&["sync"])
        .env("SANKOFA_RESULT_FILE", &file)
        .env("SANKOFA_RESULT_LINE", "1")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let in_file = json(&std::fs::read(&file).unwrap());
    assert_eq!(in_file["command"], "sync");
    assert_eq!(in_file["error"]["code"], "usage");
    let (object, line) = text(&out.stdout).split_once('\n').unwrap();
    assert_eq!(json(object.as_bytes()), in_file);
    assert_eq!(json(line.strip_prefix("SANKOFA_RESULT ").unwrap().as_bytes()), in_file);
}

#[test]
fn a_run_id_of_10_kib_is_refused_without_being_repeated() {
    let out = sankofa(&["sync", "hr", "--run", &"x".repeat(10_240)]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out.stderr);
    assert!(said.contains("it is 10240 bytes long, at most 250 are allowed"), "{said}");
    assert!(said.len() < 400, "{} bytes", said.len());
    assert!(out.stdout.len() <= 4096);
}

#[test]
fn a_log_format_that_is_neither_text_nor_json_is_refused() {
    let out = sankofa(&["sync", "hr"]).env("SANKOFA_LOG_FORMAT", "xml").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).starts_with("error: cannot log as SANKOFA_LOG_FORMAT says"));
}

#[test]
fn with_json_logs_the_error_is_a_json_line() {
    let out = sankofa(&["man", "nothing", "--log-format", "json"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let line = json(&out.stderr);
    assert_eq!((&line["level"], &line["code"]), (&"ERROR".into(), &"usage".into()));
    assert_eq!(line["message"], "cannot print the manual page: there is no such command");
}

#[test]
fn a_reader_who_has_gone_away_is_no_failure() {
    let mut child =
        sankofa(&["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), ""));
}

#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = sankofa(&["completions", "zsh"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let out = out.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(75));
    assert!(text(&out.stderr).starts_with("error: cannot write to stdout: "), "{}", text(&out.stderr));
}

#[test]
fn a_manual_page_is_written_for_every_command() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("man1");
    let out = sankofa(&["man", "--out", directory.to_str().unwrap()]).output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    for page in ["sankofa.1", "sankofa-sync.1", "sankofa-state-reset.1"] {
        let page = std::fs::read_to_string(directory.join(page)).unwrap();
        assert!(page.contains(".TH") && page.contains("Exit status"), "{page}");
    }
    let printed = sankofa(&["man", "state", "reset"]).output().unwrap().stdout;
    assert_eq!(printed, std::fs::read(directory.join("sankofa-state-reset.1")).unwrap());
}

#[test]
fn the_reference_in_the_repository_is_what_the_code_says() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let current = sankofa(&["config", "reference"]).output().unwrap().stdout;
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(
        committed == text(&current),
        "docs/reference.md is not current: run `cargo run -- config reference > docs/reference.md`"
    );
}

/// A process that hangs: a named pipe that nobody reads takes its result.
struct Stuck {
    child: Child,
    _place: tempfile::TempDir,
}

impl Stuck {
    fn start(words: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        make_pipe(&pipe);
        let child = sankofa(words)
            .env("SANKOFA_RESULT_FILE", &pipe)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stuck = Stuck { child, _place: place };
        stuck.wait_until_it_hangs();
        stuck
    }

    /// Waits until the main thread sleeps in the opening of the pipe.
    fn wait_until_it_hangs(&self) {
        let state = PathBuf::from(format!("/proc/{}/stat", self.child.id()));
        let mut asleep = 0;
        while asleep < 10 {
            let stat = std::fs::read_to_string(&state).unwrap();
            asleep = if stat.contains(") S ") { asleep + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, signal: i32) {
        // SAFETY: a system call on a process that this test has started and not yet waited for.
        unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), signal) };
    }

    /// Waits for the end; returns status, what was said, and how long it took.
    fn end(mut self) -> (Option<i32>, String, Duration) {
        let start = Instant::now();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), None);
        let took = start.elapsed();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said, took)
    }
}

fn make_pipe(path: &Path) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn after_sigterm_it_is_gone_within_four_seconds_although_it_hangs() {
    let stuck = Stuck::start(&["completions", "bash"]);
    stuck.send(libc::SIGTERM);
    let (code, said, took) = stuck.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(said.contains("asked to stop"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once_with_the_status_of_the_first() {
    let stuck = Stuck::start(&["completions", "bash"]);
    stuck.send(libc::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    stuck.send(libc::SIGTERM);
    let (code, said, took) = stuck.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_deadline_ends_what_hangs_as_temporary() {
    let stuck = Stuck::start(&["sync", "hr", "--deadline", "1s"]);
    let (code, _, took) = stuck.end();
    assert_eq!(code, Some(75));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn its_memory_can_be_measured_but_it_dumps_no_core() {
    let stuck = Stuck::start(&["completions", "bash"]);
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", stuck.child.id())).unwrap();
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    assert!(read("status").contains("VmHWM:"));
    stuck.send(libc::SIGTERM);
    stuck.send(libc::SIGTERM);
    assert_eq!(stuck.end().0, Some(143));
}

#[test]
fn it_says_its_version_and_that_is_a_result_too() {
    let Output { status, stdout, .. } = sankofa(&["--version"]).output().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(text(&stdout), format!("sankofa {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn locks_are_written_once_found_current_then_stale_and_a_bad_pipeline_keeps_no_other_from_its_lock() {
    let place = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(place.path().join(file), text).unwrap();
    std::fs::create_dir(place.path().join("pipelines")).unwrap();
    let good = "source: hr_db\nschema: hr\ntables:\n  public.department: {mode: full_refresh}\n";
    write("pipelines/hr.yaml", good);
    let compile = |words: &[&str]| {
        let all = [&["config", "compile", "--project", place.path().to_str().unwrap()], words].concat();
        let out = sankofa(&all).output().unwrap();
        (out.status.code(), json(&out.stdout))
    };
    assert_eq!(compile(&["--check"]).0, Some(78));
    assert!(!place.path().join("locks").exists());
    let (code, result) = compile(&[]);
    assert_eq!((code, &result["written"][0]), (Some(0), &"hr".into()));
    let lock = json(&std::fs::read(place.path().join("locks/hr.lock.json")).unwrap());
    assert_eq!((&lock["schema"], &lock["name"]), (&1.into(), &"hr".into()));
    assert_eq!(compile(&["--check"]).0, Some(0));

    write("pipelines/hr.yaml", &good.replace("full_refresh", "append, replication_key: id"));
    write("pipelines/bad.yaml", "source: [\n");
    let (code, result) = compile(&[]);
    assert_eq!((code, &result["written"][0]), (Some(78), &"hr".into()));
    assert!(result["error"]["message"].as_str().unwrap().contains("pipelines/bad.yaml"), "{result}");
    assert_eq!(compile(&["hr", "--check"]).0, Some(0));
}

#[test]
fn the_schemas_of_the_project_files_are_printed_as_they_are() {
    for (file, key) in [("project", "warehouse"), ("pipeline", "tables")] {
        let out = sankofa(&["config", "schema", file]).output().unwrap();
        assert!(json(&out.stdout)["properties"][key].is_object(), "{file}");
    }
}

/// A server that takes connections and never says a word.
fn mute_server() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (
        listener,
        format!("postgres://sankofa:marked-secret@127.0.0.1:{port}/db?sslmode=disable&connect_timeout=60"),
    )
}

/// Starts `sync` of a project whose servers never answer; returns it once it has connected.
fn stuck_on_a_mute_server(words: &[&str], file: &Path) -> (Child, std::net::TcpListener) {
    let (listener, uri) = mute_server();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/project.in");
    let child = sankofa(&[&["sync", "hr", "--run", "dag/1"], words].concat())
        .args(["--project", project.to_str().unwrap()])
        .env("AIRFLOW_CONN_WAREHOUSE", &uri)
        .env("AIRFLOW_CONN_HR_DB", &uri)
        .env("SANKOFA_RESULT_FILE", file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _connected = listener.accept().unwrap();
    std::mem::forget(_connected); // stays open, and mute, to the end of the test
    (child, listener)
}

#[test]
fn after_sigterm_a_run_whose_server_never_answers_is_gone_within_four_seconds_with_its_result() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("result.json");
    let (child, _listener) = stuck_on_a_mute_server(&[], &file);
    // SAFETY: a system call on a process that this test has started and not yet waited for.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGTERM) };
    let start = Instant::now();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(143), "{}", text(&out.stderr));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let result = json(&std::fs::read(&file).unwrap());
    assert_eq!((&result["status"], &result["run_id"]), (&"cancelled".into(), &"dag/1".into()));
    assert_eq!(result["error"]["exit"], 143);
    assert_eq!(json(&out.stdout), result);
    assert!(!text(&out.stderr).contains("marked-secret") && !text(&out.stdout).contains("marked-secret"));
}

#[test]
fn a_run_whose_server_never_answers_ends_as_temporary_at_its_deadline() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("result.json");
    let start = Instant::now();
    let (child, _listener) = stuck_on_a_mute_server(&["--deadline", "1s"], &file);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(75), "{}", text(&out.stderr));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let result = json(&std::fs::read(&file).unwrap());
    assert_eq!((&result["status"], &result["error"]["code"]), (&"failed".into(), &"temporary".into()));
    assert_eq!(result["error"]["message"], "not done within the deadline of 1.0 s");
}
