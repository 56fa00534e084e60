//! `sankofa restore`.

use super::Context;
use super::arguments::duration;
use super::open;
use crate::backup::restore::apply::Manner;
use crate::backup::restore::choose::Choice;
use crate::backup::restore::fill::{Hands, Restored, Wish, list, restore};
use crate::backup::restore::guard::{self, Allowed, Entry};
use crate::backup::restore::identity::Places;
use crate::backup::restore::open::Opened;
use crate::backup::restore::select::Wanted;
use crate::backup::restore::target::Target;
use crate::backup::restore::{spool, to_file};
use crate::backup::run::named;
use crate::backup::seal::Identities;
use crate::config::model::Database;
use crate::error::Failure;
use crate::pg::tool::{Program, Tools, folders};
use crate::report::{Report, duration as words, grouped, size};
use crate::secret::{Asked, Resolver};
use crate::table::TableName;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Bring a database back: fetch, verify, decrypt, pg_restore, prove equal
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Database to bring back, by its name in sankofa.yaml
    pub database: String,
    /// Connection of the server to restore into
    #[arg(long, value_name = "CONNECTION", required_unless_present = "to_file")]
    pub into: Option<String>,
    /// Name of the database there: made, or there and empty [default: the connection's own; DATABASE
    /// where that is `postgres`]
    #[arg(long = "database", value_name = "NAME", requires = "into")]
    pub database_there: Option<String>,
    /// The newest good backup begun at or before this time, or on this day (UTC) or before
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "backup")]
    pub at: Option<Timestamp>,
    /// The backup with this id; `sankofa backups list` shows them
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// Only this table, as schema.table, with its indexes, keys, triggers and grants; may be repeated
    #[arg(long = "table", value_name = "TABLE", conflicts_with = "to_file")]
    pub tables: Vec<String>,
    /// Only this schema; may be repeated
    #[arg(long = "schema", value_name = "SCHEMA", conflicts_with = "to_file")]
    pub schemas: Vec<String>,
    /// How.
    #[command(flatten)]
    pub how: How,
    /// Add to a database that has things in it, in one transaction; a table that is there is refused
    #[arg(long)]
    pub not_empty: bool,
    /// Restore into the very database the backup was made of: its name, once more
    #[arg(long, value_name = "NAME")]
    pub over_source: Option<String>,
    /// Do not compare the rows with the proof, and give the database its name unproven
    #[arg(long)]
    pub no_prove: bool,
    /// Write the verified archive to this file, for pg_restore; needs no server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["into", "with_globals"])]
    pub to_file: Option<PathBuf>,
    /// Show what would be done and how long it would take, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments that `restore` and `drill` share.
#[derive(clap::Args, Clone, Debug)]
pub struct How {
    /// Bring back roles and memberships first; a role that is there stays as it is
    #[arg(long)]
    pub with_globals: bool,
    /// Leave out owners and grants; everything belongs to whoever restores
    #[arg(long)]
    pub no_owner: bool,
    /// Leave out tablespaces
    #[arg(long)]
    pub no_tablespaces: bool,
    /// Sessions that restore and compare side by side [default: one a core, at least 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// Directory for the decrypted archive, which has no name there and is gone with this process
    /// [default: $TMPDIR]
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// File with age identities, asked instead of the variables; may be repeated
    #[arg(long = "identity-file", value_name = "FILE")]
    pub identity_files: Vec<PathBuf>,
    /// End with 75 after this time, such as 90s, 45m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
}

impl How {
    /// Where the archive is spooled.
    pub fn spool(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// How `pg_restore` runs.
    pub fn manner(&self) -> Manner {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Manner {
            jobs: self.jobs.map_or(cores.max(2), usize::from),
            in_one_transaction: false,
            without_owners: self.no_owner,
            without_tablespaces: self.no_tablespaces,
            without_subscriptions: false,
        }
    }

    /// Where identities are looked for.
    pub fn places<'a>(&'a self, database: &'a Database, resolver: &'a Resolver) -> Places<'a> {
        Places { resolver, variables: &database.identities, files: &self.identity_files }
    }

    /// What opens the backup.
    ///
    /// # Errors
    /// As [`Places::find`].
    pub async fn identities(
        &self,
        database: &Database,
        opened: &Opened,
        resolver: &Resolver,
    ) -> anyhow::Result<Identities> {
        self.places(database, resolver).find(&opened.backup.manifest.recipients).await
    }
}

/// Runs the command.
///
/// # Errors
/// 65 for a damaged backup and for rows that differ; 75 for a full disk, a store or server that does not
/// answer; 77 without an identity that opens it; 78 for a target that does not fit.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let resolver = context.resolver(&project)?;
    let database = named(&project.backups.databases, &args.database)?;
    let wish = wish(&args)?;
    let needed = open::store(database).into_iter().chain(args.into.as_deref().map(Asked::Connection));
    resolver.fetch_ahead(needed.chain(open::identities(database, &args.how.identity_files))).await;
    let opened = Opened::open(database, &project.environment, &choice(&args), &resolver).await?;
    if let Some(file) = &args.to_file {
        return write_file(&args, file, database, opened, (&resolver, context)).await;
    }
    let connection = resolver.connection(args.into.as_deref().unwrap_or_default()).await?;
    let target = Target::look(&connection, args.database_there.as_deref(), &database.name).await?;
    let source = &opened.backup.manifest.source;
    guard::check_version(&target, source)?;
    let entry = guard::decide(&target, source, &wish.allowed)?;
    spool::has_room(&wish.spool, opened.backup.manifest.object.plain_bytes)?;
    let tools = tools(source.pg_dump_version.as_str(), context).await?;
    let identities = args.how.identities(database, &opened, &resolver).await?;
    if args.dry_run {
        return Ok(foreseen(context.report(), &opened, &target, entry));
    }
    let hands = Hands {
        store: &opened.store,
        backup: &opened.backup,
        identities: &identities,
        tools: &tools,
        stop: &context.stop,
        shown: &context.shown,
    };
    let restored = restore(&wish, &hands, &target).await?;
    refuse_different(&restored, &opened, &wish)?;
    Ok(told(context.report(), &restored, &opened, &wish))
}

/// Programs of the major version that made the dump.
///
/// # Errors
/// 78 naming the package.
pub async fn tools(version: &str, context: &Context) -> anyhow::Result<Tools> {
    let major = guard::major(version);
    Tools::find(major, &[Program::PgRestore], &folders(major, &context.variables)).await
}

fn choice(args: &Args) -> Choice {
    match (&args.backup, args.at) {
        (Some(id), _) => Choice::Id(id.clone()),
        (None, Some(time)) => Choice::At(time),
        (None, None) => Choice::Newest,
    }
}

fn wish(args: &Args) -> Result<Wish, Failure> {
    let table = |name: &String| {
        TableName::parse(name).map_err(|why| Failure::usage(format!("cannot restore a table: {why}")))
    };
    Ok(Wish {
        database: args.database.clone(),
        wanted: Wanted {
            tables: args.tables.iter().map(table).collect::<Result<_, _>>()?,
            schemas: args.schemas.clone(),
        },
        allowed: Allowed { not_empty: args.not_empty, over_source: args.over_source.clone() },
        manner: args.how.manner(),
        with_globals: args.how.with_globals,
        prove: !args.no_prove,
        scratch: false,
        spool: args.how.spool(),
    })
}

async fn write_file(
    args: &Args,
    file: &std::path::Path,
    database: &Database,
    opened: Opened,
    (resolver, context): (&Resolver, &Context),
) -> anyhow::Result<Report> {
    let identities = args.how.identities(database, &opened, resolver).await?;
    let mut report = base(context.report(), &opened);
    report.extra.insert("file".into(), json!(file.display().to_string()));
    if args.dry_run {
        to_file::check(file, opened.backup.manifest.object.plain_bytes)?;
        return Ok(report.for_person(format!("restore: would write {}\n", file.display())));
    }
    let counts = to_file::write(&opened.store, &opened.backup, &identities, file).await?;
    report.rows = counts.rows;
    report.bytes = opened.backup.manifest.object.plain_bytes;
    let text = format!(
        "restore: {} holds backup {} ({}, {} tables, {} rows), verified\n",
        file.display(),
        opened.backup.id,
        size(report.bytes),
        grouped(counts.tables),
        grouped(counts.rows)
    );
    Ok(report.for_person(text))
}

fn refuse_different(restored: &Restored, opened: &Opened, wish: &Wish) -> Result<(), Failure> {
    if restored.different.is_empty() {
        return Ok(());
    }
    let what = format!(
        "cannot prove what was restored of {}: {} differ from backup {}: {}",
        wish.database,
        restored.different.len(),
        opened.backup.id,
        list(&restored.different)
    );
    let hint = format!(
        "The rows are in database {}, which keeps that name or mark; the next restore drops what restores have made.",
        restored.name
    );
    Err(Failure::data(what).hint(hint))
}

fn base(mut report: Report, opened: &Opened) -> Report {
    report.warnings.extend(opened.warnings.iter().cloned());
    let predicted = opened.prediction;
    let entries = [
        ("database", json!(opened.backup.manifest.database)),
        ("backup", json!(opened.backup.id)),
        ("backup_started_at", json!(opened.backup.manifest.started_at.to_string())),
        ("predicted_ms", json!(predicted.phases.total_ms())),
        ("predicted_from", json!(predicted.measured)),
    ];
    report.extra.extend(entries.map(|(name, value)| (name.to_owned(), value)));
    report
}

fn foreseen(report: Report, opened: &Opened, target: &Target, entry: Entry) -> Report {
    let mut report = base(report, opened);
    report.extra.insert("dry_run".into(), json!(true));
    report.extra.insert("target".into(), json!(target.place()));
    let how = match entry {
        Entry::Make => "would be made",
        Entry::Fill => "is there and empty; it would be filled",
        Entry::StartOver => "holds what an earlier restore left; it would be emptied and filled",
        Entry::Add => "is not empty; what is missing would be added in one transaction",
    };
    let text = format!(
        "restore: backup {} of {} ({} in the store, {} to spool)\n  {} {how}\n  about {} ({})\n  roles, extensions and \
         the like are looked at once the backup is fetched\n",
        opened.backup.id,
        opened.backup.manifest.started_at,
        size(opened.backup.manifest.object.stored_bytes),
        size(opened.backup.manifest.object.plain_bytes),
        target.place(),
        words(opened.prediction.phases.total_ms()),
        match opened.prediction.measured {
            0 => "assumed rates; a drill would measure them".to_owned(),
            drills => format!("as {drills} drills measured"),
        },
    );
    report.for_person(text)
}

/// The phases of a restore, for the object and for a person.
pub fn phases(report: &mut Report, restored: &Restored) -> String {
    let measured = &restored.measured;
    let all = [
        ("fetch", measured.fetch_ms),
        ("decrypt", measured.decrypt_ms),
        ("restore", measured.restore_ms),
        ("prove", measured.prove_ms),
    ];
    let object: serde_json::Map<_, _> =
        all.iter().map(|(name, ms)| ((*name).to_owned(), json!(ms))).collect();
    report.extra.insert("phases_ms".into(), object.into());
    all.map(|(name, ms)| format!("{name} {}", words(ms))).join(", ")
}

fn told(report: Report, restored: &Restored, opened: &Opened, wish: &Wish) -> Report {
    let mut report = base(report, opened);
    let phases = phases(&mut report, restored);
    report.rows = restored.rows;
    report.bytes = restored.measured.plain_bytes;
    report.warnings.extend(restored.warnings.iter().cloned());
    report.extra.insert("restored_as".into(), json!(restored.name));
    report.extra.insert("proven".into(), json!(wish.prove));
    report.extra.insert("tables_proven".into(), json!(restored.tables));
    report.extra.insert("not_covered".into(), json!(restored.not_covered.len()));
    let mut text =
        format!("restore: {} is back as {} from backup {}\n", wish.database, restored.name, opened.backup.id);
    match wish.prove {
        true => text.push_str(&format!(
            "  proven equal to what was dumped: {} tables, {} rows\n",
            grouped(restored.tables),
            grouped(restored.rows)
        )),
        false => {
            report.warnings.push("nothing was compared with the proof".into());
            text.push_str("  NOT proven: nothing was compared with the proof\n");
        }
    }
    if let Some(globals) = &restored.globals {
        report.extra.insert("roles_made".into(), json!(globals.made.len()));
        report.extra.insert("roles_kept".into(), json!(globals.kept.len()));
        text.push_str(&format!(
            "  roles made: {}; as they were: {}\n",
            globals.made.len(),
            list(&globals.kept)
        ));
        report.warnings.extend(globals.refused.iter().map(|what| format!("the server refused: {what}")));
    }
    if !restored.not_covered.is_empty() {
        text.push_str(&format!("  computed anew, so not compared: {}\n", list(&restored.not_covered)));
    }
    text.push_str(&format!("  {} in all: {phases}\n", words(restored.measured.total_ms())));
    report.for_person(text)
}

/// Reads a time, or a day: its last second in UTC.
///
/// # Errors
/// A sentence.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let day = text.parse::<Date>().ok().filter(|_| text.len() == "2026-01-31".len());
    let end = day.and_then(|day| day.at(23, 59, 59, 999_999_999).to_zoned(TimeZone::UTC).ok());
    end.map(|end| end.timestamp()).ok_or_else(|| {
        "it is neither a day such as 2026-01-31 nor a time such as 2026-01-31T06:00:00Z".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_end_and_a_time_needs_its_offset() {
        assert_eq!(moment("2026-01-31").unwrap().to_string(), "2026-01-31T23:59:59.999999999Z");
        assert_eq!(moment("2026-01-31T06:00:00+02:00").unwrap().to_string(), "2026-01-31T04:00:00Z");
        for text in ["2026-01-31T06:00:00", "yesterday", "2026-W05-1", ""] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
