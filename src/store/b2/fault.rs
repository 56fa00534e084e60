//! What B2 said instead of yes, and what a person is told of it.
//!
//! In:    a call, its status, B2's code and message; or why no answer came.
//! Out:   a [`Failure`] with the right kind: 75, 77 or 78.
//! Holds: a message of B2's is shown without any token in it.
//! Not here: whether to try again (`store::retry`).

use crate::error::{Failure, Kind};
use crate::store::http::{Answer, Broken, retry_after};
use crate::store::retry::Refusal;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// A call of B2's native API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its name, as in the URL.
    pub name: &'static str,
    /// The capability that a key needs for it.
    pub needs: &'static str,
}

macro_rules! calls {
    ($($name:ident = $text:literal needs $capability:literal;)*) => {
        $(pub(super) const $name: Call = Call { name: $text, needs: $capability };)*
    };
}

calls! {
    AUTHORIZE = "b2_authorize_account" needs "";
    LIST_BUCKETS = "b2_list_buckets" needs "listBuckets";
    UPDATE_BUCKET = "b2_update_bucket" needs "writeBuckets";
    GET_UPLOAD_URL = "b2_get_upload_url" needs "writeFiles";
    GET_UPLOAD_PART_URL = "b2_get_upload_part_url" needs "writeFiles";
    UPLOAD_FILE = "b2_upload_file" needs "writeFiles";
    UPLOAD_PART = "b2_upload_part" needs "writeFiles";
    START_LARGE_FILE = "b2_start_large_file" needs "writeFiles";
    FINISH_LARGE_FILE = "b2_finish_large_file" needs "writeFiles";
    CANCEL_LARGE_FILE = "b2_cancel_large_file" needs "writeFiles";
    LIST_UNFINISHED = "b2_list_unfinished_large_files" needs "listFiles";
    LIST_FILE_VERSIONS = "b2_list_file_versions" needs "listFiles";
    DELETE_FILE_VERSION = "b2_delete_file_version" needs "deleteFiles";
    DOWNLOAD = "b2_download_file_by_id" needs "readFiles";
}

/// Calls about a large file that was begun.
const LARGE_FILE: [Call; 3] = [GET_UPLOAD_PART_URL, UPLOAD_PART, FINISH_LARGE_FILE];

/// A call that did not succeed.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Which.
    pub call: Call,
    /// HTTP status; `None` when no answer came.
    pub status: Option<u16>,
    /// B2's code; may be empty.
    pub code: String,
    /// B2's message, or why no answer came.
    pub message: String,
    /// What `Retry-After` asked for.
    pub retry_after: Option<Duration>,
    /// Whether B2 may have done it all the same, in this try or in one before.
    pub is_unsure: bool,
}

/// Bytes of an answer in a foreign shape that are shown.
const SHOWN_BYTES: usize = 200;

impl Fault {
    /// No answer came.
    pub fn broken(call: Call, broken: Broken) -> Fault {
        let is_unsure = broken.reached;
        Fault { is_unsure, ..Fault::local(call, None, "", broken.what) }
    }

    /// An answer that is not a success; `secrets` are blotted out of its message.
    pub fn answered(call: Call, answer: &Answer, secrets: &[&str]) -> Fault {
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let (code, mut message) = (text("code"), text("message"));
        if !json.is_object() {
            let shown = &answer.body[..answer.body.len().min(SHOWN_BYTES)];
            message = String::from_utf8_lossy(shown).split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if code == "auth_token_limit" {
            message.clear(); // B2's text quotes the token, perhaps cut short
        }
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            message = message.replace(secret, "[REDACTED]");
        }
        Fault {
            retry_after: retry_after(&answer.headers),
            is_unsure: answer.status >= 500 || answer.status == 408,
            ..Fault::local(call, Some(answer.status), &code, message)
        }
    }

    /// A fault that we found ourselves; with a status, as if B2 had said so.
    pub fn local(call: Call, status: Option<u16>, code: &str, message: impl Into<String>) -> Fault {
        let (code, message) = (code.to_owned(), message.into());
        Fault { call, status, code, message, retry_after: None, is_unsure: false }
    }

    /// The key lacks the right that the call needs.
    pub fn lacks(call: Call, capability: &str) -> Fault {
        Fault::local(call, Some(401), "unauthorized", format!("the key lacks the capability {capability}"))
    }

    /// For `retry::decide`.
    pub fn refusal(&self) -> Refusal<'_> {
        Refusal { status: self.status, code: &self.code, retry_after: self.retry_after }
    }

    /// Whether B2 protects the version: 403 access_denied by its SDK, 400 file_lock_* by another of its own.
    pub fn is_locked(&self) -> bool {
        (self.status == Some(403) && self.code == "access_denied") || self.code.starts_with("file_lock_")
    }

    /// Whether what it was about is not there (any more).
    pub fn is_absent(&self) -> bool {
        ["file_not_present", "no_such_file"].contains(&self.code.as_str())
            || (self.status == Some(404) && !self.code.is_empty())
    }

    /// The failure of `what`, such as `cannot list B2 bucket school-backups`.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let (kind, hint) = self.meaning();
        let failure = Failure::new(kind, format!("{what}: {self}"));
        let failure = if hint.is_empty() { failure } else { failure.hint(hint) };
        failure.into()
    }

    fn meaning(&self) -> (Kind, String) {
        let needs = self.call.needs;
        match (self.status, self.code.as_str()) {
            (Some(401), "bad_auth_token" | "unauthorized") if self.call == AUTHORIZE => {
                (Kind::Permission, "The key id or the application key is wrong, or the key has been deleted or has expired.".into())
            }
            (Some(401), "unauthorized") => {
                let hint = format!("The application key must have the capability `{needs}`, for this bucket and these names.");
                (Kind::Permission, hint)
            }
            (Some(401), "email_not_verified" | "no_payment_history") => {
                (Kind::Permission, "The B2 account itself wants attention; log in on the web page.".into())
            }
            (Some(401), _) if self.call == AUTHORIZE => (Kind::Permission, "The login was refused.".into()),
            (_, "transaction_cap_exceeded" | "download_cap_exceeded") => {
                (Kind::Temporary, "A daily cap of the B2 account is used up: it ends at midnight UTC, or raise it on the page `Caps & Alerts`.".into())
            }
            (_, "cap_exceeded" | "storage_cap_exceeded") => {
                (Kind::Permission, "A cap of the B2 account is reached: raise it on the page `Caps & Alerts`.".into())
            }
            (_, "bad_bucket_id") => (Kind::Config, "The bucket is not there any more.".into()),
            (_, "file_lock_not_enabled") => {
                (Kind::Config, "Object Lock is asked for, and the bucket has none: enable it, or take `lock` away.".into())
            }
            // B2 says no more than this of a large file that is gone, also when its bucket is.
            (Some(400), "bad_request") if LARGE_FILE.contains(&self.call) => {
                (Kind::Temporary, "The unfinished upload is not there any more: somebody has cancelled it, or the bucket is gone. The next run starts anew, and says so if there is no bucket.".into())
            }
            (Some(403), _) => (Kind::Permission, String::new()),
            (None | Some(401 | 408 | 409 | 429 | 500..=599), _) => {
                (Kind::Temporary, "B2 could not be used; try again later.".into())
            }
            _ => (Kind::Unclassified, String::new()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.call.name)?;
        match self.status {
            None => write!(f, "no answer: {}", self.message),
            Some(status) => {
                let parts = [self.code.as_str(), self.message.as_str()];
                let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                write!(f, "{status} {}", said.join(": "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::classify;
    use bytes::Bytes;
    use reqwest::header::HeaderMap;

    fn answered(call: Call, status: u16, body: &str) -> Fault {
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) };
        Fault::answered(call, &answer, &["MARK-token"])
    }

    fn coded(call: Call, status: u16, code: &str) -> (Kind, String) {
        let fault =
            answered(call, status, &format!(r#"{{"status": {status}, "code": "{code}", "message": "m"}}"#));
        let failure = classify(&fault.failure("cannot do it"));
        (failure.kind, failure.hint.unwrap_or_default())
    }

    #[test]
    fn each_refusal_is_of_the_kind_that_a_scheduler_must_see() {
        let table = [
            (AUTHORIZE, 401, "bad_auth_token", Kind::Permission),
            (AUTHORIZE, 503, "service_unavailable", Kind::Temporary),
            (LIST_FILE_VERSIONS, 401, "expired_auth_token", Kind::Temporary),
            (UPLOAD_PART, 403, "storage_cap_exceeded", Kind::Permission),
            (UPLOAD_PART, 403, "cap_exceeded", Kind::Permission),
            (LIST_FILE_VERSIONS, 403, "transaction_cap_exceeded", Kind::Temporary),
            (DOWNLOAD, 403, "download_cap_exceeded", Kind::Temporary),
            (GET_UPLOAD_URL, 400, "bad_bucket_id", Kind::Config),
            (START_LARGE_FILE, 400, "file_lock_not_enabled", Kind::Config),
            (START_LARGE_FILE, 400, "bad_request", Kind::Unclassified),
            (UPLOAD_PART, 400, "bad_request", Kind::Temporary),
            (FINISH_LARGE_FILE, 400, "bad_request", Kind::Temporary),
            (LIST_FILE_VERSIONS, 429, "too_many_requests", Kind::Temporary),
        ];
        for (call, status, code, kind) in table {
            assert_eq!(coded(call, status, code).0, kind, "{} {status} {code}", call.name);
        }
    }

    #[test]
    fn a_missing_right_is_named() {
        let (kind, hint) = coded(DELETE_FILE_VERSION, 401, "unauthorized");
        assert!(kind == Kind::Permission && hint.contains("deleteFiles"), "{hint}");
    }

    #[test]
    fn no_token_that_b2_quotes_is_shown() {
        let quoted =
            answered(UPLOAD_PART, 400, r#"{"code": "bad_request", "message": "no MARK-token here"}"#);
        let limit =
            answered(UPLOAD_PART, 400, r#"{"code": "auth_token_limit", "message": "auth token MARK-to"}"#);
        for fault in [quoted, limit] {
            assert!(!format!("{fault} {fault:?}").contains("MARK"), "{fault}");
        }
    }

    #[test]
    fn an_answer_that_is_no_json_is_shown_in_part() {
        let page = format!("<html>\n <b>Bad</b>  gateway{}", "x".repeat(10_000));
        let fault = answered(LIST_BUCKETS, 502, &page);
        assert!(fault.to_string().starts_with("b2_list_buckets: 502 <html> <b>Bad</b> gatewayxx"), "{fault}");
        assert!(fault.to_string().len() < 250 && fault.is_unsure);
    }
}
