//! One backup, from the lock on the source to the manifest in the store.
//!
//! In:    a database of the configuration, the run's id.
//! Out:   a folder in the store with dump, proof and manifest, and one with the server's globals.
//! Holds: the manifest is the last thing written, after every part has told that it is whole; whatever
//!        fails before leaves no manifest.
//! Not here: each step (`source`, `dump`, `keep`, `stream`), what is told of it (`outcome`).

use crate::backup::archive::Read as Archive;
use crate::backup::keep::{Folder, Job, Kept};
use crate::backup::manifest::{self, Counts, Kind, MANIFEST, Manifest, PROOF};
use crate::backup::proof::Proof;
use crate::backup::seal::Recipients;
use crate::backup::source::{self, Opening, Source};
use crate::backup::stream::Way;
use crate::backup::{codec, dump, earlier, names, outcome, stores};
use crate::config::model::Database;
use crate::error::Failure;
use crate::pg::tool::{Tools, folders};
use crate::progress::{Progress, Shown};
use crate::report::Report;
use crate::secret::Resolver;
use crate::stop::StopSignal;
use crate::store::{Store, Terms};
use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What is asked of one backup.
pub struct Request<'a> {
    /// The database.
    pub database: &'a Database,
    /// Name of the environment.
    pub environment: &'a str,
    /// Id of the run.
    pub run_id: &'a str,
    /// Another holder of the lock is ended.
    pub take_over: bool,
    /// Roles and grants of the server are not kept.
    pub skip_globals: bool,
    /// The password verifiers of roles are kept too.
    pub role_passwords: bool,
    /// Nothing is written.
    pub dry_run: bool,
}

/// What a backup needs of its process.
pub struct Hands<'a> {
    /// Where secrets are asked for.
    pub resolver: &'a Resolver,
    /// The wish to stop.
    pub stop: &'a StopSignal,
    /// Where progress is shown.
    pub shown: &'a Shown,
    /// Variables of the process, which say where PostgreSQL's programs are.
    pub variables: &'a BTreeMap<String, String>,
}

/// Everything a backup goes through.
struct Backup<'a> {
    request: &'a Request<'a>,
    hands: &'a Hands<'a>,
    store: Arc<dyn Store>,
    recipients: Recipients,
    source: Source,
    tools: Tools,
    started_at: Timestamp,
    /// The second that its folders are named by: the first from the start on that is free.
    named_at: Timestamp,
    warnings: Vec<String>,
}

/// Uploads of ours that are older were abandoned.
const ABANDONED: SignedDuration = SignedDuration::from_hours(24);

/// Takes one backup of a database.
///
/// # Errors
/// 75 when server or store cannot be reached, or another backup of it is running; 77 for a right that
/// is missing; 78 for a missing program, a pooler or another environment's store; 65 for damaged data.
pub async fn back_up(request: &Request<'_>, hands: &Hands<'_>, report: Report) -> Result<Report> {
    let database = request.database;
    let recipients = Recipients::parse(&database.encrypt_to)?;
    let store = stores::open(&database.place, None, hands.resolver).await?;
    let home = names::home(Kind::Database, &database.name);
    if let Some(done) = earlier::look(&*store, &home, request.environment, request.run_id).await? {
        return Ok(outcome::already_done(report, &done, &*store));
    }
    let backup = open(request, hands, store, recipients).await?;
    // Between the first look and the lock the same run may have ended elsewhere.
    if let Some(done) = earlier::look(&*backup.store, &home, request.environment, request.run_id).await? {
        return Ok(outcome::already_done(report, &done, &*backup.store));
    }
    if request.dry_run {
        return Ok(outcome::would_do(report, request, &backup.source, &backup.tools, &*backup.store));
    }
    backup.run(report, &home).await
}

/// Opens the source, and finds the programs of its version.
async fn open<'a>(
    request: &'a Request<'a>,
    hands: &'a Hands<'a>,
    store: Arc<dyn Store>,
    recipients: Recipients,
) -> Result<Backup<'a>> {
    let database = request.database;
    let connection = hands.resolver.connection(&database.connection).await?;
    let application_name =
        format!("sankofa/{} backup {} {}", env!("CARGO_PKG_VERSION"), database.name, request.run_id);
    let opening = Opening {
        database: &database.name,
        environment: request.environment,
        application_name: &application_name,
        take_over: request.take_over,
        look_only: request.dry_run,
    };
    let mut source = source::open(&connection, &opening).await?;
    let tools =
        Tools::find(source.major(), dump::PROGRAMS, &folders(source.major(), hands.variables)).await?;
    source.facts.pg_dump_version.clone_from(&tools.version);
    let warnings = std::mem::take(&mut source.warnings);
    let started_at = now();
    let homes = [Kind::Database, Kind::Globals].map(|kind| folder_of(request, kind));
    let named_at = earlier::free_second(&*store, &homes, started_at).await?;
    Ok(Backup { request, hands, store, recipients, source, tools, started_at, named_at, warnings })
}

/// The folder of the database or of its server, and the mark of the run in it.
fn folder_of(request: &Request<'_>, kind: Kind) -> (String, String) {
    let (database, run_id) = (request.database, request.run_id);
    match kind {
        Kind::Database => (names::home(kind, &database.name), earlier::unique(run_id)),
        // Two databases of one server may be backed up in the same second of the same run.
        Kind::Globals => {
            let unique = earlier::unique(&format!("{run_id} {}", database.name));
            (names::home(kind, &database.connection), unique)
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whole milliseconds, which every reader of a manifest can parse.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now)
}

impl Backup<'_> {
    async fn run(self, report: Report, home: &str) -> Result<Report> {
        self.sweep(home).await;
        let mut globals = self.folder(Kind::Globals);
        let mut folder = self.folder(Kind::Database);
        let name = folder.name().to_owned();
        let (of_server, manifest, proof) = match self.keep(&mut globals, &mut folder).await {
            Ok(kept) => kept,
            Err(error) => {
                globals.withdraw().await;
                folder.withdraw().await;
                return Err(error);
            }
        };
        if let Some(of_server) = of_server {
            globals.complete(MANIFEST, text_of(&of_server)?).await?;
        }
        folder.complete(MANIFEST, text_of(&manifest)?).await?; // from here on it is a backup
        info!(backup = name, rows = manifest.counts.rows, bytes = manifest.object.stored_bytes, "stored");
        self.source.close().await;
        Ok(outcome::done(report, &manifest, &proof, &self.warnings, &*self.store))
    }

    /// Keeps everything but the manifests, which are handed back: of the server, of the database.
    async fn keep(
        &self,
        globals: &mut Folder,
        folder: &mut Folder,
    ) -> Result<(Option<Manifest>, Manifest, Proof)> {
        let of_server = match self.request.skip_globals {
            true => None,
            false => Some(self.keep_globals(globals).await?),
        };
        let (manifest, proof) = self.keep_database(folder).await?;
        self.source.still_held().await?; // a run that has taken over must not find a second backup
        let at = of_server.as_ref().map(|_| globals.name().trim_end_matches('/').to_owned());
        Ok((of_server, Manifest { globals: at, ..manifest }, proof))
    }

    /// Withdraws what earlier runs have left unfinished; a key that may not is no failure.
    async fn sweep(&self, home: &str) {
        let before = self.started_at.checked_sub(ABANDONED).unwrap_or(Timestamp::UNIX_EPOCH);
        match self.store.sweep(home, before).await {
            Ok(0) => {}
            Ok(count) => warn!(count, "withdrew uploads that an earlier run has left unfinished"),
            Err(error) => warn!("cannot look for uploads that were left unfinished: {error:#}"),
        }
    }

    /// A new folder of this run, for the database or its server.
    fn folder(&self, kind: Kind) -> Folder {
        let (home, unique) = folder_of(self.request, kind);
        let name = format!("{home}{}/", names::id(self.named_at, &unique));
        Folder::new(self.store.clone(), self.hands.stop, self.terms(), name)
    }

    /// Until when the store protects what is uploaded now.
    fn terms(&self) -> Terms {
        Terms::locked(self.request.database.lock.map(|lock| (lock.days, lock.mode)))
    }

    /// Bytes that are sealed and nothing else.
    fn sealed(&self) -> Way {
        Way { codec: None, recipients: self.recipients.clone(), is_archive: false, progress: None }
    }

    /// Keeps roles, memberships, tablespaces and settings of the server.
    async fn keep_globals(&self, folder: &mut Folder) -> Result<Manifest> {
        let server = &self.request.database.connection;
        let job = Job {
            source: &self.source,
            cannot: format!("cannot dump the globals of {server}"),
            way: self.sealed(),
            start: || dump::globals(&self.tools, &self.source, self.request.role_passwords),
        };
        let kept = folder.keep("globals.sql.age", job).await?;
        let mut manifest = self.manifest(Kind::Globals, &kept, folder.name());
        manifest.database.clone_from(server);
        manifest.source.database_oid = None;
        Ok(manifest)
    }

    /// Keeps dump and proof of the database.
    async fn keep_database(&self, folder: &mut Folder) -> Result<(Manifest, Proof)> {
        let database = self.request.database;
        let progress = Progress::start(format!("backing up {}", database.name), self.hands.shown);
        let counted = progress.stream(&database.name, self.source.facts.database_bytes);
        let way = Way {
            codec: Some(database.codec),
            is_archive: true,
            progress: Some(counted.clone()),
            ..self.sealed()
        };
        let job = Job {
            source: &self.source,
            cannot: format!("cannot dump {}", database.name),
            way,
            start: || dump::database(&self.tools, &self.source),
        };
        let object = format!("dump.pgc.{}.age", codec::extension(database.codec));
        let mut kept = folder.keep(&object, job).await?;
        counted.done();
        let archive = kept.passed.archive.take().context("the archive was not read")??;
        let mut manifest = self.manifest(Kind::Database, &kept, folder.name());
        manifest.counts = archive.counts();
        let proof = self.proof(archive);
        let text = serde_json::to_vec(&proof).context("cannot write the proof")?;
        let begun = Instant::now();
        manifest.proof = Some(folder.keep_text(PROOF, self.sealed(), text).await?);
        manifest.timings_ms.insert("proof".into(), ms(begun.elapsed()));
        for left_out in &proof.left_out {
            *manifest.left_out.entry(left_out.class.clone()).or_default() += 1;
        }
        manifest.finished_at = now();
        Ok((manifest, proof))
    }

    fn proof(&self, archive: Archive) -> Proof {
        Proof { settings: dump::settings(&self.source), ..archive.proof }
    }

    fn manifest(&self, kind: Kind, kept: &Kept, folder: &str) -> Manifest {
        let timings = [("dump", ms(kept.dumped)), ("finish", ms(kept.finished))];
        Manifest {
            schema: manifest::SCHEMA,
            kind,
            environment: self.request.environment.to_owned(),
            database: self.request.database.name.clone(),
            id: folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
            run_id: self.request.run_id.to_owned(),
            started_at: self.started_at,
            finished_at: now(),
            sankofa: env!("CARGO_PKG_VERSION").to_owned(),
            source: self.source.facts.clone(),
            object: kept.object.clone(),
            proof: None,
            globals: None,
            codec: self.request.database.codec,
            recipients: self.recipients.texts(),
            settings: dump::settings(&self.source),
            counts: Counts::default(),
            warnings: kept.ended.said.warnings.clone(),
            left_out: BTreeMap::new(),
            timings_ms: timings.map(|(phase, ms)| (phase.to_owned(), ms)).into(),
        }
    }
}

fn text_of(manifest: &Manifest) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(manifest).context("cannot write the manifest")
}

/// The database called `name` in the configuration.
///
/// # Errors
/// 78 naming the nearest.
pub fn named<'a>(databases: &'a [Database], name: &str) -> Result<&'a Database, Failure> {
    databases.iter().find(|database| database.name == name).ok_or_else(|| {
        let known = databases.iter().map(|database| database.name.as_str());
        let hint = match databases.is_empty() {
            true => "The project backs up none yet: write it there (docs/operations.md, Backups).".to_owned(),
            false => crate::error::nearest_hint(name, known),
        };
        Failure::config(format!("cannot find database {name} under `backups: databases:`")).hint(hint)
    })
}
