//! Where the installed programs are.

use std::path::{Path, PathBuf};

/// The folder that `tests/testbed/install.sh` filled.
pub fn folder() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".testbed");
    let folder = std::env::var_os("SANKOFA_TESTBED").map_or_else(default, PathBuf::from);
    folder
        .canonicalize()
        .unwrap_or_else(|_| panic!("no test bed: run tests/testbed/install.sh (or `make test`) first"))
}

/// A server program (`initdb`, `pg_ctl`, `postgres`) of one major.
pub fn server_program(major: u16, name: &str) -> PathBuf {
    existing(folder().join(format!("postgresql/{major}/bin/{name}")))
}

/// Majors whose client programs the test bed may have; 13 only where Debian's bullseye can be had.
pub const CLIENT_MAJORS: [u16; 5] = [13, 15, 16, 17, 18];

/// A client program (`psql`, `pg_dump`, ...) of one of [`CLIENT_MAJORS`].
///
/// # Panics
/// When it is missing.
pub fn client_program(major: u16, name: &str) -> PathBuf {
    existing(folder().join(format!("clients/{major}/bin/{name}")))
}

/// Whether the client programs of a major are there; says loudly when they are not.
///
/// # Panics
/// In CI, when others than those of 13 are missing.
pub fn has_clients(major: u16) -> bool {
    let is_there = folder().join(format!("clients/{major}/bin/pg_dump")).exists();
    if !is_there {
        assert!(!is_ci() || major == 13, "no client programs of {major}: run tests/testbed/install.sh");
        eprintln!("\n!!! NOT TESTED: no client programs of PostgreSQL {major} (tests/testbed/install.sh)\n");
    }
    is_there
}

/// pgbouncer; None where it could not be installed.
pub fn pgbouncer() -> Option<PathBuf> {
    Some(folder().join("pgbouncer/run")).filter(|path| path.exists())
}

/// The S3 server; None where it could not be built.
pub fn versitygw() -> Option<PathBuf> {
    Some(folder().join("s3/versitygw")).filter(|path| path.exists())
}

/// A Vault: VAULT_BIN, `vault` or `bao` on PATH, else that of the test bed; None where there is none.
pub fn vault() -> Option<PathBuf> {
    let named = std::env::var_os("VAULT_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let of_system =
        ["vault", "bao"].into_iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let own = folder().join("vault/vault");
    named.into_iter().chain(of_system).chain([own]).find(|path| path.is_file())
}

/// The folder of moto's Python packages; None where they could not be installed.
pub fn moto() -> Option<PathBuf> {
    Some(folder().join("moto")).filter(|path| path.exists())
}

/// The folder of Backblaze's own client; None, loudly, where it could not be installed.
pub fn backblaze() -> Option<PathBuf> {
    let found = Some(folder().join("b2cli")).filter(|path| path.exists());
    if found.is_none() {
        assert!(!is_ci(), "no b2: tests/testbed/b2cli.sh says why");
        eprintln!("\n!!! NOT TESTED: Backblaze's own client is not here (tests/testbed/b2cli.sh)\n");
    }
    found
}

/// The folder of aiosmtpd's Python packages.
///
/// # Panics
/// When it is missing.
pub fn smtp() -> PathBuf {
    existing(folder().join("smtp"))
}

/// A program that reads our backups without us, such as `age`: from the test bed, else from the system.
pub fn foreign_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_system = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = std::iter::once(folder().join("foreign/usr/bin").join(name))
        .chain(of_system)
        .find(|path| path.exists());
    assert!(found.is_some() || !is_ci(), "no {name}: run tests/testbed/install.sh");
    found
}

/// The folder `shared` with the real data sets; None where this machine has none.
pub fn shared_data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("SANKOFA_SHARED").map_or_else(beside, PathBuf::from);
    shared.join("data").canonicalize().ok()
}

/// Whether a missing part is a failure rather than a loud line.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// How often something random is tried: `usual` times, `soak` times with `SANKOFA_SOAK=1`.
pub fn rounds(usual: usize, soak: usize) -> usize {
    if std::env::var_os("SANKOFA_SOAK").is_some() { soak } else { usual }
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run tests/testbed/install.sh", path.display());
    path
}
