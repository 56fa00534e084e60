//! The shared files of AWS's own tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! In:    their texts.
//! Out:   profiles as keys and values.
//! Holds: pure; what is no section and no `key = value` is passed over, as botocore does; values are
//!        overwritten when the profiles are dropped.
//! Not here: where the files are, what the keys mean (`chain`).

use std::collections::BTreeMap;
use zeroize::Zeroizing;

type Keys = BTreeMap<String, Zeroizing<String>>;

/// Profiles by name. It has no `Debug`.
#[derive(Default)]
pub(super) struct Profiles(BTreeMap<String, Keys>);

impl Profiles {
    /// The profiles of both files; for a key that both have, that of `credentials` counts.
    pub fn of(credentials: &str, config: &str) -> Profiles {
        let mut profiles = Profiles::default();
        profiles.read(config, |section| match section.strip_prefix("profile") {
            Some(name) if name.starts_with(char::is_whitespace) => Some(name.trim().trim_matches('"')),
            _ => Some(section).filter(|name| *name == "default"),
        });
        profiles.read(credentials, |section| Some(section));
        profiles
    }

    fn read(&mut self, text: &str, name_of: impl Fn(&str) -> Option<&str>) {
        let mut current: Option<String> = None;
        for line in text.lines() {
            // An indented line belongs to a nested section, such as `s3 =`.
            let is_comment = line.trim_start().starts_with(['#', ';']);
            if is_comment || line.trim().is_empty() || line.starts_with(char::is_whitespace) {
                continue;
            }
            if let Some(section) = line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                current = name_of(section.trim()).map(str::to_owned);
                if let Some(name) = &current {
                    self.0.entry(name.clone()).or_default();
                }
                continue;
            }
            if let (Some(name), Some((key, value))) = (&current, line.split_once('=')) {
                let keys = self.0.entry(name.clone()).or_default();
                keys.insert(key.trim().to_lowercase(), Zeroizing::new(value.trim().to_owned()));
            }
        }
    }

    /// Whether there is a profile called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What profile `name` has under `key`, if that is not empty.
    pub fn get(&self, name: &str, key: &str) -> Option<&str> {
        self.0.get(name)?.get(key).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_both_files_are_one_and_credentials_win() {
        let config = "# x\n[default]\nregion = eu-west-1\n[profile ops]\naws_access_key_id = old\nrole_arn=a = b\n\
                      s3 =\n  addressing_style = path\n[sso-session x]\nsso_region = r\n[profile \"with space\"]\nregion=q";
        let credentials =
            "[ops]\nAWS_Access_Key_Id = new\n ; x\n[default]\naws_secret_access_key = a#b;c = \n";
        let profiles = Profiles::of(credentials, config);
        assert_eq!(profiles.get("default", "region"), Some("eu-west-1"));
        assert_eq!(profiles.get("default", "aws_secret_access_key"), Some("a#b;c ="));
        assert_eq!(profiles.get("ops", "aws_access_key_id"), Some("new"));
        assert_eq!(profiles.get("ops", "role_arn"), Some("a = b"));
        assert_eq!(profiles.get("ops", "s3"), None);
        assert_eq!(profiles.get("with space", "region"), Some("q"));
        assert!(!profiles.has("sso-session x") && !profiles.has("x"));
    }
}
