//! One table of a pipeline, with the pipeline's defaults applied.
//!
//! In:    [`TableKeys`] and [`Defaults`] as written.
//! Out:   a [`TableSpec`] that no other module has to fill in.
//! Holds: what a table says of itself must fit it; what it inherits applies only where it fits.

use super::{At, checks};
use crate::config::model::{
    DeleteMode, Deletes, Lookback, Mask, Mode, NullKeys, SchemaPolicy, Span, TableSpec,
};
use crate::config::node::{Fault, shown};
use crate::config::raw::Form;
use crate::config::raw::pipeline::{Defaults, DeletesKeys, TableKeys};
use crate::config::sql_text;
use crate::config::words::Reach;
use crate::table::TableName;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often an incremental table's keys are compared, unless said otherwise.
const EVERY: Duration = Duration::from_secs(86_400);
/// The brake on deletes, unless said otherwise.
const AT_MOST: f64 = 0.2;

/// Resolves table `key`; `at` is its place.
///
/// # Errors
/// A [`Fault`] at the first key that is wrong or fits nothing.
pub fn table(
    at: At<'_>,
    key: &str,
    keys: &TableKeys,
    defaults: &Defaults,
    policy: SchemaPolicy,
) -> Result<TableSpec, Fault> {
    let name = TableName::parse(key).map_err(|_| {
        at.fault(&[], format!("{} is not schema.table", shown(key)))
            .hint("Names with capitals or other signs stand in double quotes: 'public.\"Course\"'.")
    })?;
    at.identifier(&[], &name.schema)?;
    at.identifier(&[], &name.name)?;
    let target = keys.target.clone().unwrap_or_else(|| name.name.clone());
    at.identifier(&["target"], &target)?;
    at.timezone(&["timezone"], keys.timezone.as_deref())?;
    let mode = mode(keys, defaults);
    let replication_key = replication_key(at, mode, keys, defaults)?;
    let key = key_columns(at, keys)?;
    let mask: BTreeMap<String, Mask> = keys.mask.0.iter().cloned().collect();
    check_masks(at, keys, key.as_deref(), replication_key.as_deref())?;
    columns(at, keys, key.as_deref())?;
    if let Some(filter) = &keys.filter {
        sql_text::condition(filter)
            .map_err(|why| at.fault(&["filter"], format!("the filter is refused: {why}")))?;
    }
    let checks_path: Vec<&str> = at.path.iter().copied().chain(["checks"]).collect();
    let checks_at = At::new(at.root, &checks_path);
    let columns = keys.columns.clone().unwrap_or_default();
    Ok(TableSpec {
        name,
        target,
        mode,
        key,
        lookback: lookback(at, mode, keys, defaults)?,
        replication_key,
        null_keys: keys.null_keys.or(defaults.null_keys).unwrap_or(NullKeys::Load),
        timezone: keys.timezone.clone().or_else(|| defaults.timezone.clone()),
        filter: keys.filter.clone(),
        include: columns.include,
        exclude: columns.exclude,
        mask,
        deletes: deletes(at, mode, keys, defaults)?,
        drop: keys.drop.or(defaults.drop).unwrap_or(false),
        on_schema_change: keys.on_schema_change.unwrap_or(policy),
        checks: keys.checks.as_ref().map_or(Ok(Vec::new()), |raw| checks::checks(checks_at, raw))?,
    })
}

/// Its own mode; else incremental if it names a replication key; else the pipeline's.
fn mode(keys: &TableKeys, defaults: &Defaults) -> Mode {
    match (keys.mode, &keys.replication_key, defaults.mode) {
        (Some(mode), ..) => mode,
        (None, Some(_), None | Some(Mode::FullRefresh)) => Mode::Incremental,
        (None, _, Some(mode)) => mode,
        (None, None, None) if defaults.replication_key.is_some() => Mode::Incremental,
        (None, None, None) => Mode::FullRefresh,
    }
}

fn replication_key(
    at: At<'_>,
    mode: Mode,
    keys: &TableKeys,
    defaults: &Defaults,
) -> Result<Option<String>, Fault> {
    if let Some(own) = &keys.replication_key {
        at.identifier(&["replication_key"], own)?;
    }
    if mode == Mode::FullRefresh {
        return Ok(None);
    }
    let key = keys.replication_key.clone().or_else(|| defaults.replication_key.clone());
    match key {
        Some(key) => Ok(Some(key)),
        None => {
            let word = if mode == Mode::Append { "append" } else { "incremental" };
            Err(at.fault(&["mode"], format!("mode {word} needs a replication_key")).hint(
                "Name a column that grows with every change (`replication_key: updated_at`), or `xmin`, or use `mode: full_refresh`.",
            ))
        }
    }
}

fn lookback(
    at: At<'_>,
    mode: Mode,
    keys: &TableKeys,
    defaults: &Defaults,
) -> Result<Option<Lookback>, Fault> {
    if mode == Mode::FullRefresh {
        return match keys.lookback {
            Some(_) => Err(at
                .fault(&["lookback"], "a table in mode full_refresh has no lookback")
                .hint("It is read whole each time; delete the key.")),
            None => Ok(None),
        };
    }
    let of = |reach: Reach, inherited| reach.0.map(|span: Span| Lookback { span, inherited });
    Ok(match (keys.lookback, defaults.lookback) {
        (Some(own), _) => of(own, false),
        (None, Some(inherited)) => of(inherited, true),
        (None, None) => None,
    })
}

fn key_columns(at: At<'_>, keys: &TableKeys) -> Result<Option<Vec<String>>, Fault> {
    let columns = match &keys.key {
        None => return Ok(None),
        Some(Form::Word(column)) => {
            at.identifier(&["key"], column)?;
            return Ok(Some(vec![column.clone()]));
        }
        Some(Form::List(columns)) => columns,
        Some(Form::Keys(no)) => match *no {},
    };
    at.identifiers(&["key"], columns)?;
    Ok(Some(columns.clone()))
}

/// Rows are found again by their key and read by their replication key: neither may lose its values.
fn check_masks(
    at: At<'_>,
    keys: &TableKeys,
    key: Option<&[String]>,
    replication_key: Option<&str>,
) -> Result<(), Fault> {
    for (column, mask) in &keys.mask.0 {
        at.identifier(&["mask", column], column)?;
        if *mask == Mask::Hmac {
            continue;
        }
        let what = if key.is_some_and(|key| key.contains(column)) {
            "a key column"
        } else if replication_key == Some(column) {
            "the replication key"
        } else {
            continue;
        };
        return Err(at
            .fault(
                &["mask", column],
                format!("column {} is {what} and cannot lose its values", shown(column)),
            )
            .hint("Use `hmac`, or another key."));
    }
    Ok(())
}

fn columns(at: At<'_>, keys: &TableKeys, key: Option<&[String]>) -> Result<(), Fault> {
    let Some(columns) = &keys.columns else { return Ok(()) };
    if let Some(include) = &columns.include {
        at.identifiers(&["columns", "include"], include)?;
    }
    if !columns.exclude.is_empty() {
        at.identifiers(&["columns", "exclude"], &columns.exclude)?;
    }
    for column in key.unwrap_or_default() {
        if let Some(index) = columns.exclude.iter().position(|name| name == column) {
            let what = format!("column {} is a key column and cannot be left out", shown(column));
            return Err(at.fault(&["columns", "exclude", &index.to_string()], what));
        }
        if columns.include.as_ref().is_some_and(|include| !include.contains(column)) {
            let what = format!("key column {} is not among them", shown(column));
            return Err(at.fault(&["columns", "include"], what));
        }
    }
    Ok(())
}

/// Its own words over the pipeline's over what fits the mode. The pipeline's do not apply to `append`,
/// whose rows are only ever added, nor `every` to `full_refresh`, which sees all keys each time.
fn deletes(at: At<'_>, mode: Mode, keys: &TableKeys, defaults: &Defaults) -> Result<Deletes, Fault> {
    let own = keys.deletes.clone().unwrap_or_default();
    let inherited = match mode {
        Mode::Append => DeletesKeys::default(),
        _ => defaults.deletes.clone().unwrap_or_default(),
    };
    if mode == Mode::FullRefresh && own.every.is_some() {
        return Err(at
            .fault(&["deletes", "every"], "a table in mode full_refresh has no `every`")
            .hint("Its deletes are seen each time; delete the key."));
    }
    let usual = match mode {
        Mode::Incremental => DeleteMode::Soft,
        Mode::Append => DeleteMode::Ignore,
        Mode::FullRefresh => DeleteMode::Hard,
    };
    let every = own.every.or(inherited.every).map_or(EVERY, |length| length.0);
    Ok(Deletes {
        mode: own.mode.or(inherited.mode).unwrap_or(usual),
        every: if mode == Mode::FullRefresh { Duration::ZERO } else { every },
        at_most: own.at_most.or(inherited.at_most).map_or(AT_MOST, |share| share.0),
    })
}
