//! Lists of files, hide markers, deletes, the facts of one file.

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Outcome, Refusal};
use super::api::parse;
use super::keys::{ACCOUNT, Rights};
use super::locks;
use super::names;
use super::state::{State, Version};

const MOST_ROWS: u64 = 10_000;

/// What a list asks for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    bucket_id: String,
    start_file_name: Option<String>,
    start_file_id: Option<String>,
    max_file_count: Option<u64>,
    prefix: Option<String>,
    delimiter: Option<String>,
}

/// The size of a page: as asked, the default for none or 0, never more than `most` or the switch.
pub fn page(asked: Option<u64>, default: u64, most: u64, switch: Option<usize>) -> Outcome<usize> {
    match asked {
        Some(count) if count > most => {
            Err(Refusal::new(400, "out_of_range", format!("count {count} is more than {most}")))
        }
        None | Some(0) => Ok(default as usize),
        Some(count) => Ok(count as usize),
    }
    .map(|count| count.min(switch.unwrap_or(usize::MAX)))
}

impl State {
    /// One row of a list, or the answer of an upload.
    pub fn row(&self, version: &Version, rights: &Rights) -> Value {
        let mut row = json!({
            "accountId": ACCOUNT,
            "action": version.action,
            "bucketId": version.bucket_id,
            "contentLength": if version.action == "upload" { version.bytes() } else { 0 },
            "contentMd5": null,
            "contentSha1": version.sha1,
            "contentType": version.content_type,
            "fileId": version.id,
            "fileInfo": version.info,
            "fileName": version.name,
            "uploadTimestamp": version.uploaded_ms,
        });
        if version.action != "hide" {
            row["serverSideEncryption"] = json!({"algorithm": null, "mode": null});
            for (name, value) in locks::fields(version, rights) {
                row[name] = value;
            }
        }
        if self.switches.has_unknowns {
            row["smellOfFile"] = json!({"isSweet": [null, 1]});
        }
        row
    }

    fn folder(bucket_id: &str, name: &str) -> Value {
        json!({
            "accountId": ACCOUNT, "action": "folder", "bucketId": bucket_id, "contentLength": 0,
            "contentMd5": null, "contentSha1": null, "contentType": null, "fileId": null,
            "fileInfo": {}, "fileName": name, "uploadTimestamp": 0,
        })
    }

    /// `b2_list_file_versions`, and `b2_list_file_names` when `newest_only`.
    pub fn list_files(&mut self, rights: &Rights, json: Value, newest_only: bool) -> Outcome<Value> {
        rights.need("listFiles")?;
        let asked: Asked = parse(json)?;
        let most = page(asked.max_file_count, 100, MOST_ROWS, self.switches.page_rows)?;
        let bucket_id = self.bucket_with_id(&asked.bucket_id)?.id.clone();
        rights.need_bucket(&bucket_id)?;
        let prefix = asked.prefix.clone().unwrap_or_default();
        rights.need_name(&prefix)?;
        if asked.start_file_id.is_some() && (asked.start_file_name.is_none() || newest_only) {
            return Err(Refusal::bad_request("startFileId needs startFileName, and a list of versions"));
        }
        let visible = self.visible(&bucket_id, &prefix, newest_only);
        let from = visible.iter().position(|version| is_at_or_after(&visible, version, &asked));
        let mut rows: Vec<(String, Option<String>, Value)> = Vec::new();
        for version in &visible[from.unwrap_or(visible.len())..] {
            let folder = folder_of(&version.name, &prefix, asked.delimiter.as_deref());
            let (name, id, row) = match folder {
                Some(name) if rows.last().is_some_and(|(last, ..)| *last == name) => continue,
                Some(name) => (name.clone(), None, Self::folder(&bucket_id, &name)),
                None => (version.name.clone(), Some(version.id.clone()), self.row(version, rights)),
            };
            rows.push((name, id, row));
        }
        let next = rows.get(most).map(|(name, id, _)| (name.clone(), id.clone()));
        rows.truncate(most);
        let mut files: Vec<Value> = rows.into_iter().map(|(_, _, row)| row).collect();
        if self.switches.has_unknowns {
            let mut odd = Self::folder(&bucket_id, &format!("{prefix}~of-the-future"));
            odd["action"] = json!("teleport");
            files.push(odd);
        }
        let mut answer = json!({"files": files, "nextFileName": next.as_ref().map(|(name, _)| name)});
        if !newest_only {
            answer["nextFileId"] = json!(next.and_then(|(_, id)| id));
        }
        Ok(answer)
    }

    /// What a list shows, its lag counted down.
    fn visible(&mut self, bucket_id: &str, prefix: &str, newest_only: bool) -> Vec<Version> {
        let mut visible: Vec<Version> = Vec::new();
        let mut last_name = None;
        let ours =
            |version: &&mut Version| version.bucket_id == bucket_id && version.name.starts_with(prefix);
        for version in self.versions.iter_mut().filter(ours) {
            if version.lag > 0 {
                version.lag -= 1;
                continue;
            }
            if newest_only {
                let is_older = last_name.as_ref() == Some(&version.name);
                if version.action == "start" || is_older {
                    continue;
                }
                last_name = Some(version.name.clone());
                if version.action == "hide" {
                    continue;
                }
            }
            visible.push(version.clone());
        }
        visible
    }

    /// `b2_get_file_info`.
    pub fn file_info(&self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            file_id: String,
        }
        rights.need("readFiles")?;
        let asked: Asked = parse(json)?;
        let absent = || Refusal::new(404, "not_found", format!("File not present: {}", asked.file_id));
        let version = self.version(&asked.file_id).ok_or_else(absent)?;
        rights.need_bucket(&version.bucket_id)?;
        rights.need_name(&version.name)?;
        Ok(self.row(version, rights))
    }

    /// `b2_hide_file`.
    pub fn hide_file(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            bucket_id: String,
            file_name: String,
        }
        rights.need("writeFiles")?;
        let asked: Asked = parse(json)?;
        self.bucket_with_id(&asked.bucket_id)?;
        rights.need_bucket(&asked.bucket_id)?;
        names::check_file_name(&asked.file_name)?;
        rights.need_name(&asked.file_name)?;
        match self.newest(&asked.bucket_id, &asked.file_name).map(|version| version.action) {
            None => Err(Refusal::new(400, "no_such_file", format!("No such file: {}", asked.file_name))),
            Some("hide") => Err(Refusal::new(400, "already_hidden", "File is already hidden")),
            Some(_) => {
                let id = self.hide(&asked.bucket_id, &asked.file_name);
                Ok(self.row(self.version(&id).expect("just made"), rights))
            }
        }
    }

    /// Adds a hide marker; its id.
    pub fn hide(&mut self, bucket_id: &str, name: &str) -> String {
        let bucket =
            self.buckets.iter().find(|bucket| bucket.id == bucket_id).map(|bucket| bucket.name.clone());
        let marker = self.plain(&bucket.expect("a bucket of this id"), name, false);
        let (id, lag) = (marker.id.clone(), self.switches.list_lag);
        let marker = Version { content_type: "application/x-bz-hide-marker".to_owned(), lag, ..marker };
        self.add(marker);
        id
    }

    /// `b2_delete_file_version`: both name and id must fit.
    pub fn delete_version(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            file_name: String,
            file_id: String,
            bypass_governance: Option<bool>,
        }
        rights.need("deleteFiles")?;
        let asked: Asked = parse(json)?;
        let Asked { file_name, file_id, .. } = &asked;
        names::check_file_name(file_name)?;
        rights.need_name(file_name)?;
        let found =
            self.version(file_id).filter(|version| version.name == *file_name && version.action != "start");
        let absent =
            || Refusal::new(400, "file_not_present", format!("File not present: {file_name} {file_id}"));
        let version = found.ok_or_else(absent)?;
        rights.need_bucket(&version.bucket_id)?;
        self.check_unlocked(version, rights, asked.bypass_governance == Some(true))?;
        self.versions.retain(|version| version.id != *file_id);
        Ok(json!({"fileId": file_id, "fileName": file_name}))
    }
}

fn folder_of(name: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter.filter(|text| !text.is_empty())?;
    let at = name[prefix.len()..].find(delimiter)?;
    Some(name[..prefix.len() + at + delimiter.len()].to_owned())
}

/// Whether the page that was asked for may begin with `version`.
fn is_at_or_after(all: &[Version], version: &Version, asked: &Asked) -> bool {
    let Some(name) = &asked.start_file_name else { return true };
    let start =
        asked.start_file_id.as_ref().and_then(|id| all.iter().find(|v| v.id == *id && v.name == *name));
    match start {
        _ if version.name != *name => version.name > *name,
        Some(start) => version.order <= start.order,
        None => true,
    }
}
