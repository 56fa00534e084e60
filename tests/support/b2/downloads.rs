//! Files going out: by name or by id, whole or a range.

use hyper::HeaderMap;

use super::answer::{Answer, Outcome, Refusal};
use super::body::{self, Outflow};
use super::keys::Rights;
use super::names;
use super::state::{State, Version};

/// What a download asks for.
pub struct Wanted<'a> {
    /// `/file/bucket/name`, encoded.
    pub path: &'a str,
    /// `fileId`, for a download by id.
    pub id: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// A fault: the range is moved by so much.
    pub shift: i64,
    /// A fault: there is no such thing as a range.
    pub ignores_range: bool,
}

impl State {
    /// `b2_download_file_by_name` and `_by_id`.
    pub fn download(&self, wanted: &Wanted<'_>) -> Outcome<Answer> {
        let token = wanted.headers.get("authorization").and_then(|value| value.to_str().ok());
        let rights = self.rights(token)?;
        rights.need("readFiles")?;
        let version = match wanted.id {
            Some(id) => self.version(id).ok_or_else(|| absent(id))?,
            None => self.by_path(wanted.path, &rights)?,
        };
        rights.need_bucket(&version.bucket_id)?;
        rights.need_name(&version.name)?;
        if version.action != "upload" {
            return Err(absent(&version.name));
        }
        let length = version.bytes();
        let header = wanted.headers.get("range").and_then(|value| value.to_str().ok());
        let range = header.filter(|_| !wanted.ignores_range).and_then(range);
        let mut headers = file_headers(version, &rights);
        let Some(range) = range else {
            let body = Outflow::of(version.pieces.clone());
            return Ok(Answer { status: 200, headers, body, json: None });
        };
        let (start, end) = range.within(length)?;
        let shifted = |at: u64| at.saturating_add_signed(wanted.shift).min(length - 1);
        let (start, end) = (shifted(start), shifted(end));
        headers.push(("content-range".to_owned(), format!("bytes {start}-{end}/{length}")));
        let body = Outflow::of(body::slice(&version.pieces, start, end - start + 1));
        Ok(Answer { status: 206, headers, body, json: None })
    }

    fn by_path(&self, path: &str, rights: &Rights) -> Outcome<&Version> {
        let (bucket, name) =
            path.strip_prefix("/file/").and_then(|rest| rest.split_once('/')).ok_or_else(|| absent(path))?;
        let bucket = self
            .bucket_named(bucket)
            .ok_or_else(|| Refusal::new(404, "not_found", format!("bucket {bucket} does not exist")))?;
        rights.need_bucket(&bucket.id)?;
        let name = names::decode_header(name)?;
        rights.need_name(&name)?;
        self.newest(&bucket.id, &name).ok_or_else(|| absent(&name))
    }
}

fn absent(what: &str) -> Refusal {
    Refusal::new(404, "not_found", format!("File with such name or id does not exist: {what}"))
}

fn file_headers(version: &Version, rights: &Rights) -> Vec<(String, String)> {
    let mut headers = vec![
        ("content-type".to_owned(), version.content_type.clone()),
        ("accept-ranges".to_owned(), "bytes".to_owned()),
        ("x-bz-file-id".to_owned(), version.id.clone()),
        ("x-bz-file-name".to_owned(), names::encode(&version.name)),
        ("x-bz-content-sha1".to_owned(), version.sha1.clone().unwrap_or_default()),
        ("x-bz-upload-timestamp".to_owned(), version.uploaded_ms.to_string()),
    ];
    for (key, value) in &version.info {
        let value = names::encode(value.as_str().unwrap_or_default());
        headers.push((format!("x-bz-info-{key}"), value));
    }
    match &version.retention {
        Some(kept) if rights.has("readFileRetentions") => {
            headers.push(("x-bz-file-retention-mode".to_owned(), kept.mode.clone()));
            let until = kept.until_ms.to_string();
            headers.push(("x-bz-file-retention-retain-until-timestamp".to_owned(), until));
        }
        Some(_) => {
            let hidden = "X-Bz-File-Retention-Mode,X-Bz-File-Retention-Retain-Until-Timestamp";
            headers.push(("x-bz-client-unauthorized-to-read".to_owned(), hidden.to_owned()));
        }
        None => {}
    }
    headers
}

/// One range of bytes as asked.
enum Range {
    FromTo(u64, Option<u64>),
    Last(u64),
}

/// A range; None for one that B2 does not understand, which gives the whole file.
fn range(header: &str) -> Option<Range> {
    let (from, to) = header.strip_prefix("bytes=")?.split_once('-')?;
    match (from, to) {
        ("", to) => to.parse().ok().map(Range::Last),
        (from, "") => from.parse().ok().map(|from| Range::FromTo(from, None)),
        (from, to) => {
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            (from <= to).then_some(Range::FromTo(from, Some(to)))
        }
    }
}

impl Range {
    /// First and last byte in a file of `length`.
    fn within(&self, length: u64) -> Outcome<(u64, u64)> {
        let (start, end) = match *self {
            Range::FromTo(from, to) => (from, to.unwrap_or(u64::MAX).min(length.saturating_sub(1))),
            Range::Last(count) => (length.saturating_sub(count), length.saturating_sub(1)),
        };
        let is_there = start < length && !matches!(self, Range::Last(0));
        let refusal = || Refusal::new(416, "range_not_satisfiable", "The Range is past the end of the file");
        is_there.then_some((start, end)).ok_or_else(refusal)
    }
}
