//! A backup in a directory, made without the `backup` command: pg_dump and the library's own parts.

use crate::support::*;
use sankofa::backup::archive::Reader;
use sankofa::backup::codec::{self, Codec};
use sankofa::backup::manifest::*;
use sankofa::backup::names;
use sankofa::backup::seal::{Recipients, seal};
use sankofa::backup::tally::Sum;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A database and a backup of it, called `db`.
pub struct Stored {
    pub source: Database,
    pub identity: String,
    pub recipient: String,
    /// Id of the first backup.
    pub id: String,
    /// What pg_dump wrote, the last time.
    pub archive: Vec<u8>,
    project: Sankofa,
    rows: u64,
}

/// Numbers that look random, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit.max(1) as u64) as usize
    }
}

/// (identity, recipient).
pub fn key_pair() -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

impl Stored {
    /// Backs `source` up once.
    pub async fn of(source: Database) -> Stored {
        let (identity, recipient) = key_pair();
        let project = Sankofa::new().env("AIRFLOW_VAR_AGE_IDENTITY", &identity);
        let mut stored =
            Stored { source, identity, recipient, id: String::new(), archive: Vec::new(), project, rows: 0 };
        stored.id = stored.back_up("2026-11-19T03:00:00Z").await;
        stored.write_project(&stored.project);
        stored
    }

    fn write_project(&self, project: &Sankofa) {
        let text = format!(
            "version: 1\nsecrets: [environment]\nwarehouse: {{connection: warehouse}}\n\
             stores: {{here: {{directory: {}}}}}\ndrill: {{connection: target}}\n\
             backups: {{databases: {{db: {{connection: source, store: here, encrypt_to: [{}]}}}}}}\n",
            self.place().parent().unwrap().display(),
            self.recipient
        );
        project.write("sankofa.yaml", text);
    }

    /// The folder of the database's backups.
    pub fn place(&self) -> PathBuf {
        self.project.folder().join("backups/db")
    }

    /// The project, with the identity.
    pub fn project(&self) -> &Sankofa {
        &self.project
    }

    /// Rows of the last backup.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Backs it up once more, as if at `time`; returns the id.
    pub async fn back_up(&mut self, time: &str) -> String {
        let archive = dump(&self.source);
        let id = names::id(time.parse().unwrap(), &format!("{:08x}", archive.len()));
        let folder = self.place().join(&id);
        fs::create_dir_all(&folder).unwrap();
        let mut reader = Reader::new();
        reader.feed(&archive).unwrap();
        let read = reader.finish().unwrap();
        self.rows = read.counts().rows;
        let recipients = Recipients::parse(std::slice::from_ref(&self.recipient)).unwrap();
        let mut packer = codec::writer(Codec::Zstd, Vec::new()).unwrap();
        packer.write_all(&archive).unwrap();
        let object = put(&folder, "dump.pgc.zst.age", &recipients, &archive, &packer.finish().unwrap());
        let mut proof = read.proof.clone();
        proof.settings.extend(settings());
        let text = serde_json::to_vec(&proof).unwrap();
        let proof = put(&folder, "proof.age", &recipients, &text, &text);
        let oid = self.source.value("SELECT oid FROM pg_database WHERE datname = current_database()").await;
        let manifest = Manifest {
            schema: SCHEMA,
            kind: Kind::Database,
            environment: "default".into(),
            database: "db".into(),
            id: id.clone(),
            run_id: "test".into(),
            started_at: time.parse().unwrap(),
            finished_at: time.parse().unwrap(),
            sankofa: "0".into(),
            source: Source {
                system_identifier: self
                    .source
                    .value("SELECT system_identifier FROM pg_control_system()")
                    .await,
                database_oid: oid.parse().ok(),
                server_version: read.header.server_version.clone(),
                pg_dump_version: read.header.pg_dump_version.clone(),
                encoding: "UTF8".into(),
                database_bytes: 0,
                standby: false,
            },
            object,
            proof: Some(proof),
            globals: None,
            codec: Codec::Zstd,
            recipients: recipients.texts(),
            settings: settings(),
            counts: read.counts(),
            warnings: BTreeMap::new(),
            left_out: BTreeMap::new(),
            timings_ms: BTreeMap::new(),
        };
        fs::write(folder.join(MANIFEST), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
        self.archive = archive;
        id
    }

    /// The arguments of a restore into database `name` of `server`.
    pub fn command(&self, _server: &Server, name: &str, args: &[&str]) -> Vec<String> {
        let fixed = ["restore", "db", "--into", "target", "--database", name, "--json"];
        fixed.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
    }

    /// The project with the connection to `server`.
    pub fn project_on(&self, server: &Server) -> Sankofa {
        let project = self.project_without_identity(server);
        project.env("AIRFLOW_VAR_AGE_IDENTITY", &self.identity)
    }

    /// The same without the identity.
    pub fn project_without_identity(&self, server: &Server) -> Sankofa {
        let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port());
        let major = self.source.server().number();
        let folder = client_program(major, "pg_restore").parent().unwrap().display().to_string();
        let project = Sankofa::new().connection_uri("target", &uri).env("SANKOFA_PG_BIN", &folder);
        self.write_project(&project);
        project
    }

    /// Starts a restore.
    pub fn start(&self, server: &Server, name: &str, args: &[&str]) -> Running {
        self.project_on(server).spawn(&self.command(server, name, args))
    }

    /// Runs a restore to its end.
    pub async fn restore(&self, server: &Server, name: &str, args: &[&str]) -> Finished {
        self.start(server, name, args).wait().await
    }
}

impl Server {
    /// A database that something else has made; it is dropped like any other.
    pub fn existing(&self, name: &str) -> Database {
        Database::named(self, name)
    }
}

/// Settings that shape the text of rows, as `backup` pins them.
fn settings() -> BTreeMap<String, String> {
    let pinned =
        [("TimeZone", "UTC"), ("bytea_output", "hex"), ("lc_monetary", "C"), ("client_encoding", "UTF8")];
    pinned.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// What pg_dump of the server's own major writes.
pub fn dump(database: &Database) -> Vec<u8> {
    dump_with(database, &["-Fc", "-Z0"])
}

fn dump_with(database: &Database, args: &[&str]) -> Vec<u8> {
    let server = database.server();
    let mut command = Command::new(client_program(server.number(), "pg_dump"));
    command.args(args).args(["-E", "UTF8", "--no-password", database.name()]);
    command
        .env("PGHOST", server.socket_folder())
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", USER);
    command.env("PGTZ", "UTC").env("PGOPTIONS", "-c bytea_output=hex -c lc_monetary=C");
    let done = command.stdout(Stdio::piped()).output().expect("running pg_dump");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// The whole database as SQL, its lines sorted: equal for equal databases, whatever the order of rows.
pub fn definition_and_rows(database: &Database) -> Vec<String> {
    let text = String::from_utf8(dump_with(database, &["-Fp"])).unwrap();
    let is_random = |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
    let mut lines: Vec<String> = text.lines().filter(|line| !is_random(line)).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn put(folder: &Path, name: &str, recipients: &Recipients, plain: &[u8], packed: &[u8]) -> Object {
    let mut sealed = seal(recipients, Vec::new()).unwrap();
    sealed.write_all(packed).unwrap();
    let stored = sealed.finish().unwrap();
    fs::write(folder.join(name), &stored).unwrap();
    let sum = |bytes: &[u8]| {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum.sha256()
    };
    Object {
        name: name.into(),
        plain_bytes: plain.len() as u64,
        plain_sha256: sum(plain),
        stored_bytes: stored.len() as u64,
        stored_sha256: sum(&stored),
    }
}

/// A small disk, unmounted when it is dropped.
pub struct Disk(tempfile::TempDir);

impl Disk {
    /// One in memory; `None`, loudly, where this user may not mount.
    pub fn of_mib(mib: u32) -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder.path());
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Disk(folder));
        }
        eprintln!("\n!!! NOT TESTED: a full disk (this user may not mount a tmpfs)\n");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
