//! Dumps and restores by the client programs of any major, as backups make them.
//!
//! In:    a database of the test bed, a major of client programs.
//! Out:   the archive; a restored database.
//! Holds: the settings that shape a row's text are pinned as backups pin them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::bed;
use super::database::Database;
use super::server::{PASSWORD, USER};

/// A database that a dump can go wrong on: every type family, odd names, odd values.
const HOSTILE: &str = include_str!("../fixtures/hostile.sql");

impl Database {
    /// Fills it with every type family, odd names and odd values; 0.5 s.
    pub async fn fill_with_hostile_content(&self) {
        self.sql(HOSTILE).await;
    }

    /// A client program, pointed at this database as superuser.
    pub fn client(&self, major: u16, program: &str) -> Command {
        let mut command = Command::new(bed::client_program(major, program));
        command.env_remove("LC_ALL").env("LC_ALL", "C.UTF-8").env("PGPASSWORD", PASSWORD);
        command.env("PGTZ", "UTC").env("PGOPTIONS", "-c bytea_output=hex -c lc_monetary=C");
        command.arg("-h").arg(self.server().socket_folder());
        command.args(["-p", &self.server().port().to_string(), "-U", USER, "-d", self.name()]);
        command
    }

    /// What pg_dump of a major writes to a pipe: custom format, not compressed.
    ///
    /// # Panics
    /// When it fails.
    pub fn dump(&self, major: u16, more: &[&str]) -> Vec<u8> {
        let arguments = ["-Fc", "-Z0", "-E", "UTF8"];
        let done =
            self.client(major, "pg_dump").args(arguments).args(more).output().expect("running pg_dump");
        assert!(done.status.success(), "pg_dump {major}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// Restores an archive into this database by pg_restore of a major, with two jobs.
    ///
    /// # Panics
    /// When it fails, "errors ignored" included.
    pub fn restore(&self, major: u16, archive: &[u8]) {
        let mut file = tempfile::NamedTempFile::new().expect("making a file");
        file.write_all(archive).expect("writing the archive");
        let mut restore = self.client(major, "pg_restore");
        let done = restore.args(["-j", "2"]).arg(file.path()).stdin(Stdio::null()).output();
        let done = done.expect("running pg_restore");
        assert!(done.status.success(), "pg_restore {major}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// The independent reader of archives; None, loudly, where it is missing.
///
/// # Panics
/// In CI, when it is missing.
pub fn independent_reader() -> Option<PathBuf> {
    let script = bed::shared_data().map(|data| data.with_file_name("tools/pgc_parse.py"));
    let found = script.filter(|script| script.exists());
    if found.is_none() {
        assert!(!bed::is_ci(), "no pgc_parse.py: put `shared` beside the checkout or set SANKOFA_SHARED");
        eprintln!(
            "\n!!! NOT TESTED: no pgc_parse.py (put `shared` beside the checkout or set SANKOFA_SHARED)\n"
        );
    }
    found
}
