//! Hands the result of a command to whoever waits for it: a person, a pipe, a scheduler.
//!
//! In:    a report, once. Out: stdout, `SANKOFA_RESULT_FILE`, a `SANKOFA_RESULT` line.
//! Holds: the file is whole or not there; nobody reading stdout is no failure; the file comes first,
//!        since a pipe that nobody empties may block for ever.
//! Not here: what the result says (`report`).

use crate::error::Failure;
use crate::report::{LIMIT_BYTES, Look, Report, Text};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the result of this process goes.
pub struct Outlet {
    file: Option<PathBuf>,
    line: bool,
    look: Option<Look>,
    delivered: AtomicBool,
}

impl Outlet {
    /// As the variables say; stdout gets a table if it is a terminal and `json` is not asked for.
    pub fn new(variables: &BTreeMap<String, String>, json: bool) -> Self {
        let file = variables.get("SANKOFA_RESULT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let line = variables.get("SANKOFA_RESULT_LINE").is_some_and(|value| value == "1");
        let look = (io::stdout().is_terminal() && !json).then(|| Look {
            width: comfy_table::Table::new().width().filter(|width| *width >= 40).unwrap_or(100), // 0 unknown
            colour: !variables.contains_key("NO_COLOR"),
        });
        Outlet { file, line, look, delivered: AtomicBool::new(false) }
    }

    /// Removes the result file of an earlier try, so that a try that is killed leaves none.
    pub fn forget_earlier(&self) {
        if let Some(file) = self.file.as_deref().filter(|file| is_replaceable(file)) {
            let _ = std::fs::remove_file(file); // one that cannot be removed is written over
        }
    }

    /// Delivers `report`; a second call does nothing.
    ///
    /// # Errors
    /// A failure, when a place that was asked for could not be written.
    pub fn deliver(&self, report: &Report) -> Result<(), Failure> {
        if self.delivered.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let short = report.to_json(LIMIT_BYTES - 1);
        let in_file = match &self.file {
            Some(file) => write_file(file, &format!("{short}\n")).map_err(|error| {
                Failure::temporary(format!("cannot write the result to {}: {error}", file.display()))
            }),
            None => Ok(()),
        };
        let mut text = self.for_stdout(report);
        if self.line {
            text.push_str(&format!("SANKOFA_RESULT {short}\n"));
        }
        print(&text)?;
        in_file
    }

    fn for_stdout(&self, report: &Report) -> String {
        match (&report.text, self.look) {
            (Some(Text::Verbatim(text)), _) => text.clone(),
            (Some(Text::ForPerson(text)), Some(_)) => text.clone(),
            (None, Some(_)) if report.error.is_some() && report.tables.is_empty() => String::new(),
            (None, Some(look)) => report.to_table(look),
            (_, None) => report.to_full_json() + "\n",
        }
    }
}

/// Writes `text` to stdout; a reader who has gone away is no failure.
///
/// # Errors
/// A failure, when stdout cannot be written, such as a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::temporary(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether `file` is an ordinary file, or none yet, in a directory that is not `/dev`.
///
/// Kubernetes mounts `/dev/termination-log` as a file of its own, which cannot be replaced.
fn is_replaceable(file: &Path) -> bool {
    !file.starts_with("/dev") && std::fs::metadata(file).map_or(true, |found| found.is_file())
}

fn write_file(file: &Path, text: &str) -> io::Result<()> {
    if is_replaceable(file) {
        let target = file.canonicalize().unwrap_or_else(|_| file.to_owned()); // a link stays a link
        if replace(&target, text).is_ok() {
            return Ok(());
        }
    }
    // Not a file, a mount of its own, or in a directory that is read only.
    OpenOptions::new().write(true).create(true).truncate(true).open(file)?.write_all(text.as_bytes())
}

fn replace(target: &Path, text: &str) -> io::Result<()> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, target));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(file: &Path) -> Outlet {
        let file = Some(file.to_owned());
        Outlet { file, line: false, look: None, delivered: AtomicBool::new(false) }
    }

    #[test]
    fn the_first_result_stays_and_no_temporary_file_is_left() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("result.json");
        let outlet = outlet(&file);
        let report = |rows| Report { rows, ..Default::default() };
        outlet.deliver(&report(1)).unwrap();
        outlet.deliver(&report(2)).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(object["rows"], 1);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_result_of_an_earlier_try_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("result.json");
        std::fs::write(&file, "old").unwrap();
        outlet(&file).forget_earlier();
        assert!(!file.exists());
    }

    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let place = tempfile::tempdir().unwrap();
        let (file, link) = (place.path().join("file"), place.path().join("link"));
        std::fs::write(&file, "old and much longer").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_file(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(link.is_symlink());
        write_file(Path::new("/dev/null"), "new").unwrap();
        assert!(!is_replaceable(Path::new("/dev/termination-log")));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said() {
        let failure = outlet(Path::new("/no/such/directory/x")).deliver(&Report::default()).unwrap_err();
        assert!(failure.what.starts_with("cannot write the result to /no/such/directory/x: "));
    }
}
