//! PostgreSQL's own programs: found by their major version, started on a server.
//!
//! In:    a major version, a connection, the server it was opened on.
//! Out:   running programs in a process group of their own.
//! Holds: their environment is built here, nothing is inherited; the password is neither in it nor
//!        among the arguments (`passfile`); they end when they are dropped, and when this process dies.
//! Not here: what they are told to do (`backup`), how they run (`child`), what they say (`said`).

use super::child::Running;
use super::endpoint::Endpoint;
use super::params::{ConnectParams, RootCertificates, Verification};
use super::passfile::Passfile;
use crate::error::Failure;
use anyhow::Result;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{ChildStdout, Command};

/// One of PostgreSQL's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Dumps a database.
    PgDump,
    /// Restores one.
    PgRestore,
    /// Dumps what belongs to the whole server.
    PgDumpall,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Program::PgDump => "pg_dump",
            Program::PgRestore => "pg_restore",
            Program::PgDumpall => "pg_dumpall",
        })
    }
}

/// The programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Where they are.
    pub folder: PathBuf,
    /// Their version, such as `17.10`.
    pub version: String,
    /// Their major version.
    pub major: u32,
}

/// Where to look before anything else: directories, separated by colons.
const FIRST: &str = "SANKOFA_PG_BIN";
/// Where packages put the programs of one major version; `{}` is the version.
const USUAL: &[&str] = &[
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/opt/postgresql/{}/bin",
    "/opt/postgresql-{}/bin",
    "/opt/postgres/{}/bin",
    "/usr/local/pgsql-{}/bin",
    "/usr/local/pgsql/bin",
    "/usr/libexec/postgresql{}",
];
/// How long a program may take to tell its version.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A place where nothing is, so that libpq reads none of the user's files.
const NOWHERE: &str = "/nonexistent";

/// The folders in which programs of `major` are looked for, in this order, by the process's variables.
pub fn folders(major: u32, variables: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let split = |name: &str| {
        let list = variables.get(name).map(String::as_str).unwrap_or_default();
        std::env::split_paths(list).filter(|path| path.is_absolute()).collect::<Vec<_>>()
    };
    let usual = USUAL.iter().map(|path| PathBuf::from(path.replace("{}", &major.to_string())));
    split(FIRST).into_iter().chain(usual).chain(split("PATH")).collect()
}

impl Tools {
    /// Finds an installation of `major` that has all of `programs`.
    ///
    /// Cost: one start of a program for each folder that has one.
    ///
    /// # Errors
    /// 78 naming the package to install.
    pub async fn find(major: u32, programs: &[Program], folders: &[PathBuf]) -> Result<Tools> {
        let mut others = Vec::new();
        for folder in folders {
            let Some(first) = programs.first() else { continue };
            if !programs.iter().all(|program| is_there(&folder.join(program.to_string()))) {
                continue;
            }
            match version(&folder.join(first.to_string())).await {
                Some((found, version)) if found == major => {
                    return Ok(Tools { folder: folder.clone(), version, major });
                }
                Some((_, version)) => others.push(format!("{version} in {}", folder.display())),
                None => {}
            }
        }
        let names = programs.iter().map(Program::to_string).collect::<Vec<_>>().join(" and ");
        let found = match others.is_empty() {
            true => "none is there".to_owned(),
            false => format!("found {}", others.join(", ")),
        };
        Err(Failure::config(format!("cannot find {names} of PostgreSQL {major}: {found}"))
            .hint(format!(
                "Install them (Debian: apt-get install postgresql-client-{major}, from apt.postgresql.org \
                 where Debian's own is another), or name their directory in {FIRST}."
            ))
            .into())
    }

    /// Readies `program` to run on the server of `session`.
    ///
    /// # Errors
    /// 78 when a certificate is to be verified and this machine has no root certificates, and for a
    /// password that no password file can hold.
    pub fn on(&self, program: Program, session: &ToolSession<'_>) -> Result<Prepared> {
        let mut prepared = self.alone(program);
        prepared.command.envs(session.environment()?);
        if let Some(password) =
            session.params.password.as_ref().filter(|text| !text.expose_secret().is_empty())
        {
            prepared.password(Passfile::of(password)?);
        }
        prepared.arg("--no-password");
        prepared.arg(format!("--dbname={}", session.wire()));
        Ok(prepared)
    }

    /// Readies `program` to run without any server.
    pub fn alone(&self, program: Program) -> Prepared {
        Prepared { program, command: plain(&self.folder.join(program.to_string())) }
    }
}

/// A program that is ready to be started.
pub struct Prepared {
    program: Program,
    command: Command,
}

impl Prepared {
    /// Gives it a password.
    fn password(&mut self, file: Passfile) {
        self.command.env("PGPASSFILE", file.path());
        // SAFETY: what is called makes one system call, and allocates nothing.
        unsafe { self.command.pre_exec(move || file.inherit()) };
    }

    /// Adds an argument; everybody on the machine can read it.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.command.args(args);
        self
    }

    /// Gives it `file` as its standard input, which it may open again as `/proc/self/fd/0`.
    pub fn input(&mut self, file: std::fs::File) -> &mut Self {
        self.command.stdin(file);
        self
    }

    /// Starts it; what it writes to stdout comes from the second half.
    ///
    /// # Errors
    /// 75 when it cannot be started.
    pub fn start(mut self) -> Result<(Running, ChildStdout)> {
        let cannot = |why: io::Error| Failure::temporary(format!("cannot start {}: {why}", self.program));
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(cannot)?;
        let stdout = child.stdout.take().ok_or_else(|| cannot(io::ErrorKind::BrokenPipe.into()))?;
        Ok((Running::new(self.program, child), stdout))
    }
}

/// What a program's sessions are.
#[derive(Clone, Copy, Debug)]
pub struct ToolSession<'a> {
    /// The connection.
    pub params: &'a ConnectParams,
    /// The one server of it to go to.
    pub at: &'a Endpoint,
    /// Shown in `pg_stat_activity`.
    pub application_name: &'a str,
    /// Settings: (name, value without blanks).
    pub settings: &'a [(String, String)],
}

impl ToolSession<'_> {
    /// What libpq has no variables for; nothing of it is a secret.
    fn wire(&self) -> String {
        let keepalives = &self.params.keepalives;
        let mut text = format!("keepalives={}", u8::from(keepalives.on));
        for (name, value) in [
            ("keepalives_idle", keepalives.idle_s),
            ("keepalives_interval", keepalives.interval_s),
            ("keepalives_count", keepalives.count),
        ] {
            text.push_str(&format!(" {name}={value}"));
        }
        if let Some(timeout) = self.params.tcp_user_timeout {
            text.push_str(&format!(" tcp_user_timeout={}", timeout.as_millis()));
        }
        text
    }

    /// What libpq needs to know, as its variables. PostgreSQL manual, 32.15.
    fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let params = self.params;
        let timeout = params.connect_timeout.unwrap_or(Duration::from_secs(15)).as_secs().max(2);
        let mut set: Vec<(&'static str, OsString)> = vec![
            ("PGHOST", self.at.host.clone().into()),
            ("PGPORT", self.at.port.to_string().into()),
            ("PGUSER", params.user.clone().into()),
            ("PGDATABASE", params.database.clone().into()),
            ("PGPASSFILE", NOWHERE.into()),
            ("PGAPPNAME", self.application_name.into()),
            ("PGCONNECT_TIMEOUT", timeout.to_string().into()),
            ("PGSSLMODE", params.tls.mode.word().into()),
            ("PGSSLROOTCERT", self.roots()?),
            ("PGCHANNELBINDING", params.channel_binding.word().into()),
            ("PGGSSENCMODE", "disable".into()),
            ("PGTZ", "UTC".into()),
            ("PGOPTIONS", options_text(params.options.as_deref(), self.settings).into()),
        ];
        if let Some(address) = self.at.address.filter(|_| !self.at.is_socket()) {
            set.push(("PGHOSTADDR", address.to_string().into()));
        }
        let nowhere = || (PathBuf::from(NOWHERE), PathBuf::from(NOWHERE));
        let (certificate, key) = params.tls.identity.clone().unwrap_or_else(nowhere);
        set.push(("PGSSLCERT", certificate.into()));
        set.push(("PGSSLKEY", key.into()));
        if params.tls.direct {
            set.push(("PGSSLNEGOTIATION", "direct".into())); // unknown before 17, where it changes nothing
        }
        if params.tls.only_tls13 {
            set.push(("PGSSLMINPROTOCOLVERSION", "TLSv1.3".into()));
        }
        Ok(set)
    }

    /// The file of root certificates; as in our own sessions the system's where none is named.
    fn roots(&self) -> Result<OsString> {
        let tls = &self.params.tls;
        match &tls.roots {
            _ if tls.verification() == Verification::Nothing || self.at.is_socket() => Ok(NOWHERE.into()),
            RootCertificates::File(path) => Ok(path.into()),
            RootCertificates::System | RootCertificates::Unset => {
                let found = SYSTEM_ROOTS.iter().find(|path| Path::new(path).exists());
                // `sslrootcert=system` is refused by libpq before 16, and by 16 with verify-ca.
                found.map(OsString::from).ok_or_else(|| {
                    Failure::config("there is no file of root certificates to verify the server against")
                        .hint("Install ca-certificates, or name a file of PEM certificates as sslrootcert.")
                        .into()
                })
            }
        }
    }
}

const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `options` of a connection with `settings` behind them, which win.
pub fn options_text(options: Option<&str>, settings: &[(String, String)]) -> String {
    let given = options.map(str::trim).unwrap_or_default();
    let ours = settings.iter().map(|(name, value)| format!("-c {name}={value}"));
    Some(given.to_owned())
        .filter(|text| !text.is_empty())
        .into_iter()
        .chain(ours)
        .collect::<Vec<_>>()
        .join(" ")
}

/// No environment but this, no input, ended with us, signals as a fresh process has them.
fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("HOME", NOWHERE);
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true).current_dir("/");
    let parent = std::process::id();
    // SAFETY: the calls may be made between fork and exec, and touch nothing but their arguments.
    unsafe {
        command.pre_exec(move || {
            let mut none = std::mem::MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            match libc::getppid() == parent as i32 {
                true => Ok(()),
                false => Err(io::ErrorKind::BrokenPipe.into()), // we died before it could be told so
            }
        });
    }
    command
}

/// Whether a program of that name is there, and not Debian's wrapper, which chooses a version by itself.
fn is_there(program: &Path) -> bool {
    let target = program.canonicalize().ok();
    target
        .is_some_and(|target| target.is_file() && target.file_name().is_none_or(|name| name != "pg_wrapper"))
}

/// Major version and version that `program` tells.
async fn version(program: &Path) -> Option<(u32, String)> {
    let mut command = plain(program);
    command.arg("--version").stderr(Stdio::null());
    let told = tokio::time::timeout(ANSWER_WITHIN, command.output()).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&told.stdout))
}

/// Reads `pg_dump (PostgreSQL) 16.14 (Debian 16.14-1)`.
fn parse_version(told: &str) -> Option<(u32, String)> {
    let version = told.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_whatever_stands_around_it() {
        let read = |text| parse_version(text).map(|(major, version)| format!("{major} {version}"));
        assert_eq!(
            read("pg_dump (PostgreSQL) 16.14 (Debian 16.14-1.pgdg12+1)\n").as_deref(),
            Some("16 16.14")
        );
        assert_eq!(read("pg_dump (PostgreSQL) 19beta1\n").as_deref(), Some("19 19beta1"));
        assert_eq!(read("sh: pg_dump: not found"), None);
    }

    #[test]
    fn named_folders_come_before_the_usual_ones_and_path_comes_last() {
        let variables = [(FIRST, "/a:/b:relative"), ("PATH", "/usr/bin")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let all = folders(17, &variables);
        assert_eq!(all[..2], [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(all[2], PathBuf::from("/usr/lib/postgresql/17/bin"));
        assert_eq!(all.last(), Some(&PathBuf::from("/usr/bin")));
    }

    #[test]
    fn our_settings_stand_behind_those_of_the_connection() {
        let ours = [("a".to_owned(), "b".to_owned())];
        assert_eq!(options_text(Some(" -c x=y "), &ours), "-c x=y -c a=b");
        assert_eq!(options_text(None, &ours), "-c a=b");
    }
}
