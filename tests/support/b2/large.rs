//! Large files: begun, listed, finished, cancelled. Their parts come in by `uploads`.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::answer::{Outcome, Refusal};
use super::api::parse;
use super::keys::{ACCOUNT, Rights};
use super::lists::page;
use super::locks::{self, RetentionField};
use super::names;
use super::state::{State, Version};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileId {
    file_id: String,
}

impl State {
    /// `b2_start_large_file`.
    pub fn start_large(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            bucket_id: String,
            file_name: String,
            content_type: String,
            file_info: Option<Map<String, Value>>,
            file_retention: Option<RetentionField>,
            legal_hold: Option<String>,
            server_side_encryption: Option<Value>,
            custom_upload_timestamp: Option<u64>,
        }
        rights.need("writeFiles")?;
        let asked: Asked = parse(json)?;
        let bucket = self.bucket_with_id(&asked.bucket_id)?.clone();
        rights.need_bucket(&bucket.id)?;
        names::check_file_name(&asked.file_name)?;
        rights.need_name(&asked.file_name)?;
        let info =
            names::check_info(&asked.file_name, &asked.file_info.unwrap_or_default(), bucket.has_lock)?;
        check_encryption(asked.server_side_encryption.as_ref())?;
        let now = self.now_ms();
        if asked.custom_upload_timestamp.is_some_and(|stamp| stamp > now) {
            return Err(Refusal::bad_request("customUploadTimestamp is in the future"));
        }
        let locking = (asked.file_retention, asked.legal_hold.as_deref());
        let (retention, has_legal_hold) = locks::at_upload(&bucket, rights, locking, now)?;
        let id = self.file_id(&bucket.id, true);
        let version = Version {
            bucket_id: bucket.id,
            name: asked.file_name,
            id: id.clone(),
            action: "start",
            sha1: Some("none".to_owned()),
            content_type: content_type(asked.content_type)?,
            info,
            uploaded_ms: asked.custom_upload_timestamp.unwrap_or(now),
            retention,
            has_legal_hold,
            pieces: Vec::new(),
            lag: 0,
            order: self.count(),
            parts: BTreeMap::new(),
        };
        let row = self.row(&version, rights);
        self.add(version);
        Ok(row)
    }

    /// An unfinished file that the key may write.
    pub fn unfinished(&self, rights: &Rights, id: &str) -> Outcome<&Version> {
        let found = self.version(id).filter(|version| version.action == "start");
        let version = found.ok_or_else(|| Refusal::bad_request(format!("No active upload for: {id}")))?;
        rights.need_bucket(&version.bucket_id)?;
        rights.need_name(&version.name)?;
        Ok(version)
    }

    /// `b2_finish_large_file`: count, order, sizes and hashes of the parts must be right.
    pub fn finish_large(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            file_id: String,
            part_sha1_array: Vec<String>,
        }
        rights.need("writeFiles")?;
        let asked: Asked = parse(json)?;
        let version = self.unfinished(rights, &asked.file_id)?;
        let count = asked.part_sha1_array.len();
        // Sources disagree about one part; a client of ours makes a small file then.
        if count < 2 {
            return Err(Refusal::bad_request("Large files must have at least 2 parts"));
        }
        if version.parts.len() > count {
            return Err(Refusal::bad_request("partSha1Array is shorter than the list of parts"));
        }
        for (sha1, number) in asked.part_sha1_array.iter().zip(1_u16..) {
            let missing =
                || Refusal::new(400, "missing_part", format!("Part number {number} has not been uploaded"));
            let part = version.parts.get(&number).ok_or_else(missing)?;
            if part.sha1 != *sha1 {
                return Err(Refusal::new(
                    400,
                    "part_sha1_mismatch",
                    format!("SHA-1 of part {number} differs"),
                ));
            }
        }
        let smallest = version.parts.values().take(count - 1).map(|part| part.piece.length()).min();
        if smallest.is_some_and(|bytes| bytes < self.switches.min_part_bytes) {
            return Err(Refusal::bad_request(format!(
                "A part of {smallest:?} bytes is smaller than the minimum"
            )));
        }
        let (lag, id) = (self.switches.list_lag, version.id.clone());
        let version = self.version_mut(&id).expect("it was there");
        let parts = std::mem::take(&mut version.parts);
        version.pieces = parts.into_values().map(|part| part.piece).collect();
        (version.action, version.lag) = ("upload", lag);
        self.urls.retain(|_, url| url.target != id);
        Ok(self.row(self.version(&id).expect("it was there"), rights))
    }

    /// `b2_cancel_large_file`.
    pub fn cancel_large(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        rights.need("writeFiles")?;
        let asked: FileId = parse(json)?;
        let version = self.unfinished(rights, &asked.file_id)?.clone();
        self.versions.retain(|other| other.id != version.id);
        self.urls.retain(|_, url| url.target != version.id);
        Ok(json!({
            "accountId": ACCOUNT, "bucketId": version.bucket_id, "fileId": version.id, "fileName": version.name,
        }))
    }

    /// `b2_list_parts`.
    pub fn list_parts(&self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            file_id: String,
            start_part_number: Option<u16>,
            max_part_count: Option<u64>,
        }
        rights.need("writeFiles")?;
        let asked: Asked = parse(json)?;
        let version = self.unfinished(rights, &asked.file_id)?;
        let most = page(asked.max_part_count, 100, 1000, self.switches.page_rows)?;
        let mut rest = version.parts.range(asked.start_part_number.unwrap_or(1)..);
        let rows = rest.by_ref().take(most).map(|(number, part)| {
            json!({
                "contentLength": part.piece.length(), "contentMd5": null, "contentSha1": part.sha1,
                "fileId": version.id, "partNumber": number, "uploadTimestamp": part.uploaded_ms,
                "serverSideEncryption": {"algorithm": null, "mode": null},
            })
        });
        let rows: Vec<Value> = rows.collect();
        Ok(json!({"nextPartNumber": rest.next().map(|(number, _)| number), "parts": rows}))
    }

    /// `b2_list_unfinished_large_files`.
    pub fn list_unfinished(&self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            bucket_id: String,
            name_prefix: Option<String>,
            start_file_id: Option<String>,
            max_file_count: Option<u64>,
        }
        rights.need("listFiles")?;
        let asked: Asked = parse(json)?;
        self.bucket_with_id(&asked.bucket_id)?;
        rights.need_bucket(&asked.bucket_id)?;
        let prefix = asked.name_prefix.unwrap_or_default();
        rights.need_name(&prefix)?;
        let most = page(asked.max_file_count, 100, 100, self.switches.page_rows)?;
        let is_ours = |version: &&Version| {
            version.action == "start"
                && version.bucket_id == asked.bucket_id
                && version.name.starts_with(&prefix)
        };
        let mut found: Vec<&Version> = self.versions.iter().filter(is_ours).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let start = asked.start_file_id.unwrap_or_default();
        let mut rest = found.into_iter().filter(|version| version.id >= start);
        let rows: Vec<Value> = rest.by_ref().take(most).map(|version| self.row(version, rights)).collect();
        Ok(json!({"files": rows, "nextFileId": rest.next().map(|version| &version.id)}))
    }

    /// `b2_get_upload_part_url`.
    pub fn part_url(&mut self, rights: &Rights, json: Value, door: &str) -> Outcome<Value> {
        rights.need("writeFiles")?;
        let asked: FileId = parse(json)?;
        self.unfinished(rights, &asked.file_id)?;
        let (url, token) = self.new_url(rights, "b2_upload_part", &asked.file_id, door);
        Ok(json!({"fileId": asked.file_id, "uploadUrl": url, "authorizationToken": token}))
    }

    /// `b2_get_upload_url`.
    pub fn upload_url(&mut self, rights: &Rights, json: Value, door: &str) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            bucket_id: String,
        }
        rights.need("writeFiles")?;
        let asked: Asked = parse(json)?;
        self.bucket_with_id(&asked.bucket_id)?;
        rights.need_bucket(&asked.bucket_id)?;
        let (url, token) = self.new_url(rights, "b2_upload_file", &asked.bucket_id, door);
        Ok(json!({"bucketId": asked.bucket_id, "uploadUrl": url, "authorizationToken": token}))
    }
}

fn check_encryption(asked: Option<&Value>) -> Outcome<()> {
    let is_known = asked.is_none_or(|value| *value == json!({"mode": "SSE-B2", "algorithm": "AES256"}));
    is_known.then_some(()).ok_or_else(|| Refusal::bad_request("bad serverSideEncryption"))
}

/// The type that is stored for the one that was sent.
pub fn content_type(sent: String) -> Outcome<String> {
    match sent.as_str() {
        "b2/x-auto" => Ok("application/octet-stream".to_owned()),
        _ if sent.split('/').count() == 2 => Ok(sent),
        _ => Err(Refusal::bad_request("bad Content-Type")),
    }
}
