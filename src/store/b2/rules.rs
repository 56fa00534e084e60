//! What a bucket does to files by itself: lifecycle rules, Object Lock.
//!
//! In:    a bucket as `b2_list_buckets` tells it, a prefix of names.
//! Out:   [`Rules`] for the prefix; the rules that a bucket should have.
//! Holds: pure; a rule that also covers somebody else's files is never changed.
//! Not here: the calls (`store::b2`), what retention wants (`backup::retention`).

// Own JSON, since backblaze-b2-client 0.2.1 can read no bucket at all, spells the rules
// `lifeCycleRules`, lacks the field for unfinished files, and drops the lock (definitions/shared.rs:101,
// :204, :593 to :605).

use crate::store::{LockMode, Rules};
use serde_json::{Value, json};

const HIDING: &str = "daysFromUploadingToHiding";
const DELETING: &str = "daysFromHidingToDeleting";
const CANCELING: &str = "daysFromStartingToCancelingUnfinishedLargeFiles";

fn days(rule: &Value, field: &str) -> Option<u32> {
    rule[field].as_u64().and_then(|days| u32::try_from(days).ok())
}

fn covered(rule: &Value) -> &str {
    rule["fileNamePrefix"].as_str().unwrap_or_default()
}

/// What `bucket` does to files whose names start with `prefix`.
pub(super) fn read(bucket: &Value, prefix: &str) -> Rules {
    let mut rules = Rules::default();
    match bucket["lifecycleRules"].as_array() {
        None => rules.unknown.push("lifecycle rules: the key needs readBucketLifecycleRules".to_owned()),
        Some(all) => {
            // Some of our files fall to a narrower rule: what it hides is lost all the same.
            let near = all
                .iter()
                .filter(|rule| prefix.starts_with(covered(rule)) || covered(rule).starts_with(prefix));
            rules.expires_after_days = near.filter_map(|rule| days(rule, HIDING)).min();
            let over: Vec<&Value> = all.iter().filter(|rule| prefix.starts_with(covered(rule))).collect();
            rules.drops_hidden_after_days = over.iter().filter_map(|rule| days(rule, DELETING)).min();
            rules.drops_unfinished_after_days = over.iter().filter_map(|rule| days(rule, CANCELING)).min();
        }
    }
    let lock = &bucket["fileLockConfiguration"];
    if lock["isClientAuthorizedToRead"] == false {
        rules.unknown.push("Object Lock: the key needs readBucketRetentions".to_owned());
    }
    rules.can_lock = lock["value"]["isFileLockEnabled"] == true;
    rules.default_lock = default_lock(&lock["value"]["defaultRetention"]);
    rules
}

fn default_lock(retention: &Value) -> Option<(u32, LockMode)> {
    let mode = match retention["mode"].as_str()? {
        "compliance" => LockMode::Compliance,
        _ => LockMode::Governance,
    };
    let count = days(&retention["period"], "duration")?;
    let days = if retention["period"]["unit"] == "years" { count.saturating_mul(365) } else { count };
    Some((days, mode))
}

/// `defaultRetention` for `b2_update_bucket`.
pub(super) fn default_retention(days: u32, mode: LockMode) -> Value {
    json!({"mode": mode_word(mode), "period": {"duration": days.max(1), "unit": "days"}})
}

/// B2's word for a mode.
pub(super) fn mode_word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "governance",
        LockMode::Compliance => "compliance",
    }
}

/// What is to become of a bucket's lifecycle rules.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// They are right as they are.
    Nothing,
    /// These in place of all that are there.
    To(Value),
    /// The rule for this prefix is in the way, and covers more than ours.
    InTheWay(String),
}

/// The rules of `bucket` so that under `prefix` nothing is hidden by itself, hidden versions go after
/// `keep_days`, and unfinished files after a day.
pub(super) fn wanted(bucket: &Value, prefix: &str, keep_days: u32) -> Change {
    let own = json!({"fileNamePrefix": prefix, HIDING: null, DELETING: keep_days.max(1), CANCELING: 1});
    let present = bucket["lifecycleRules"].as_array().cloned().unwrap_or_default();
    let is_right = |rule: &Value| [HIDING, DELETING, CANCELING].iter().all(|field| rule[field] == own[field]);
    // B2 refuses two rules of which one covers the other.
    let wider = present.iter().find(|rule| prefix.starts_with(covered(rule)) && covered(rule) != prefix);
    if let Some(rule) = wider {
        return if is_right(rule) { Change::Nothing } else { Change::InTheWay(covered(rule).to_owned()) };
    }
    let (ours, mut others): (Vec<Value>, Vec<Value>) =
        present.into_iter().partition(|rule| covered(rule).starts_with(prefix));
    if ours.len() == 1 && covered(&ours[0]) == prefix && is_right(&ours[0]) {
        return Change::Nothing;
    }
    others.push(own);
    Change::To(Value::Array(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, hiding: Option<u32>, deleting: Option<u32>, canceling: Option<u32>) -> Value {
        json!({"fileNamePrefix": prefix, HIDING: hiding, DELETING: deleting, CANCELING: canceling})
    }

    fn bucket(rules: &[Value]) -> Value {
        json!({"lifecycleRules": rules, "fileLockConfiguration": {"isClientAuthorizedToRead": true,
            "value": {"isFileLockEnabled": true, "defaultRetention":
                {"mode": "compliance", "period": {"duration": 2, "unit": "years"}}}}})
    }

    #[test]
    fn a_rule_that_hides_what_is_current_is_found_be_it_wider_or_narrower() {
        for prefix in ["", "pr", "prod/", "prod/hr/"] {
            let rules = read(&bucket(&[rule(prefix, Some(30), Some(1), None)]), "prod/");
            assert_eq!(rules.expires_after_days, Some(30), "{prefix}");
        }
        let other = read(&bucket(&[rule("other/", Some(30), Some(1), Some(1))]), "prod/");
        assert_eq!((other.expires_after_days, other.drops_hidden_after_days), (None, None));
    }

    #[test]
    fn what_is_dropped_counts_only_where_all_of_ours_is_covered() {
        let narrow = read(&bucket(&[rule("prod/hr/", None, Some(7), Some(3))]), "prod/");
        assert_eq!((narrow.drops_hidden_after_days, narrow.drops_unfinished_after_days), (None, None));
        let wide = read(&bucket(&[rule("", None, Some(7), Some(3))]), "prod/");
        assert_eq!((wide.drops_hidden_after_days, wide.drops_unfinished_after_days), (Some(7), Some(3)));
        assert_eq!((wide.can_lock, wide.default_lock), (true, Some((730, LockMode::Compliance))));
    }

    #[test]
    fn what_the_key_may_not_read_is_unknown_and_not_absent() {
        let hidden = json!({"fileLockConfiguration": {"isClientAuthorizedToRead": false, "value": null}});
        let rules = read(&hidden, "prod/");
        assert_eq!(rules.unknown.len(), 2);
        assert!(rules.unknown[1].contains("readBucketRetentions"));
    }

    #[test]
    fn ours_replace_ours_and_leave_those_of_others() {
        let other = rule("other/", Some(30), Some(1), None);
        let before = bucket(&[rule("prod/", Some(30), None, None), other.clone()]);
        let own = rule("prod/", None, Some(30), Some(1));
        assert_eq!(wanted(&before, "prod/", 30), Change::To(json!([other.clone(), own])));
        let narrower = bucket(&[rule("prod/hr/", Some(3), None, None), other.clone()]);
        assert_eq!(wanted(&narrower, "prod/", 30), Change::To(json!([other, own])));
    }

    #[test]
    fn rules_that_are_right_stay_and_one_that_covers_others_is_never_changed() {
        let right = bucket(&[rule("prod/", None, Some(30), Some(1))]);
        assert_eq!(wanted(&right, "prod/", 30), Change::Nothing);
        let right_and_wider = bucket(&[rule("", None, Some(30), Some(1))]);
        assert_eq!(wanted(&right_and_wider, "prod/", 30), Change::Nothing);
        let wider = bucket(&[rule("p", Some(30), Some(1), None)]);
        assert_eq!(wanted(&wider, "prod/", 30), Change::InTheWay("p".into()));
    }
}
