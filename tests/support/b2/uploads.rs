//! Files and parts coming in: one at a time per URL, of a known length, hashed.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Outcome, Refusal};
use super::body::{Keeper, Piece};
use super::keys::Rights;
use super::large::content_type;
use super::locks::{self, RetentionField};
use super::names;
use super::state::{Part, State, Version, World};

const URL_MS: u64 = 24 * 3600 * 1000;
const MOST_BYTES: u64 = 5_000_000_000;
const MOST_PARTS: u16 = 10_000;
const HASH_LENGTH: u64 = 40;
const FORBIDDEN: [&str; 6] = [
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "expires",
];
const KNOWN_FILE: [&str; 8] = [
    "x-bz-file-name",
    "x-bz-content-sha1",
    "x-bz-custom-upload-timestamp",
    "x-bz-file-legal-hold",
    "x-bz-file-retention-mode",
    "x-bz-file-retention-retain-until-timestamp",
    "x-bz-server-side-encryption",
    "x-bz-test-mode",
];
const KNOWN_PART: [&str; 3] = ["x-bz-part-number", "x-bz-content-sha1", "x-bz-test-mode"];

/// Where one upload after the other may go.
pub struct UploadUrl {
    call: &'static str,
    /// Bucket or large file.
    pub target: String,
    token: String,
    key_id: String,
    expires_ms: u64,
    is_busy: bool,
    is_dead: bool,
}

/// The one upload that holds a URL; dropped without [`Turn::keep_url`], the URL dies.
pub struct Turn {
    world: Arc<World>,
    path: String,
    is_good: bool,
}

impl Turn {
    /// The upload went well: the URL may be used again.
    pub fn keep_url(mut self) {
        self.is_good = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.world.state();
        state.uploading -= 1;
        if let Some(url) = state.urls.get_mut(&self.path) {
            url.is_busy = false;
            url.is_dead |= !self.is_good;
        }
    }
}

/// SHA-1 in hexadecimal.
pub fn sha1_hex(bytes: &[u8]) -> String {
    hex(&Sha1::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl State {
    /// A new upload URL and its token.
    pub fn new_url(
        &mut self,
        rights: &Rights,
        call: &'static str,
        target: &str,
        door: &str,
    ) -> (String, String) {
        let number = self.count();
        let path = format!("/b2api/v4/{call}/{target}/c004_v0402000_t{number:04}");
        let token = format!("4_{}_{number:06}_upld_obviously_fake", rights.key_id);
        let url = UploadUrl {
            call,
            target: target.to_owned(),
            token: token.clone(),
            key_id: rights.key_id.clone(),
            expires_ms: self.now_ms() + URL_MS,
            is_busy: false,
            is_dead: false,
        };
        self.urls.insert(path.clone(), url);
        (format!("{door}{path}"), token)
    }

    pub fn kill_upload_urls(&mut self) {
        self.urls.values_mut().for_each(|url| url.is_dead = true);
    }

    /// The URL dies: a fault has met it.
    pub fn kill_url(&mut self, path: &str) {
        self.urls.entry(path.to_owned()).and_modify(|url| url.is_dead = true);
    }

    fn take_url(&mut self, path: &str, call: &str, token: Option<&str>) -> Outcome<(String, Rights)> {
        let now = self.now_ms();
        let url = self.urls.get_mut(path).filter(|url| url.call == call).ok_or_else(Refusal::bad_token)?;
        if token != Some(url.token.as_str()) {
            return Err(Refusal::bad_token());
        }
        if url.is_dead || url.expires_ms <= now {
            return Err(Refusal::expired_token());
        }
        if url.is_busy {
            url.is_dead = true;
            let message = format!("more than one upload using auth token {}", url.token);
            return Err(Refusal::new(400, "auth_token_limit", message));
        }
        let (target, key_id) = (url.target.clone(), url.key_id.clone());
        let rights = self.rights_of(&key_id)?;
        self.urls.get_mut(path).expect("it was there").is_busy = true;
        self.uploading += 1;
        self.peak_uploads = self.peak_uploads.max(self.uploading);
        Ok((target, rights))
    }
}

/// An upload whose body is read and hashed, not yet stored.
pub struct Received {
    call: &'static str,
    target: String,
    rights: Rights,
    headers: HeaderMap,
    piece: Piece,
    sha1: String,
}

/// Takes the URL: from here on it is held. Who it is for, and what that key may do.
pub fn take(
    world: &Arc<World>,
    call: &str,
    path: &str,
    headers: &HeaderMap,
) -> Outcome<(Turn, String, Rights)> {
    let (target, rights) = world.state().take_url(path, call, text(headers, "authorization"))?;
    Ok((Turn { world: Arc::clone(world), path: path.to_owned(), is_good: false }, target, rights))
}

/// How a body is to be read.
pub struct Reading<'a> {
    pub world: &'a Arc<World>,
    /// Number of the call, to note how much came.
    pub number: usize,
    /// Bytes a second.
    pub pace: Option<u64>,
    /// The body is read no further than this.
    pub cut_at: Option<u64>,
}

/// Reads and hashes the body; None when the client went away, or is to go.
pub async fn receive(
    reading: Reading<'_>,
    call: &'static str,
    holder: (String, Rights),
    headers: HeaderMap,
    mut body: Incoming,
) -> Option<Outcome<Received>> {
    let length = match check_headers(call, &headers) {
        Ok(length) => length,
        Err(refusal) => return drain(body).await.then_some(Err(refusal)),
    };
    let claimed = text(&headers, "x-bz-content-sha1").unwrap_or_default().to_owned();
    let data = if claimed == "hex_digits_at_end" { length - HASH_LENGTH } else { length };
    let mut keeper = Keeper::new(reading.world.state().switches.keeps_bodies);
    let (mut hash, mut tail, mut seen) = (Sha1::new(), Vec::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.ok()?.into_data() else { continue };
        if let Some(pace) = reading.pace {
            tokio::time::sleep(Duration::from_millis(bytes.len() as u64 * 1000 / pace.max(1))).await;
        }
        let own = bytes.slice(..bytes.len().min((data - seen.min(data)) as usize));
        hash.update(&own);
        keeper.write(&own);
        tail.extend_from_slice(&bytes[own.len()..]);
        seen += bytes.len() as u64;
        reading.world.state().note(reading.number, |noted| noted.bytes_in = seen);
        if reading.cut_at.is_some_and(|at| seen >= at) {
            return None;
        }
    }
    let sha1 = hex(&hash.finalize());
    if let Err(refusal) = check_hash(&claimed, &tail, &sha1) {
        return Some(Err(refusal));
    }
    let (target, rights) = holder;
    Some(Ok(Received { call, target, rights, headers, piece: keeper.piece(), sha1 }))
}

/// Reads a body to its end and forgets it, so that the client hears the answer; false when it left.
pub async fn drain(mut body: Incoming) -> bool {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

/// A request's body that is not an upload's: at most a megabyte.
pub async fn collect(body: Incoming) -> Option<Bytes> {
    let collected = http_body_util::Limited::new(body, 1 << 20).collect().await;
    collected.ok().map(http_body_util::Collected::to_bytes)
}

fn check_hash(claimed: &str, tail: &[u8], sha1: &str) -> Outcome<()> {
    let wanted = match claimed {
        "do_not_verify" => return Ok(()),
        "hex_digits_at_end" => names::check_sha1(&String::from_utf8_lossy(tail))?,
        given => names::check_sha1(given)?,
    };
    let mismatch = || Refusal::bad_request("Sha1 did not match data received");
    (wanted == sha1).then_some(()).ok_or_else(mismatch)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Outcome<Option<T>> {
    let parsed = text(headers, name).map(str::parse).transpose();
    parsed.map_err(|_| Refusal::bad_request(format!("bad {name}")))
}

/// Refuses headers that an upload must not have, or lacks; the length of its body.
fn check_headers(call: &str, headers: &HeaderMap) -> Outcome<u64> {
    if headers.contains_key("transfer-encoding") {
        return Err(Refusal::bad_request("Transfer-Encoding is not supported; send Content-Length"));
    }
    let length: u64 = number(headers, "content-length")?
        .ok_or_else(|| Refusal::bad_request("Missing header: Content-Length"))?;
    let is_file = call == "b2_upload_file";
    let known: &[&str] = if is_file { &KNOWN_FILE } else { &KNOWN_PART };
    for name in headers.keys().map(hyper::header::HeaderName::as_str) {
        let is_info = is_file && name.starts_with("x-bz-info-");
        let is_unknown = name.starts_with("x-bz-") && !is_info && !known.contains(&name);
        if FORBIDDEN.contains(&name) || is_unknown {
            return Err(Refusal::bad_request(format!("Header not allowed: {name}")));
        }
    }
    let sha1 = text(headers, "x-bz-content-sha1")
        .ok_or_else(|| Refusal::bad_request("Missing header: X-Bz-Content-Sha1"))?;
    let own = match sha1 {
        "hex_digits_at_end" => length.checked_sub(HASH_LENGTH),
        "do_not_verify" => Some(length),
        given => names::check_sha1(given).map(|_| Some(length))?,
    };
    let own = own.ok_or_else(|| Refusal::bad_request("Content-Length leaves no room for the SHA-1"))?;
    if own > MOST_BYTES || (own == 0 && !is_file) {
        return Err(Refusal::bad_request("Files and parts are at most 5 GB, parts at least 1 byte"));
    }
    Ok(length)
}

impl State {
    /// Stores what came, as a file or a part.
    pub fn store(&mut self, received: Received) -> Outcome<Value> {
        received.rights.need("writeFiles")?;
        match received.call {
            "b2_upload_part" => self.store_part(received),
            _ => self.store_file(received),
        }
    }

    fn store_part(&mut self, received: Received) -> Outcome<Value> {
        let Received { target, rights, headers, piece, sha1, .. } = received;
        let part: u16 = number(&headers, "x-bz-part-number")?.unwrap_or(0);
        if part == 0 || part > MOST_PARTS {
            return Err(Refusal::new(400, "invalid_part_number", "Part number must be from 1 to 10000"));
        }
        self.unfinished(&rights, &target)?;
        let uploaded_ms = self.now_ms();
        let answer = json!({
            "contentLength": piece.length(), "contentMd5": null, "contentSha1": sha1, "fileId": target,
            "partNumber": part, "serverSideEncryption": {"algorithm": null, "mode": null},
            "uploadTimestamp": uploaded_ms,
        });
        let version = self.version_mut(&target).expect("it was there");
        version.parts.insert(part, Part { sha1, piece, uploaded_ms });
        Ok(answer)
    }

    fn store_file(&mut self, received: Received) -> Outcome<Value> {
        let Received { target, rights, headers, piece, sha1, .. } = received;
        let bucket = self.bucket_with_id(&target)?.clone();
        rights.need_bucket(&bucket.id)?;
        let name = text(&headers, "x-bz-file-name")
            .ok_or_else(|| Refusal::bad_request("Missing header: X-Bz-File-Name"))?;
        let name = names::decode_header(name)?;
        names::check_file_name(&name)?;
        rights.need_name(&name)?;
        let sent_type = text(&headers, "content-type").unwrap_or_default().to_owned();
        let info = names::check_info(&name, &info(&headers)?, bucket.has_lock)?;
        if text(&headers, "x-bz-server-side-encryption").is_some_and(|value| value != "AES256") {
            return Err(Refusal::bad_request("bad X-Bz-Server-Side-Encryption"));
        }
        let now = self.now_ms();
        let locking = (retention(&headers)?, text(&headers, "x-bz-file-legal-hold"));
        let (retention, has_legal_hold) = locks::at_upload(&bucket, &rights, locking, now)?;
        let stamp: Option<u64> = number(&headers, "x-bz-custom-upload-timestamp")?;
        if stamp.is_some_and(|stamp| stamp > now) {
            return Err(Refusal::bad_request("X-Bz-Custom-Upload-Timestamp is in the future"));
        }
        let is_unverified = text(&headers, "x-bz-content-sha1") == Some("do_not_verify");
        let version = Version {
            id: self.file_id(&bucket.id, false),
            bucket_id: bucket.id,
            name,
            action: "upload",
            sha1: Some(if is_unverified { format!("unverified:{sha1}") } else { sha1 }),
            content_type: content_type(sent_type)?,
            info,
            uploaded_ms: stamp.unwrap_or(now),
            retention,
            has_legal_hold,
            pieces: vec![piece],
            lag: self.switches.list_lag,
            order: self.count(),
            parts: BTreeMap::new(),
        };
        let row = self.row(&version, &rights);
        self.add(version);
        Ok(row)
    }
}

fn retention(headers: &HeaderMap) -> Outcome<Option<RetentionField>> {
    let mode = text(headers, "x-bz-file-retention-mode").map(str::to_owned);
    let until = number(headers, "x-bz-file-retention-retain-until-timestamp")?;
    let is_asked = mode.is_some() || until.is_some();
    Ok(is_asked.then(|| RetentionField::new(mode, until)))
}

fn info(headers: &HeaderMap) -> Outcome<Map<String, Value>> {
    let mut info = Map::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix("x-bz-info-") else { continue };
        let value = value.to_str().map_err(|_| Refusal::bad_request("info must be percent-encoded"))?;
        info.insert(key.to_owned(), Value::String(names::decode_header(value)?));
    }
    Ok(info)
}
