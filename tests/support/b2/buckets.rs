//! Buckets: their lists, lifecycle rules, Object Lock default, revisions.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Outcome, Refusal};
use super::api::parse;
use super::keys::{ACCOUNT, Rights};
use super::names;
use super::state::{BucketOptions, State};

const MOST_RULES: usize = 100;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// One bucket.
#[derive(Clone)]
pub struct Bucket {
    pub id: String,
    pub name: String,
    pub has_lock: bool,
    /// Mode, and milliseconds from the upload.
    pub default_lock: Option<(String, u64)>,
    default_lock_json: Value,
    rules: Vec<Rule>,
    info: Map<String, Value>,
    revision: u64,
}

/// A lifecycle rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    file_name_prefix: String,
    days_from_uploading_to_hiding: Option<u64>,
    days_from_hiding_to_deleting: Option<u64>,
    days_from_starting_to_canceling_unfinished_large_files: Option<u64>,
}

impl Rule {
    fn days(&self) -> [Option<u64>; 3] {
        [
            self.days_from_uploading_to_hiding,
            self.days_from_hiding_to_deleting,
            self.days_from_starting_to_canceling_unfinished_large_files,
        ]
    }

    fn json(&self) -> Value {
        let [hiding, deleting, canceling] = self.days();
        json!({
            "fileNamePrefix": self.file_name_prefix,
            "daysFromUploadingToHiding": hiding,
            "daysFromHidingToDeleting": deleting,
            "daysFromStartingToCancelingUnfinishedLargeFiles": canceling,
        })
    }
}

fn check_rules(rules: &[Rule]) -> Outcome<()> {
    if rules.len() > MOST_RULES {
        return Err(Refusal::bad_request("At most 100 lifecycle rules"));
    }
    for (index, rule) in rules.iter().enumerate() {
        if rule.days().iter().flatten().any(|days| *days == 0) || rule.days() == [None; 3] {
            return Err(Refusal::bad_request("Lifecycle days must be positive, one at least"));
        }
        let overlaps = |other: &Rule| {
            other.file_name_prefix.starts_with(&rule.file_name_prefix)
                || rule.file_name_prefix.starts_with(&other.file_name_prefix)
        };
        if rules[..index].iter().any(overlaps) {
            return Err(Refusal::bad_request("Prefixes of lifecycle rules must not contain one another"));
        }
    }
    Ok(())
}

/// `defaultRetention` of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DefaultRetention {
    mode: Option<String>,
    period: Option<Period>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Period {
    duration: u64,
    unit: String,
}

impl DefaultRetention {
    fn checked(self) -> Outcome<(Option<(String, u64)>, Value)> {
        let bad = || Refusal::bad_request("bad defaultRetention");
        match (self.mode.as_deref(), self.period) {
            (None, None) => Ok((None, json!({"mode": null, "period": null}))),
            (Some(mode @ ("governance" | "compliance")), Some(period)) if period.duration > 0 => {
                let days = match period.unit.as_str() {
                    "days" => period.duration,
                    "years" => period.duration * 365,
                    _ => return Err(bad()),
                };
                let shown =
                    json!({"mode": mode, "period": {"duration": period.duration, "unit": period.unit}});
                Ok((Some((mode.to_owned(), days * DAY_MS)), shown))
            }
            _ => Err(bad()),
        }
    }
}

impl State {
    pub fn make_bucket(&mut self, name: &str, options: BucketOptions) -> String {
        names::check_bucket_name(name).unwrap_or_else(|refusal| panic!("{}", refusal.message));
        assert!(self.bucket_named(name).is_none(), "there is a bucket {name}");
        let id = format!("{:024x}", 0x4a5b_6c7d_0000_u64 + self.count());
        let rules = if options.lifecycle.is_null() { json!([]) } else { options.lifecycle };
        let rules: Vec<Rule> = serde_json::from_value(rules).expect("lifecycle rules");
        check_rules(&rules).unwrap_or_else(|refusal| panic!("{}", refusal.message));
        let asked = DefaultRetention {
            mode: options.default_lock.map(|(mode, _)| mode.to_owned()),
            period: options
                .default_lock
                .map(|(_, days)| Period { duration: days.into(), unit: "days".to_owned() }),
        };
        let checked = asked.checked();
        let (default_lock, default_lock_json) =
            checked.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        self.buckets.push(Bucket {
            id: id.clone(),
            name: name.to_owned(),
            has_lock: options.has_lock || default_lock.is_some(),
            default_lock,
            default_lock_json,
            rules,
            info: Map::new(),
            revision: 2,
        });
        id
    }

    pub fn drop_bucket(&mut self, name: &str) {
        let Some(id) = self.bucket_named(name).map(|bucket| bucket.id.clone()) else { return };
        self.buckets.retain(|bucket| bucket.id != id);
        self.versions.retain(|version| version.bucket_id != id);
    }

    pub fn bucket_named(&self, name: &str) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| bucket.name == name)
    }

    pub fn bucket_with_id(&self, id: &str) -> Outcome<&Bucket> {
        let found = self.buckets.iter().find(|bucket| bucket.id == id);
        found.ok_or_else(|| Refusal::new(400, "bad_bucket_id", format!("Bucket does not exist: {id}")))
    }

    pub fn bucket_json(&self, name: &str) -> Value {
        let rights = Rights {
            capabilities: vec!["readBucketRetentions".to_owned(), "readBucketEncryption".to_owned()],
            ..Rights::default()
        };
        self.shown(self.bucket_named(name).expect("a bucket of this name"), &rights)
    }

    fn shown(&self, bucket: &Bucket, rights: &Rights) -> Value {
        let wrap = |capability: &str, value: Value| {
            let may_read = rights.has(capability);
            json!({"isClientAuthorizedToRead": may_read, "value": if may_read { value } else { Value::Null }})
        };
        let lock =
            json!({"isFileLockEnabled": bucket.has_lock, "defaultRetention": bucket.default_lock_json});
        let rules: Vec<Value> = bucket.rules.iter().map(Rule::json).collect();
        let mut shown = json!({
            "accountId": ACCOUNT,
            "bucketId": bucket.id,
            "bucketInfo": bucket.info,
            "bucketName": bucket.name,
            "bucketType": "allPrivate",
            "corsRules": [],
            "defaultServerSideEncryption": wrap("readBucketEncryption", json!({"mode": null, "algorithm": null})),
            "fileLockConfiguration": wrap("readBucketRetentions", lock),
            "lifecycleRules": rules,
            "options": ["s3"],
            "replicationConfiguration": wrap("readBucketReplications", Value::Null),
            "revision": bucket.revision,
        });
        if self.switches.has_unknowns {
            shown["weatherOfBucket"] = json!({"isSunny": true});
        }
        shown
    }

    /// `b2_list_buckets`.
    pub fn list_buckets(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            account_id: String,
            bucket_id: Option<String>,
            bucket_name: Option<String>,
            bucket_types: Option<Vec<String>>,
        }
        rights.need("listBuckets")?;
        let asked: Asked = parse(json)?;
        check_account(&asked.account_id)?;
        let known = ["allPrivate", "allPublic", "snapshot", "shared", "restricted", "all"];
        let types = asked.bucket_types.unwrap_or_default();
        if types.iter().any(|kind| !known.contains(&kind.as_str())) {
            return Err(Refusal::bad_request("unknown bucketTypes"));
        }
        if rights.is_bound() && asked.bucket_id.is_none() && asked.bucket_name.is_none() {
            return Err(Refusal::unauthorized()); // a bound key must name one of its buckets
        }
        let is_asked = |bucket: &&Bucket| {
            asked.bucket_id.as_ref().is_none_or(|id| *id == bucket.id)
                && asked.bucket_name.as_ref().is_none_or(|name| *name == bucket.name)
        };
        let found: Vec<&Bucket> = self.buckets.iter().filter(is_asked).collect();
        if rights.is_bound() && found.iter().all(|bucket| rights.need_bucket(&bucket.id).is_err()) {
            return Err(Refusal::unauthorized());
        }
        let rows: Vec<Value> = found.iter().map(|bucket| self.shown(bucket, rights)).collect();
        Ok(json!({"buckets": rows}))
    }

    /// `b2_update_bucket`.
    pub fn update_bucket(&mut self, rights: &Rights, json: Value) -> Outcome<Value> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Asked {
            account_id: String,
            bucket_id: String,
            bucket_type: Option<String>,
            bucket_info: Option<Map<String, Value>>,
            cors_rules: Option<Vec<Value>>,
            default_retention: Option<DefaultRetention>,
            default_server_side_encryption: Option<Value>,
            file_lock_enabled: Option<bool>,
            lifecycle_rules: Option<Vec<Rule>>,
            replication_configuration: Option<Value>,
            if_revision_is: Option<u64>,
        }
        rights.need("writeBuckets")?;
        let asked: Asked = parse(json)?;
        check_account(&asked.account_id)?;
        let bucket = self.bucket_with_id(&asked.bucket_id)?;
        rights.need_bucket(&bucket.id)?;
        let is_other = asked.bucket_type.as_ref().is_some_and(|kind| kind != "allPrivate");
        if is_other || asked.cors_rules.is_some() || asked.replication_configuration.is_some() {
            return Err(Refusal::bad_request("the stand-in changes neither type, CORS nor replication"));
        }
        if asked.default_server_side_encryption.is_some() {
            return Err(Refusal::bad_request("the stand-in does not change encryption"));
        }
        if asked.if_revision_is.is_some_and(|revision| revision != bucket.revision) {
            return Err(Refusal::new(409, "conflict", "Bucket was changed meanwhile"));
        }
        let mut changed = bucket.clone();
        if let Some(is_enabled) = asked.file_lock_enabled {
            rights.need("writeBucketRetentions")?;
            if !is_enabled && changed.has_lock {
                return Err(Refusal::new(400, "file_lock_conflict", "Object Lock cannot be disabled"));
            }
            changed.has_lock = is_enabled;
        }
        if let Some(retention) = asked.default_retention {
            rights.need("writeBucketRetentions")?;
            if !changed.has_lock {
                return Err(Refusal::new(400, "file_lock_not_enabled", "Bucket is not Object Lock enabled"));
            }
            (changed.default_lock, changed.default_lock_json) = retention.checked()?;
        }
        if let Some(rules) = asked.lifecycle_rules {
            check_rules(&rules)?;
            changed.rules = rules;
        }
        changed.info = asked.bucket_info.unwrap_or(changed.info);
        changed.revision += 1;
        let shown = self.shown(&changed, rights);
        let place = self.buckets.iter_mut().find(|bucket| bucket.id == changed.id);
        *place.expect("it was there") = changed;
        Ok(shown)
    }

    pub fn run_lifecycle(&mut self) {
        let now = self.now_ms();
        for bucket in self.buckets.clone() {
            for rule in &bucket.rules {
                self.apply(&bucket.id, rule, now);
            }
        }
    }

    fn apply(&mut self, bucket_id: &str, rule: &Rule, now: u64) {
        let is_past = |days: Option<u64>, since: u64| days.is_some_and(|days| since + days * DAY_MS <= now);
        let own: Vec<_> = self.versions.iter().filter(|v| v.bucket_id == bucket_id).cloned().collect();
        let ours = own.iter().filter(|version| version.name.starts_with(&rule.file_name_prefix));
        for version in ours {
            let newer = own
                .iter()
                .filter(|v| v.name == version.name && v.order > version.order && v.action != "start");
            let hidden_since = newer.map(|version| version.uploaded_ms).min();
            let is_gone = match (version.action, hidden_since) {
                ("start", _) => {
                    is_past(rule.days_from_starting_to_canceling_unfinished_large_files, version.uploaded_ms)
                }
                ("hide", None) => false,
                (_, Some(since)) => is_past(rule.days_from_hiding_to_deleting, since),
                (_, None) => {
                    if is_past(rule.days_from_uploading_to_hiding, version.uploaded_ms) {
                        self.hide(bucket_id, &version.name);
                    }
                    false
                }
            };
            if is_gone && self.check_unlocked(version, &Rights::default(), false).is_ok() {
                self.versions.retain(|other| other.id != version.id);
            }
        }
    }
}

fn check_account(id: &str) -> Outcome<()> {
    (id == ACCOUNT).then_some(()).ok_or_else(Refusal::unauthorized)
}
