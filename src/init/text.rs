//! The project files as text, with the reasons beside every choice.
//!
//! In:    what was seen of the source, names of connections. Out: YAML. Holds: pure; any name the
//!        catalog can hold is written so that `config` reads it back.
//! Not here: where the files go (`place`).

use crate::config::model::{Mask, Mode};
use crate::config::{FileKind, editor_header};
use crate::init::look::{Seen, SeenTable};
use crate::init::personal::looks_personal;
use crate::init::propose::{Choice, Load, choose};
use crate::report::{duration, grouped, plain, size};
use crate::table::quote_if_needed;
use std::collections::BTreeSet;

/// Bytes a second that a first load is expected to move: a quarter of what was measured on a small
/// server, so that the estimate errs on the safe side.
const BYTES_PER_SECOND: u64 = 20 << 20;
const IDENTIFIER_BYTES: usize = 63;

/// What the files are called after.
#[derive(Clone, Debug)]
pub struct Names {
    /// Connection id of the source.
    pub source: String,
    /// Connection id of the warehouse.
    pub warehouse: String,
    /// Name of the pipeline and of its schema.
    pub pipeline: String,
}

/// Path of the JSON Schema of `which`, relative to the project.
pub fn schema_path(which: FileKind) -> &'static str {
    match which {
        FileKind::Sankofa => "schemas/sankofa.json",
        FileKind::Pipeline => "schemas/pipeline.json",
    }
}

/// `sankofa.yaml`.
pub fn project(names: &Names) -> String {
    format!(
        "{}
# The operator's half of the project: where things are. It holds no secret; connections are names.
version: 1

secrets: [environment]        # AIRFLOW_CONN_<ID> and AIRFLOW_VAR_<KEY>, as in Airflow

warehouse:
  connection: {}
  # reader_role: metabase     # may read what is loaded; made by you, not by sankofa
  # after_role: marts         # under which `after:` SQL of pipelines runs

# Only for extract, validate and load as separate steps; `sync` needs no stage.
# stores: {{stage: {{directory: ./stage}}}}
# stage: {{store: stage}}

# What no pipeline can loosen: database.schema.table[.column]
# guard:
#   never: [\"*.*.*.password_hash\"]
#   mask: {{\"*.*.*.national_id\": hmac}}
",
        editor_header(schema_path(FileKind::Sankofa)),
        value(&names.warehouse)
    )
}

/// `pipelines/<name>.yaml`.
pub fn pipeline(seen: &Seen, names: &Names) -> String {
    let mut text = head(seen, names);
    let mut targets = BTreeSet::new();
    let mut left = String::new();
    for table in &seen.tables {
        match choose(table) {
            Choice::Load(load) => text += &entry(seen, table, &load, &mut targets),
            Choice::Leave(why) => left += &left_out(table, &why),
        }
    }
    if !left.is_empty() {
        text += "\n  # Left out; uncomment what is wanted.\n";
        text += &left;
    }
    text
}

/// Whether at least one table is proposed to be loaded.
pub fn loads_any(seen: &Seen) -> bool {
    seen.tables.iter().any(|table| matches!(choose(table), Choice::Load(_)))
}

/// Tables by mode, and bytes of what would be loaded: (incremental, whole, left out, bytes).
pub fn count(seen: &Seen) -> (usize, usize, usize, u64) {
    let mut counted = (0, 0, 0, 0);
    for table in &seen.tables {
        match choose(table) {
            Choice::Load(load) if load.mode == Mode::FullRefresh => counted.1 += 1,
            Choice::Load(_) => counted.0 += 1,
            Choice::Leave(_) => {
                counted.2 += 1;
                continue;
            }
        }
        counted.3 += table.table.bytes;
    }
    counted
}

/// How long a first load of `bytes` in `tables` tables may take, in words.
pub fn first_load(tables: usize, bytes: u64) -> String {
    duration((bytes * 1000 / BYTES_PER_SECOND + tables as u64 * 20).max(1000).next_multiple_of(1000))
}

fn head(seen: &Seen, names: &Names) -> String {
    let (incremental, whole, left, bytes) = count(seen);
    let mut text = format!(
        "{}
# Proposed by `sankofa init` from database {} (PostgreSQL {}). Read it, change it, keep it.
# {} tables: {incremental} incremental, {whole} read whole, {left} left out. {} to load.
# A first load takes about {} (at {} MiB/s, a cautious guess); see `sankofa plan {}`.
",
        editor_header(&format!("../{}", schema_path(FileKind::Pipeline))),
        plain(&seen.database),
        seen.major,
        seen.tables.len(),
        size(bytes),
        first_load(incremental + whole, bytes),
        BYTES_PER_SECOND >> 20,
        names.pipeline,
    );
    if !seen.sees_transactions && incremental > 0 {
        text += "# First, at the source: GRANT pg_read_all_stats TO the connection's role. Without it open\n";
        text += "# transactions cannot be seen, and runs end with 77 rather than miss rows.\n";
    }
    text += &format!(
        "source: {}
schema: {}                    # in the warehouse
# schedule: {{cron: \"0 3 * * *\", timezone: UTC}}
defaults:
  lookback: 10m               # read again behind the watermark, for clocks that differ
  deletes: {{mode: soft, every: 1d}}   # rows gone from the source are marked, once a day
on_schema_change: full_refresh
tables:
",
        value(&names.source),
        value(&names.pipeline)
    );
    text
}

fn entry(seen: &Seen, table: &SeenTable, load: &Load, targets: &mut BTreeSet<String>) -> String {
    let mut lines = vec![format!("# {}. Key: {}.", extent(table), plain(&load.key_reason))];
    lines.push(format!("# {}.", plain(&load.mode_reason)));
    lines.extend(load.advice.iter().map(|advice| format!("# Note: {}.", plain(advice))));
    let target = target(table, targets);
    if target != table.table.name.name {
        lines.push(format!("target: {}   # the name alone is taken", value(&target)));
    }
    lines.push(format!(
        "mode: {}",
        if load.mode == Mode::FullRefresh { "full_refresh" } else { "incremental" }
    ));
    if let Some(key) = &load.key {
        let key: Vec<String> = key.iter().map(|name| value(name)).collect();
        lines.push(format!("key: [{}]", key.join(", ")));
    }
    if let Some(key) = &load.replication_key {
        lines.push(format!("replication_key: {}", value(key)));
    }
    if load.zoneless {
        lines.push(format!(
            "# timezone: {}   # it has no zone: which clock does the application write?",
            plain(&seen.timezone)
        ));
    }
    if load.key.is_none() && table.table.primary_key.is_empty() {
        // Without a key a changed row is a deleted and a new one; marked ones would pile up.
        lines.push("deletes: {mode: hard}".to_owned());
    }
    lines.extend(masks(table, load));
    format!("\n  {}:\n    {}\n", table_key(table), lines.join("\n    "))
}

/// The name in the warehouse: the table's own, or with its schema where that is taken.
fn target(table: &SeenTable, taken: &mut BTreeSet<String>) -> String {
    let name = &table.table.name;
    let mut candidate = name.name.clone();
    let mut number = 1;
    while !taken.insert(candidate.clone()) {
        let end = if number == 1 { String::new() } else { format!("_{number}") };
        candidate = format!("{}_{}", name.schema, name.name);
        let mut length = candidate.len().min(IDENTIFIER_BYTES - end.len());
        while !candidate.is_char_boundary(length) {
            length -= 1;
        }
        candidate.truncate(length);
        candidate += &end;
        number += 1;
    }
    candidate
}

fn masks(table: &SeenTable, load: &Load) -> Vec<String> {
    let key = load.key.as_ref().unwrap_or(&table.table.primary_key);
    let looks = |name: &str| {
        let (kind, mask) = looks_personal(name)?;
        // Any other mask would make all keys equal.
        Some((kind, if key.iter().any(|part| part == name) { Mask::Hmac } else { mask }))
    };
    let found: Vec<String> = table
        .table
        .columns
        .iter()
        .filter_map(|column| {
            let (kind, mask) = looks(&column.name)?;
            let word = if mask == Mask::Hmac { "hmac" } else { "nullify" };
            Some(format!("#   {}: {word}   # {kind}", scalar(&column.name)))
        })
        .collect();
    if found.is_empty() {
        return found;
    }
    let hmac = found.iter().any(|line| line.contains(": hmac "));
    let needs = if hmac { "; hmac needs AIRFLOW_VAR_HMAC_KEY" } else { "" };
    let mut lines =
        vec![format!("# Looks personal; uncomment what readers must not see{needs}:"), "# mask:".to_owned()];
    lines.extend(found);
    lines
}

fn left_out(table: &SeenTable, why: &str) -> String {
    format!("  # {}: {{mode: full_refresh}}   # {}\n", plain(&table_key(table)), plain(why))
}

fn extent(table: &SeenTable) -> String {
    let rows = table.table.estimated_rows;
    let rows = match rows as u64 {
        _ if rows < 0.0 || (rows == 0.0 && table.table.bytes > 16 << 10) => "Rows not counted yet".to_owned(),
        1 => "About 1 row".to_owned(),
        rows => format!("About {} rows", grouped(rows)),
    };
    let parts =
        if table.table.kind == crate::table::RelationKind::Partitioned { ", partitioned" } else { "" };
    format!("{rows}, {}{parts}", size(table.table.bytes))
}

fn table_key(table: &SeenTable) -> String {
    let name = &table.table.name;
    scalar(&format!("{}.{}", quote_if_needed(&name.schema), quote_if_needed(&name.name)))
}

/// As [`scalar`], where `${` would ask for a variable.
fn value(text: &str) -> String {
    scalar(&text.replace("${", "$${"))
}

/// `text` as a YAML scalar that is read back as it is.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let bare = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c));
    if bare && !WORDS.contains(&text) {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        return serde_json::Value::from(text).to_string(); // JSON's strings are YAML's
    }
    format!("'{}'", text.replace('\'', "''"))
}
