//! A password for libpq: a file in memory that has no name and ends with those who hold it.
//!
//! In:    a password. Out: a descriptor for one child, and the path under which it finds it.
//! Holds: mode 0600, as libpq asks for; neither environment nor arguments of a child hold the password.
//! Not here: what else a child is told (`tool`).

use crate::error::Failure;
use secrecy::{ExposeSecret, SecretString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use zeroize::Zeroizing;

/// A `PGPASSFILE` of one line: this password, whatever is connected to.
#[derive(Debug)]
pub struct Passfile(File);

impl Passfile {
    /// Writes `password` into one.
    ///
    /// # Errors
    /// 78 when no such file can hold it: a line break in it. 75 when the system has no descriptor.
    pub fn of(password: &SecretString) -> Result<Passfile, Failure> {
        let line = line(password.expose_secret()).ok_or_else(|| {
            Failure::config("cannot give the password to PostgreSQL's programs: it has a line break")
                .hint("Set a password without line breaks.")
        })?;
        let made = in_memory().and_then(|mut file| file.write_all(line.as_bytes()).map(|()| file));
        made.map(Passfile)
            .map_err(|why| Failure::temporary(format!("cannot make a password file in memory: {why}")))
    }

    /// Where a child that inherits it finds it, its own children too.
    pub fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    /// Lets the program that this process becomes inherit it. To be called between fork and exec.
    ///
    /// # Errors
    /// When the descriptor is closed.
    pub fn inherit(&self) -> io::Result<()> {
        // SAFETY: it reads nothing but its arguments.
        match unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

fn in_memory() -> io::Result<File> {
    // SAFETY: the name ends in NUL.
    let descriptor = unsafe { libc::memfd_create(c"sankofa".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// `*:*:*:*:password`; `:` and `\` are escaped. PostgreSQL manual, 32.16.
fn line(password: &str) -> Option<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(2 * password.len() + 9)); // never moved
    line.push_str("*:*:*:*:");
    for char in password.chars() {
        match char {
            '\n' | '\r' | '\0' => return None,
            ':' | '\\' => line.push('\\'),
            _ => {}
        }
        line.push(char);
    }
    line.push('\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_and_backslashes_are_escaped_and_a_line_break_is_refused_unquoted() {
        assert_eq!(line(r"a:b\c é").unwrap().as_str(), "*:*:*:*:a\\:b\\\\c é\n");
        let failure = Passfile::of(&"MARK\nx".into()).unwrap_err();
        assert!(!format!("{failure:?}").contains("MARK"), "{failure:?}");
    }

    #[test]
    fn the_file_is_for_its_user_alone_and_no_child_has_it_unasked() {
        let file = Passfile::of(&"x".into()).unwrap();
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode, 0o100_600);
        // SAFETY: it reads nothing but its arguments.
        assert_eq!(unsafe { libc::fcntl(file.0.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "*:*:*:*:x\n");
    }
}
