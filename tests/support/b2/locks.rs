//! Object Lock: retention and legal hold, set, shown, and really in the way of a delete.

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Outcome, Refusal};
use super::buckets::Bucket;
use super::keys::Rights;
use super::state::{State, Version};

/// Until when a version may not be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `governance` or `compliance`.
    pub mode: String,
    /// Ms since 1970.
    pub until_ms: u64,
}

/// `fileRetention` of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionField {
    mode: Option<String>,
    retain_until_timestamp: Option<u64>,
}

impl RetentionField {
    pub fn new(mode: Option<String>, retain_until_timestamp: Option<u64>) -> RetentionField {
        RetentionField { mode, retain_until_timestamp }
    }

    /// What it asks for; None for `{mode: null, retainUntilTimestamp: null}`.
    fn asked(self, now_ms: u64) -> Outcome<Option<Retention>> {
        match (self.mode, self.retain_until_timestamp) {
            (None, None) => Ok(None),
            (Some(mode), Some(until_ms)) if mode == "governance" || mode == "compliance" => {
                let is_future = until_ms > now_ms;
                is_future
                    .then_some(Some(Retention { mode, until_ms }))
                    .ok_or_else(|| Refusal::bad_request("retainUntilTimestamp must be in the future"))
            }
            _ => Err(Refusal::bad_request("file retention needs mode and retainUntilTimestamp")),
        }
    }
}

/// `on` or `off`.
pub fn legal_hold(text: &str) -> Outcome<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Refusal::bad_request(format!("bad legal hold: {text}"))),
    }
}

/// What an upload asks to be locked as; the bucket's default when it asks for nothing.
pub fn at_upload(
    bucket: &Bucket,
    rights: &Rights,
    asked: (Option<RetentionField>, Option<&str>),
    now_ms: u64,
) -> Outcome<(Option<Retention>, bool)> {
    let (retention, hold) = asked;
    let needs_lock = |capability| {
        rights.need(capability)?;
        let refusal = || Refusal::new(400, "file_lock_not_enabled", "Bucket is not Object Lock enabled");
        bucket.has_lock.then_some(()).ok_or_else(refusal)
    };
    let hold = match hold {
        None => false,
        Some(text) => {
            needs_lock("writeFileLegalHolds")?;
            legal_hold(text)?
        }
    };
    let retention = match retention {
        Some(field) => {
            needs_lock("writeFileRetentions")?;
            field.asked(now_ms)?
        }
        None => bucket.default_lock.clone().map(|(mode, ms)| Retention { mode, until_ms: now_ms + ms }),
    };
    Ok((retention, hold))
}

/// The fields of a version, hidden from who may not read them.
pub fn fields(version: &Version, rights: &Rights) -> [(&'static str, Value); 2] {
    let wrap = |may_read: bool, value: Value| json!({"isClientAuthorizedToRead": may_read, "value": if may_read { value } else { Value::Null }});
    let retention = match &version.retention {
        Some(kept) => json!({"mode": kept.mode, "retainUntilTimestamp": kept.until_ms}),
        None => json!({"mode": null, "retainUntilTimestamp": null}),
    };
    let hold = if version.has_legal_hold { json!("on") } else { Value::Null };
    [
        ("fileRetention", wrap(rights.has("readFileRetentions"), retention)),
        ("legalHold", wrap(rights.has("readFileLegalHolds"), hold)),
    ]
}

impl State {
    /// Refuses to delete what is locked.
    pub fn check_unlocked(&self, version: &Version, rights: &Rights, bypasses: bool) -> Outcome<()> {
        if bypasses {
            rights.need("bypassGovernance")?;
        }
        let now = self.now_ms();
        let kept = version.retention.as_ref().filter(|kept| kept.until_ms > now);
        let is_kept = kept.is_some_and(|kept| kept.mode == "compliance" || !bypasses);
        if !is_kept && !version.has_legal_hold {
            return Ok(());
        }
        Err(if self.switches.locked_is_400 {
            Refusal::new(400, "file_lock_conflict", "File is protected by Object Lock")
        } else {
            Refusal::new(403, "access_denied", "Access Denied")
        })
    }

    /// `b2_update_file_retention`.
    pub fn update_retention(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            file_name: String,
            file_id: String,
            file_retention: RetentionField,
            bypass_governance: Option<bool>,
        }
        rights.need("writeFileRetentions")?;
        let asked: Asked = super::api::parse(json)?;
        let now = self.now_ms();
        let wanted = asked.file_retention.asked(now)?;
        let bypasses = asked.bypass_governance == Some(true);
        if bypasses {
            rights.need("bypassGovernance")?;
        }
        let version = self.lockable(rights, &asked.file_name, &asked.file_id)?;
        let kept = version.retention.as_ref().filter(|kept| kept.until_ms > now);
        let is_longer = |kept: &Retention| wanted.as_ref().is_some_and(|new| new.until_ms >= kept.until_ms);
        let is_same_mode = |kept: &Retention| wanted.as_ref().is_some_and(|new| new.mode == kept.mode);
        let is_allowed = kept.is_none_or(|kept| match kept.mode.as_str() {
            "compliance" => is_longer(kept) && is_same_mode(kept),
            _ => bypasses || is_longer(kept),
        });
        if !is_allowed {
            return Err(Refusal::new(403, "access_denied", "Access Denied"));
        }
        version.retention = wanted;
        let kept = version.retention.as_ref();
        let shown = json!({"mode": kept.map(|kept| &kept.mode), "retainUntilTimestamp": kept.map(|kept| kept.until_ms)});
        Ok(json!({"fileId": asked.file_id, "fileName": asked.file_name, "fileRetention": shown}))
    }

    /// `b2_update_file_legal_hold`.
    pub fn update_legal_hold(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            file_name: String,
            file_id: String,
            legal_hold: String,
        }
        rights.need("writeFileLegalHolds")?;
        let asked: Asked = super::api::parse(json)?;
        let hold = legal_hold(&asked.legal_hold)?;
        self.lockable(rights, &asked.file_name, &asked.file_id)?.has_legal_hold = hold;
        Ok(json!({"fileId": asked.file_id, "fileName": asked.file_name, "legalHold": asked.legal_hold}))
    }

    fn lockable(&mut self, rights: &Rights, name: &str, id: &str) -> Outcome<&mut Version> {
        let version = self.version(id).filter(|version| version.name == name && version.action == "upload");
        let version = version
            .ok_or_else(|| Refusal::new(400, "file_not_present", format!("File not present: {name} {id}")))?;
        let bucket_id = version.bucket_id.clone();
        rights.need_bucket(&bucket_id)?;
        rights.need_name(name)?;
        if !self.bucket_with_id(&bucket_id)?.has_lock {
            return Err(Refusal::new(400, "file_lock_not_enabled", "Bucket is not Object Lock enabled"));
        }
        Ok(self.version_mut(id).expect("it was there"))
    }
}
