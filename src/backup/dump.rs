//! pg_dump and pg_dumpall, told what to do.
//!
//! In:    a [`Source`], the programs of its server's major version.
//! Out:   running programs that write to a pipe.
//! Holds: a dump waits for a lock a minute at most; nothing of it touches a local disk; rows come in the
//!        text that the settings of the source give them.
//! Not here: where the bytes go (`stream`), what the programs say (`pg::said`).

use crate::backup::source::Source;
use crate::pg::child::{Running, blocking};
use crate::pg::tool::{Program, Tools};
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs::File;

/// How long a dump waits for a lock on a table, milliseconds.
const LOCK_WAIT_MS: u32 = 60_000;

/// What a backup needs of an installation.
pub const PROGRAMS: &[Program] = &[Program::PgDump, Program::PgDumpall];

/// Starts `pg_dump -Fc -Z0` of the source.
///
/// # Errors
/// 75 when it cannot be started; 78 as [`Tools::on`].
pub fn database(tools: &Tools, source: &Source) -> Result<(Running, File)> {
    let mut dump = tools.on(Program::PgDump, &source.session())?;
    dump.args(["--format=custom", "--compress=0"]);
    dump.arg(format!("--encoding={}", source.encoding));
    dump.arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"));
    let (running, stdout) = dump.start()?;
    Ok((running, blocking(stdout)?))
}

/// Starts `pg_dumpall --globals-only` of the source's server; with `passwords`, the verifiers of roles
/// are in it, which only a superuser may read.
///
/// # Errors
/// As [`database`].
pub fn globals(tools: &Tools, source: &Source, passwords: bool) -> Result<(Running, File)> {
    let mut dump = tools.on(Program::PgDumpall, &source.session())?;
    dump.args(["--globals-only", "--encoding=UTF8"]);
    if !passwords {
        dump.arg("--no-role-passwords");
    }
    // Not the name itself: one with `=` in it would be taken for more than a name.
    dump.arg(format!("--database={}", conninfo_dbname(&source.params.database)));
    let (running, stdout) = dump.start()?;
    Ok((running, blocking(stdout)?))
}

/// `name` as a connection string that names a database and nothing else.
fn conninfo_dbname(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', r"\\").replace('\'', r"\'"))
}

/// The settings of the dumping session that shape the text of rows, for the manifest and the proof.
///
/// What pg_dump sets by itself is among them: a proof reads the rows under the same.
pub fn settings(source: &Source) -> BTreeMap<String, String> {
    let own = [
        ("DateStyle", "ISO"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "3"),
        ("row_security", "off"),
        ("search_path", ""),
        ("client_encoding", source.encoding),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.into_iter().chain(source.settings.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_name_cannot_name_anything_else() {
        assert_eq!(conninfo_dbname(r"a' host='b\"), r"dbname='a\' host=\'b\\'");
    }
}
