//! What B2 has: versions and unfinished files, page by page.
//!
//! In:    a bucket's id, a prefix of names.
//! Out:   rows as B2 tells them, those that nobody here knows left out.
//! Holds: every page is asked for with the prefix, since a key that is bound to one may ask nothing
//!        else; a list that does not move on is an error, not a loop.
//! Not here: what is made of them (`store::b2`).

// Own rows, since those of backblaze-b2-client 0.2.1 fail a whole page for one row of an unknown
// action, of a folder, or of a file under SSE-C (definitions/shared.rs:215, :320).

use super::api::Api;
use super::fault::{Call, Fault, LIST_FILE_VERSIONS, LIST_UNFINISHED};
use crate::store::Version;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// B2 bills a list per 1,000 rows.
const PAGE_ROWS: u32 = 1000;
/// The most that B2 gives of unfinished files.
const UNFINISHED_ROWS: u32 = 100;

/// One row of a list. Fields that are not needed are not read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    action: String,
    #[serde(default)]
    pub file_id: Option<String>,
    pub file_name: String,
    #[serde(default)]
    content_length: Option<u64>,
    #[serde(default)]
    pub content_sha1: Option<String>,
    #[serde(default)]
    upload_timestamp: i64,
    #[serde(default)]
    file_retention: Value,
}

impl Row {
    /// When B2 took it.
    pub fn stored_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.upload_timestamp).unwrap_or_default()
    }

    /// The version that it tells of, `prefix` taken off its name; `None` for what is none.
    pub fn version(&self, prefix: &str) -> Option<Version> {
        let is_marker = match self.action.as_str() {
            "upload" | "copy" => false,
            "hide" => true,
            _ => return None, // "start", "folder", and what B2 may think of
        };
        let until = &self.file_retention["value"]["retainUntilTimestamp"];
        Some(Version {
            name: self.file_name.strip_prefix(prefix)?.to_owned(),
            id: self.file_id.clone()?,
            bytes: if is_marker { 0 } else { self.content_length? },
            stored_at: self.stored_at(),
            is_marker,
            locked_until: until.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    files: Vec<Value>,
    #[serde(default)]
    next_file_name: Option<String>,
    #[serde(default)]
    next_file_id: Option<String>,
}

impl Page {
    fn rows(&self) -> impl Iterator<Item = Row> {
        self.files.iter().filter_map(|row| Row::deserialize(row).ok())
    }
}

async fn page(api: &Api, call: Call, json: &Value) -> Result<Page, Fault> {
    let answer = api.call(call, json).await?;
    serde_json::from_value(answer).map_err(|_| Fault::local(call, None, "", "an answer that is no list"))
}

fn stuck(call: Call) -> Fault {
    Fault::local(call, None, "", "a list that does not move on")
}

/// Every row of `bucket` whose name starts with `prefix`: by name, then newest first.
pub(super) async fn versions(api: &Api, bucket: &str, prefix: &str) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    let mut json = json!({"bucketId": bucket, "prefix": prefix, "maxFileCount": PAGE_ROWS});
    loop {
        let page = page(api, LIST_FILE_VERSIONS, &json).await?;
        rows.extend(page.rows());
        let Some(name) = page.next_file_name else { return Ok(rows) };
        let next = (json!(name), page.next_file_id.map_or(Value::Null, Value::String));
        if (&json["startFileName"], &json["startFileId"]) == (&next.0, &next.1) {
            return Err(stuck(LIST_FILE_VERSIONS));
        }
        json["startFileName"] = next.0;
        if next.1.is_null() {
            json.as_object_mut().map(|fields| fields.remove("startFileId"));
        } else {
            json["startFileId"] = next.1;
        }
    }
}

/// Large files that were started under `prefix` and neither finished nor cancelled.
pub(super) async fn unfinished(api: &Api, bucket: &str, prefix: &str) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    let mut json = json!({"bucketId": bucket, "maxFileCount": UNFINISHED_ROWS});
    if !prefix.is_empty() {
        json["namePrefix"] = json!(prefix);
    }
    loop {
        let page = page(api, LIST_UNFINISHED, &json).await?;
        rows.extend(page.rows());
        let Some(id) = page.next_file_id else { return Ok(rows) };
        if json["startFileId"] == json!(id) {
            return Err(stuck(LIST_UNFINISHED));
        }
        json["startFileId"] = json!(id);
    }
}

/// The first row of file `name` that `is_it` says yes to; asked for again until `patience` is over,
/// since a list may lag behind what was acknowledged.
pub(super) async fn find(
    api: &Api,
    bucket: &str,
    name: &str,
    patience: Duration,
    is_it: impl Fn(&Row) -> bool,
) -> Result<Option<Row>, Fault> {
    let start = Instant::now();
    let mut wait = (patience / 64).max(Duration::from_millis(10));
    loop {
        let rows = versions(api, bucket, name).await?;
        if let Some(found) = rows.into_iter().find(|row| row.file_name == name && is_it(row)) {
            return Ok(Some(found));
        }
        if start.elapsed() + wait > patience {
            return Ok(None);
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: Value) -> Row {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn files_and_markers_are_versions_and_what_is_neither_is_none() {
        let upload =
            row(json!({"action": "upload", "fileId": "4_z1", "fileName": "prod/hr/a", "contentLength": 7,
            "uploadTimestamp": 1_700_000_000_000_i64, "weather": {"isSunny": true},
            "fileRetention": {"isClientAuthorizedToRead": true,
                "value": {"mode": "governance", "retainUntilTimestamp": 1_700_000_001_000_i64}}}));
        let version = upload.version("prod/").unwrap();
        assert_eq!((version.name.as_str(), version.bytes, version.is_marker), ("hr/a", 7, false));
        assert_eq!(version.locked_until.unwrap().as_second(), 1_700_000_001);
        let hide =
            row(json!({"action": "hide", "fileId": "4_z2", "fileName": "prod/hr/a", "contentLength": 0,
            "contentSha1": null, "uploadTimestamp": 1, "fileRetention": null}));
        assert!(hide.version("prod/").unwrap().is_marker);
        assert!(hide.version("other/").is_none());
        for action in ["start", "folder", "dream"] {
            let other =
                row(json!({"action": action, "fileId": null, "fileName": "prod/hr/", "uploadTimestamp": 0}));
            assert!(other.version("prod/").is_none(), "{action}");
        }
    }

    #[test]
    fn a_lock_that_may_not_be_read_is_no_lock_and_no_error() {
        let row = row(json!({"action": "upload", "fileId": "4_z1", "fileName": "a", "contentLength": 7,
            "uploadTimestamp": 1, "fileRetention": {"isClientAuthorizedToRead": false, "value": null}}));
        assert_eq!(row.version("").unwrap().locked_until, None);
    }
}
