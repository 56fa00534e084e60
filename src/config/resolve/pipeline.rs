//! `pipelines/<name>.yaml` -> [`Pipeline`].
//!
//! In:    the tree and the raw file; a way to read the SQL it names.
//! Out:   the pipeline with its hash. Holds: no two of its tables share a target.

use super::{At, table};
use crate::config::model::{Pipeline, Publish, Schedule, SchemaPolicy, TableSpec};
use crate::config::node::{Fault, Node, shown};
use crate::config::raw::Form;
use crate::config::raw::pipeline::{PipelineFile, ScheduleKeys};
use crate::config::sql_text;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Reads an SQL file of the project by its path there; the error says why it cannot.
pub type ReadScript<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Schemas of the warehouse that no pipeline may fill.
const RESERVED: &[&str] = &["sankofa", "information_schema", "pg_catalog", "pg_toast"];

/// Resolves the pipeline called `name`.
///
/// # Errors
/// A [`Fault`] at the first key that is wrong or fits nothing.
pub fn pipeline(
    root: &Node,
    raw: &PipelineFile,
    name: &str,
    read: ReadScript<'_>,
) -> Result<Pipeline, Fault> {
    let at = At::new(root, &[]);
    check_name(at, raw, name)?;
    at.id(&["source"], &raw.source)?;
    check_schema(at, &raw.schema)?;
    check_limits(at, raw)?;
    let policy = raw.on_schema_change.unwrap_or(SchemaPolicy::FullRefresh);
    let mut pipeline = Pipeline {
        name: name.to_owned(),
        source: raw.source.clone(),
        schema: raw.schema.clone(),
        on_schema_change: policy,
        publish: raw.publish.unwrap_or(Publish::Together),
        connections: connections(at, raw)?,
        statement_timeout: raw.statement_timeout.map_or(Duration::from_secs(3600), |length| length.0),
        max_snapshot_age: raw.max_snapshot_age.map(|length| length.0),
        max_row_bytes: raw.max_row_bytes.map_or(256 << 20, |size| size.0),
        encoding: raw.encoding.clone(),
        tables: tables(root, raw, policy)?,
        after: after(at, raw, read)?,
        config_hash: String::new(),
        schedule: schedule(at, raw)?,
    };
    pipeline.config_hash = hash(&pipeline).map_err(|error| Fault::new(error.to_string()))?;
    Ok(pipeline)
}

fn check_name(at: At<'_>, raw: &PipelineFile, name: &str) -> Result<(), Fault> {
    match &raw.name {
        Some(own) if own != name => Err(at
            .fault(&["name"], format!("it is pipeline {}, not {}", shown(own), shown(name)))
            .hint("`name:` must be the name it is asked for by; it may be left out.")),
        _ => Ok(()),
    }
}

fn check_schema(at: At<'_>, schema: &str) -> Result<(), Fault> {
    at.identifier(&["schema"], schema)?;
    if RESERVED.contains(&schema) || schema.starts_with("pg_") {
        return Err(at.fault(&["schema"], format!("schema {} is not for pipelines", shown(schema))));
    }
    Ok(())
}

/// A limit of nothing would mean no limit to PostgreSQL, which counts milliseconds in 31 bits.
fn check_limits(at: At<'_>, raw: &PipelineFile) -> Result<(), Fault> {
    let timeout = raw.statement_timeout.map(|length| length.0);
    if timeout.is_some_and(|t| t.is_zero() || t > Duration::from_millis(i32::MAX as u64)) {
        return Err(at.fault(&["statement_timeout"], "expected a duration above 0s and up to 24d"));
    }
    if raw.max_snapshot_age.is_some_and(|length| length.0.is_zero()) {
        return Err(at.fault(&["max_snapshot_age"], "expected a duration above 0s"));
    }
    if raw.max_row_bytes.is_some_and(|size| size.0 < 1024) {
        return Err(at.fault(&["max_row_bytes"], "expected 1KiB or more"));
    }
    let name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if raw.encoding.as_ref().is_some_and(|encoding| encoding.is_empty() || !encoding.chars().all(name)) {
        return Err(at.fault(&["encoding"], "expected an encoding such as WIN1252"));
    }
    Ok(())
}

fn connections(at: At<'_>, raw: &PipelineFile) -> Result<usize, Fault> {
    match raw.connections {
        None => Ok(2),
        Some(n @ 1..=64) => Ok(n as usize),
        Some(_) => Err(at.fault(&["connections"], "expected a number from 1 to 64")),
    }
}

fn tables(root: &Node, raw: &PipelineFile, policy: SchemaPolicy) -> Result<Vec<TableSpec>, Fault> {
    let defaults = raw.defaults.clone().unwrap_or_default();
    if let Some(key) = &defaults.replication_key {
        At::new(root, &["defaults"]).identifier(&["replication_key"], key)?;
    }
    At::new(root, &["defaults"]).timezone(&["timezone"], defaults.timezone.as_deref())?;
    if raw.tables.0.is_empty() {
        return Err(root.fault(&["tables"], "expected at least one table"));
    }
    let mut found: Vec<TableSpec> = Vec::new();
    for (key, keys) in &raw.tables.0 {
        let path = ["tables", key.as_str()];
        let at = At::new(root, &path);
        let spec = table::table(at, key, keys, &defaults, policy)?;
        if found.iter().any(|other| other.name == spec.name) {
            return Err(at.fault(&[], format!("table {} stands here twice", spec.name)));
        }
        if let Some(other) = found.iter().find(|other| other.target == spec.target) {
            let what =
                format!("tables {} and {} share the target {}", other.name, spec.name, shown(&spec.target));
            return Err(at.fault(&["target"], what).hint("Give one of them a `target:` of its own."));
        }
        found.push(spec);
    }
    Ok(found)
}

fn after(at: At<'_>, raw: &PipelineFile, read: ReadScript<'_>) -> Result<Vec<(String, String)>, Fault> {
    let each = (0..).zip(&raw.after).map(|(index, form): (usize, _)| {
        let index = index.to_string();
        let refuse =
            |file: &str, why: String| at.fault(&["after", &index], format!("{}: {why}", shown(file)));
        let (file, sql) = match form {
            Form::Word(file) => (file, read(file).map_err(|why| refuse(file, why))?),
            Form::Keys(script) => (&script.file, script.sql.clone()),
            Form::List(no) => match *no {},
        };
        sql_text::statements(&sql).map_err(|why| refuse(file, why))?;
        Ok((file.clone(), sql))
    });
    each.collect()
}

fn schedule(at: At<'_>, raw: &PipelineFile) -> Result<Schedule, Fault> {
    let keys = raw.schedule.clone();
    if let Some(ScheduleKeys { cron, timezone, .. }) = &keys {
        let named = ["@hourly", "@daily", "@weekly", "@monthly", "@yearly"].contains(&cron.as_str());
        let sign = |c: char| c.is_ascii_alphanumeric() || "*/,-#?".contains(c);
        let fields =
            cron.split_whitespace().count() == 5 && cron.split_whitespace().all(|f| f.chars().all(sign));
        if !named && !fields {
            let what = "expected five fields such as \"0 3 * * *\", or @daily and the like";
            return Err(at.fault(&["schedule", "cron"], what));
        }
        at.timezone(&["schedule", "timezone"], timezone.as_deref())?;
    }
    let (cpu, memory_bytes) = resources(at, raw)?;
    Ok(Schedule {
        timezone: keys.as_ref().and_then(|k| k.timezone.clone()).unwrap_or_else(|| "UTC".to_owned()),
        catchup: keys.as_ref().and_then(|k| k.catchup).unwrap_or(false),
        cron: keys.map(|k| k.cron),
        retries: raw.retries,
        timeout: raw.timeout.map(|length| length.0),
        retry_delay: raw.retry_delay.map(|length| length.0),
        owner: raw.owner.clone(),
        cpu,
        memory_bytes,
        run_as: raw.run_as.unwrap_or_default(),
        assets: raw.assets.unwrap_or_default(),
    })
}

/// Cores and bytes of memory; less than a container starts with is a slip of the unit.
fn resources(at: At<'_>, raw: &PipelineFile) -> Result<(Option<f64>, Option<usize>), Fault> {
    let (cpu, memory) =
        raw.resources.as_ref().map_or((None, None), |keys| (keys.cpu.map(|cores| cores.0), keys.memory));
    if cpu.is_some_and(|cpu| !(0.05..=256.0).contains(&cpu)) {
        return Err(at.fault(&["resources", "cpu"], "expected cores, from 0.05 to 256"));
    }
    if memory.is_some_and(|size| size.0 < 32 << 20) {
        return Err(at.fault(&["resources", "memory"], "expected 32MiB or more"));
    }
    Ok((cpu, memory.map(|size| size.0)))
}

/// SHA-256 of what decides which rows move and how, hex; the schedule is no part of it.
fn hash(pipeline: &Pipeline) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(pipeline)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("schedule");
        fields.remove("config_hash");
    }
    let digest = Sha256::digest(serde_json::to_string(&value)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
