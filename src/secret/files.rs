//! Connections and variables in files, as Airflow's LocalFilesystemBackend reads them.
//!
//! In:    a file of connections and one of variables: `.yaml`, `.yml`, `.json` or `.env` by their names.
//! Out:   a connection given as URI or as fields; a variable given as text or number.
//! Holds: a file is read whenever it is asked, so that one that was replaced meanwhile counts; nothing of
//!        it is quoted; what was read is overwritten.
//! Not here: what a connection's text means (`grammar`).
//!
//! Source: `airflow/secrets/local_filesystem.py` of 3.3.2. As there, a syntax error or an id that a
//! file has twice is an error whatever was asked for; unlike there, a connection that cannot be read does
//! not hide the others of its file.

mod yaml;

use super::connection::Connection;
use super::place::{Answer, Asked, Place};
use super::wipe::Wiped;
use crate::error::Failure;
use anyhow::Result;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The longest file that is read, bytes.
const MAX_BYTES: u64 = 8 << 20;

/// The files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// File of connections; `None`: it has none.
    pub connections: Option<PathBuf>,
    /// File of variables; `None`: it has none.
    pub variables: Option<PathBuf>,
}

impl Files {
    fn of(&self, asked: Asked<'_>) -> Option<&Path> {
        match asked {
            Asked::Connection(_) => self.connections.as_deref(),
            Asked::Variable(_) => self.variables.as_deref(),
        }
    }

    /// The value under the id that is `asked` for, and whether the file has it.
    async fn value(&self, asked: Asked<'_>, id: &str) -> Result<Option<(Value, String)>> {
        let Some(path) = self.of(asked) else { return Ok(None) };
        let (owned, id) = (path.to_owned(), id.to_owned());
        let is_connection = matches!(asked, Asked::Connection(_));
        let value = tokio::task::spawn_blocking(move || look_up(&owned, &id, is_connection)).await??;
        Ok(value.map(|value| (value, path.display().to_string())))
    }
}

impl Place for Files {
    fn name(&self) -> String {
        let files = [&self.connections, &self.variables];
        let names: Vec<String> = files.into_iter().flatten().map(|path| path.display().to_string()).collect();
        names.join(" and ")
    }

    fn how_to_add(&self, asked: Asked<'_>) -> String {
        match (asked, self.of(asked)) {
            (Asked::Connection(id), Some(file)) => {
                format!("Add {id} to {}, as URI or as fields.", file.display())
            }
            (Asked::Variable(key), Some(file)) => format!("Add {key} to {}.", file.display()),
            (Asked::Connection(_), None) => {
                "Name a file of connections: `files: {connections: FILE}`.".into()
            }
            (Asked::Variable(_), None) => "Name a file of variables: `files: {variables: FILE}`.".into(),
        }
    }

    fn connection<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Connection>>>> {
        Box::pin(async move {
            let Some((value, file)) = self.value(Asked::Connection(id), id).await? else { return Ok(None) };
            let (connection, form) = match value {
                Value::String(text) => (Connection::parse(id, &Zeroizing::new(text))?, "text"),
                Value::Object(fields) => (Connection::of_fields(id, own_fields(id, fields)?)?, "fields"),
                other => return Err(no_value(Asked::Connection(id), &other, "a URI or fields").into()),
            };
            Ok(Some(Answer::standing(connection, format!("{form} in {file}"))))
        })
    }

    fn variable<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Answer<SecretString>>>> {
        Box::pin(async move {
            let Some((value, file)) = self.value(Asked::Variable(key), key).await? else { return Ok(None) };
            let text = match value {
                Value::Null => return Ok(None), // as Airflow: "not here"
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return Err(no_value(Asked::Variable(key), &other, "a text or a number").into()),
            };
            Ok(Some(Answer::standing(SecretString::from(text), format!("value in {file}"))))
        })
    }
}

fn no_value(asked: Asked<'_>, value: &Value, expected: &str) -> Failure {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "keys and values",
    };
    let hint = "Put a text in quotes, so that it stays one.";
    Failure::config(format!("cannot read {asked}: expected {expected}, found {found}")).hint(hint)
}

/// The fields of a connection without what only this kind of file has in them.
fn own_fields(id: &str, mut fields: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let wrong = |what: &str| Failure::config(format!("cannot read connection {id}: {what}"));
    match fields.remove("conn_id") {
        None => {}
        Some(Value::String(named)) if named == id => {}
        Some(_) => return Err(wrong("its conn_id is not the id it stands under")),
    }
    fields.remove("team_name");
    if let Some(extra) = fields.remove("extra_dejson") {
        if fields.contains_key("extra") {
            return Err(wrong("extra and extra_dejson stand beside each other"));
        }
        fields.insert("extra".to_owned(), extra);
    }
    Ok(fields)
}

/// What the file at `path` has under `id`.
fn look_up(path: &Path, id: &str, is_connection: bool) -> Result<Option<Value>, Failure> {
    let text = read(path)?;
    let wrong = |what: &str, line: usize| {
        let what = format!("cannot read {}, line {line}: {what}", path.display());
        Failure::config(what).hint("The file is read as Airflow's LocalFilesystemBackend reads it.")
    };
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let mut all = match ending.as_str() {
        "env" => Wiped(lines(&text).map_err(|(what, line)| wrong(what, line))?),
        "json" => Wiped(serde_json::from_str(&text).map_err(|error| wrong("it is not JSON", error.line()))?),
        _ => Wiped(yaml::parse(&text).map_err(|fault| wrong(fault.what, fault.line))?),
    };
    let Some(entries) = all.entries() else { return Err(wrong("expected an id and its value", 1)) };
    if is_connection || ending == "env" {
        refuse_lists(path, entries)?;
    }
    match entries.remove(id) {
        Some(Value::Array(mut only)) if is_connection || ending == "env" => Ok(only.pop()),
        other => Ok(other),
    }
}

/// Airflow takes a list of one for its item, one of none for "not here", and refuses a longer one.
fn refuse_lists(path: &Path, entries: &Map<String, Value>) -> Result<(), Failure> {
    let many = |(_, value): &(&String, &Value)| value.as_array().is_some_and(|list| list.len() > 1);
    match entries.iter().position(|entry| many(&entry)) {
        None => Ok(()),
        Some(nth) => {
            let what =
                format!("cannot read {}: its id number {} has several values", path.display(), nth + 1);
            Err(Failure::config(what).hint("Leave one of them."))
        }
    }
}

/// `ID=value`, one a line; an id that comes again adds to its list.
fn lines(text: &str) -> Result<Value, (&'static str, usize)> {
    let mut found = Map::new();
    // The ends of lines that Python's `splitlines` knows beside LF, CR and CRLF.
    let ends = ['\n', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let text = Zeroizing::new(text.replace("\r\n", "\n").replace('\r', "\n"));
    for (line, number) in text.split(ends).zip(1..) {
        if line.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (id, value) = line.split_once('=').ok_or(("there is no `=`", number))?;
        if id.is_empty() || value.is_empty() {
            return Err((if id.is_empty() { "the id is empty" } else { "the value is empty" }, number));
        }
        let list = found.entry(id).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(Value::String(value.to_owned()));
        }
    }
    Ok(Value::Object(found))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let cannot = |why: &str| format!("cannot read {}: {why}", path.display());
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    if !["env", "json", "yaml", "yml"].contains(&ending.as_str()) {
        let hint = "Its name must end with .yaml, .yml, .json or .env, which says how it is read.";
        return Err(Failure::config(cannot("its name does not say what it is")).hint(hint));
    }
    let unread = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Failure::config(cannot("there is no such file"))
            .hint("Correct the path under `secrets: [files: ...]`, or mount the secret there."),
        ErrorKind::PermissionDenied => Failure::permission(cannot("this user may not"))
            .hint("Let the user that runs this read it, and nobody else."),
        ErrorKind::InvalidData => Failure::config(cannot("it is not UTF-8")),
        kind => Failure::temporary(cannot(&kind.to_string())),
    };
    let about = std::fs::metadata(path).map_err(unread)?; // follows links, as Kubernetes makes them
    if !about.is_file() {
        return Err(Failure::config(cannot("it is no file")).hint("Name the file in that directory."));
    }
    if about.len() > MAX_BYTES {
        return Err(Failure::config(cannot(&format!("it is longer than {MAX_BYTES} bytes"))));
    }
    let mut text = Zeroizing::new(String::with_capacity(about.len() as usize + 1));
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(unread)?;
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        return Ok(Zeroizing::new(rest.to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
