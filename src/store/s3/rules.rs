//! What the bucket itself does to objects: lifecycle rules, Object Lock.
//!
//! In:    the bucket's configuration as XML.
//! Out:   [`Rules`] as they hold for a prefix; the configuration with our rule in it.
//! Holds: rules of others stay as they are; what the store does not offer, or the key may not see, is
//!        said and not guessed.

use super::Inner;
use super::api::{Call, Fault};
use super::xml::{Element, escape};
use crate::error::Failure;
use crate::store::{LockMode, Rules};
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use sha2::{Digest, Sha256};

/// Answers of stores that have nothing configured, or know no such thing.
const NOTHING: [&str; 5] = [
    "NoSuchLifecycleConfiguration",
    "ObjectLockConfigurationNotFoundError",
    "NotImplemented",
    "MethodNotAllowed",
    "InvalidRequest",
];

impl Inner {
    async fn configuration(&self, kind: &'static str) -> Result<Option<Element>, Fault> {
        let root = self.root();
        match self.api.call(&Call::new(Method::GET, &root).with(kind, "")).await {
            Ok(answer) => Ok(Element::parse(&answer.body)),
            Err(fault) if NOTHING.contains(&fault.code.as_str()) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What holds for names under `prefix`.
    pub(super) async fn rules(&self, prefix: &str) -> Result<Rules> {
        let full = format!("{}{prefix}", self.prefix);
        let mut rules = Rules::default();
        match self.configuration("lifecycle").await {
            Ok(found) => {
                found.iter().flat_map(|root| root.all("Rule")).for_each(|rule| add(&mut rules, rule, &full))
            }
            Err(fault) if fault.status == Some(403) => {
                rules.unknown.push("s3:GetLifecycleConfiguration".to_owned())
            }
            Err(fault) => return Err(self.failure("cannot read the rules of", &fault)),
        }
        match self.configuration("object-lock").await {
            Ok(found) => lock(&mut rules, found.as_ref()),
            Err(fault) if fault.status == Some(403) => {
                rules.unknown.push("s3:GetBucketObjectLockConfiguration".to_owned());
            }
            Err(fault) => return Err(self.failure("cannot read the Object Lock of", &fault)),
        }
        Ok(rules)
    }

    /// Puts our rule in the place of an earlier one of ours.
    pub(super) async fn set_rules(&self, prefix: &str, keep_days: u32) -> Result<bool> {
        let what = "cannot set the rules of";
        let full = format!("{}{prefix}", self.prefix);
        let found = self.configuration("lifecycle").await.map_err(|fault| self.failure(what, &fault))?;
        let id = format!("sankofa {full}");
        let others = found.iter().flat_map(|root| root.all("Rule")).filter(|rule| rule.text_of("ID") != id);
        let others: String = others.map(Element::write).collect();
        let body = format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{others}<Rule><ID>{}</ID>\
             <Filter><Prefix>{}</Prefix></Filter><Status>Enabled</Status>\
             <NoncurrentVersionExpiration><NoncurrentDays>{keep_days}</NoncurrentDays></NoncurrentVersionExpiration>\
             <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
             </Rule></LifecycleConfiguration>",
            escape(&id),
            escape(&full)
        );
        self.configure("lifecycle", body).await.map_err(|fault| self.failure(what, &fault))
    }

    /// Sets the retention that new objects get by default, where the bucket has Object Lock.
    pub(super) async fn set_default_lock(&self, days: u32, mode: LockMode) -> Result<bool> {
        let what = "cannot set the default lock of";
        let present = self.rules("").await?;
        if present.default_lock == Some((days, mode)) {
            return Ok(true);
        }
        if !present.can_lock && present.unknown.is_empty() {
            let hint = "Object Lock cannot be taken away again, so Sankofa does not enable it: make a bucket with it.";
            let what = format!("{what} {}: Object Lock is not enabled", self.place());
            return Err(Failure::config(what).hint(hint).into());
        }
        let body = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled\
             </ObjectLockEnabled><Rule><DefaultRetention><Mode>{}</Mode><Days>{days}</Days></DefaultRetention></Rule>\
             </ObjectLockConfiguration>",
            mode_word(mode)
        );
        self.configure("object-lock", body).await.map_err(|fault| self.failure(what, &fault))
    }

    /// Puts a whole configuration of the bucket; false where the store knows no such thing.
    async fn configure(&self, kind: &'static str, body: String) -> Result<bool, Fault> {
        let root = self.root();
        let mut call = Call::new(Method::PUT, &root).with(kind, "");
        call.headers.push(("content-type", "application/xml".to_owned()));
        call.headers.push(("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&body))));
        call.body = Bytes::from(body);
        match self.api.call(&call).await {
            Ok(_) => Ok(true),
            Err(fault) if ["NotImplemented", "MethodNotAllowed"].contains(&fault.code.as_str()) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

/// S3's word for a mode.
pub(super) fn mode_word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

fn add(rules: &mut Rules, rule: &Element, full: &str) {
    let filter = rule.find("Filter");
    let and = filter.and_then(|filter| filter.find("And"));
    let within = [Some(rule), filter, and].into_iter().flatten().find_map(|place| place.find("Prefix"));
    let within = within.map_or("", |prefix| prefix.text.as_str());
    let touches = full.starts_with(within) || within.starts_with(full);
    if rule.text_of("Status") != "Enabled" || !touches {
        return;
    }
    let days =
        |element: &str, name: &str| rule.find(element).and_then(|found| found.text_of(name).parse().ok());
    let earlier = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
    let by_date = rule.find("Expiration").filter(|found| found.find("Date").is_some()).map(|_| 0);
    rules.expires_after_days = earlier(rules.expires_after_days, days("Expiration", "Days").or(by_date));
    let hidden = days("NoncurrentVersionExpiration", "NoncurrentDays");
    rules.drops_hidden_after_days = earlier(rules.drops_hidden_after_days, hidden);
    let unfinished = days("AbortIncompleteMultipartUpload", "DaysAfterInitiation");
    rules.drops_unfinished_after_days = earlier(rules.drops_unfinished_after_days, unfinished);
}

fn lock(rules: &mut Rules, found: Option<&Element>) {
    let Some(found) = found.filter(|found| found.text_of("ObjectLockEnabled") == "Enabled") else { return };
    rules.can_lock = true;
    let Some(retention) = found.find("Rule").and_then(|rule| rule.find("DefaultRetention")) else { return };
    let days = retention.text_of("Days").parse().ok();
    let years = retention.text_of("Years").parse::<u32>().ok();
    let mode =
        if retention.text_of("Mode") == "COMPLIANCE" { LockMode::Compliance } else { LockMode::Governance };
    rules.default_lock = days.or(years.map(|years| years.saturating_mul(365))).map(|days| (days, mode));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(xml: &str, full: &str) -> Rules {
        let mut rules = Rules::default();
        Element::parse(xml.as_bytes()).unwrap().all("Rule").for_each(|rule| add(&mut rules, rule, full));
        rules
    }

    #[test]
    fn the_rules_that_touch_a_prefix_hold_and_the_earliest_of_them_counts() {
        let rule = |prefix: &str, status: &str, what: &str| {
            format!(
                "<Rule><Filter><And><Prefix>{prefix}</Prefix></And></Filter><Status>{status}</Status>{what}</Rule>"
            )
        };
        let expire = |days: u32| format!("<Expiration><Days>{days}</Days></Expiration>");
        let all = [
            rule("prod/", "Enabled", &expire(30)),
            rule("prod/hr/", "Enabled", &expire(20)),
            rule("dev/", "Enabled", &expire(3)),
            rule("prod/", "Disabled", &expire(1)),
            rule(
                "",
                "Enabled",
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
            ),
        ];
        let rules = rules_of(&format!("<C>{}</C>", all.concat()), "prod/");
        assert_eq!((rules.expires_after_days, rules.drops_unfinished_after_days), (Some(20), Some(2)));
        assert_eq!(rules.drops_hidden_after_days, None);
    }

    #[test]
    fn a_default_lock_is_read_in_days() {
        let xml = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
            <Mode>COMPLIANCE</Mode><Years>1</Years></DefaultRetention></Rule></ObjectLockConfiguration>";
        let mut rules = Rules::default();
        lock(&mut rules, Element::parse(xml).as_ref());
        assert!(rules.can_lock);
        assert_eq!(rules.default_lock, Some((365, LockMode::Compliance)));
    }
}
