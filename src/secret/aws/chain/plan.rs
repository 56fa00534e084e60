//! Which way leads to credentials: botocore's order, decided before anybody is asked.
//!
//! In:    what the project says, the environment, the profiles.
//! Out:   a [`Way`].
//! Holds: pure; a way that this program does not go (SSO, a process, a second factor) is refused by its
//!        name rather than passed over, since the next one might be somebody else.
//! Not here: going it (`chain`).
//!
//! Source: botocore 1.44, `credentials.create_credential_resolver`: environment (unless a profile is
//! named), role of the profile, web identity, profile, container, instance.

use super::super::container::Endpoint;
use super::super::profile::Profiles;
use super::super::sts::Role;
use super::{Ambient, Who};
use crate::error::Failure;
use aws_credential_types::Credentials;
use std::path::PathBuf;

/// A way to credentials.
#[derive(Debug)]
pub(super) enum Way {
    /// They are there; where, in words.
    Keys(Credentials, &'static str),
    /// AssumeRoleWithWebIdentity with the token in this file.
    WebIdentity(Role, PathBuf),
    /// AssumeRole by whom another way leads to.
    Role(Role, Box<Way>),
    /// The endpoint of the container.
    Container(Endpoint),
    /// The metadata service of the instance.
    Instance,
    /// None is left: the metadata service is turned off.
    Nowhere,
}

impl Way {
    /// Where it begins, in words.
    pub fn word(&self) -> &'static str {
        match self {
            Way::Keys(_, word) => word,
            Way::WebIdentity(..) => "web identity",
            Way::Role(..) => "role of a profile",
            Way::Container(_) => "container endpoint",
            Way::Instance => "instance metadata",
            Way::Nowhere => "nowhere",
        }
    }
}

const HINT: &str = "Give them as AWS's own tools take them: a role of the machine or container, a web identity \
                    (AWS_WEB_IDENTITY_TOKEN_FILE), a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.";

/// There are no credentials; `why` more is known.
pub(in crate::secret::aws) fn none_found(why: &str) -> anyhow::Error {
    let what = format!("cannot ask AWS: no credentials in the environment, a profile or a container{why}");
    Failure::permission(what).hint(HINT).into()
}

/// The way to the credentials of `who`.
///
/// # Errors
/// 78 for a profile that is not there, is broken, or asks for what is not done here; 77 for half a key.
pub(super) fn plan(who: &Who, ambient: &Ambient, profiles: &Profiles) -> Result<Way, Failure> {
    if who.profile.is_none()
        && let Some(way) = by_environment(ambient)?
    {
        return Ok(way);
    }
    let asked = who.profile.clone().or_else(|| ambient.get("AWS_PROFILE"));
    let name = asked.clone().unwrap_or_else(|| "default".to_owned());
    if asked.is_some() && !profiles.has(&name) {
        return Err(Failure::config(format!("cannot ask AWS: there is no profile {name}"))
            .hint("Look at AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE."));
    }
    let profile = Profile { name: &name, all: profiles, ambient };
    let role = if profile.get("role_arn").is_some() { profile.role(&mut Vec::new())? } else { None };
    if let Some(way) = role {
        return Ok(way);
    }
    if who.profile.is_none()
        && let Some(file) = ambient.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    {
        let arn = ambient.get("AWS_ROLE_ARN").ok_or_else(|| {
            Failure::config("cannot ask AWS: AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not")
        })?;
        let role = Role { arn, session: ambient.get("AWS_ROLE_SESSION_NAME"), ..Role::default() };
        return Ok(Way::WebIdentity(role, file.into()));
    }
    if let Some(way) = profile.own_keys()? {
        return Ok(way);
    }
    by_machine(ambient)
}

fn by_environment(ambient: &Ambient) -> Result<Option<Way>, Failure> {
    match (ambient.get("AWS_ACCESS_KEY_ID"), ambient.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(key)) => {
            let token = ambient.get("AWS_SESSION_TOKEN").or_else(|| ambient.get("AWS_SECURITY_TOKEN"));
            Ok(Some(Way::Keys(Credentials::new(id, key, token, None, "environment"), "environment")))
        }
        (Some(_), None) => Err(Failure::permission(
            "cannot ask AWS: AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not",
        )),
        _ => Ok(None),
    }
}

fn by_machine(ambient: &Ambient) -> Result<Way, Failure> {
    match Endpoint::of(ambient)? {
        Some(endpoint) => Ok(Way::Container(endpoint)),
        None if ambient.is_on("AWS_EC2_METADATA_DISABLED") => Ok(Way::Nowhere),
        None => Ok(Way::Instance),
    }
}

/// One profile among all.
struct Profile<'a> {
    name: &'a str,
    all: &'a Profiles,
    ambient: &'a Ambient,
}

impl<'a> Profile<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.all.get(self.name, key)
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::config(format!("cannot ask AWS: profile {} {why}", self.name))
    }

    /// Keys that stand in the profile.
    fn own_keys(&self) -> Result<Option<Way>, Failure> {
        if self.get("sso_session").or(self.get("sso_account_id")).or(self.get("sso_start_url")).is_some() {
            let hint = "A person logs in by SSO, a service does not: give it a role.";
            return Err(self.wrong("logs in by SSO, which is not done here").hint(hint));
        }
        match (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            (Some(id), Some(key)) => {
                let token = self.get("aws_session_token").map(str::to_owned);
                Ok(Some(Way::Keys(Credentials::new(id, key, token, None, "profile"), "profile")))
            }
            (Some(_), None) => Err(self.wrong("has aws_access_key_id without aws_secret_access_key")),
            _ if self.get("credential_process").is_some() => {
                let hint = "No program is started for a secret: let it write a profile, or give a role.";
                Err(self.wrong("has a credential_process, which is not run here").hint(hint))
            }
            _ if self.get("login_session").is_some() => {
                Err(self.wrong("has a login_session, which is not done here").hint("Give it a role."))
            }
            _ => Ok(None),
        }
    }

    /// The role of the profile, and whoever assumes it; `seen` are the profiles on the way here.
    fn role(&self, seen: &mut Vec<String>) -> Result<Option<Way>, Failure> {
        let Some(arn) = self.get("role_arn") else { return Ok(None) };
        if self.get("mfa_serial").is_some() {
            return Err(self.wrong("asks for a second factor, which nobody is here to give"));
        }
        let role = Role {
            arn: arn.to_owned(),
            session: self.get("role_session_name").map(str::to_owned),
            external_id: self.get("external_id").map(str::to_owned),
            seconds: self.get("duration_seconds").and_then(|text| text.parse().ok()),
        };
        if let Some(file) = self.get("web_identity_token_file") {
            return Ok(Some(Way::WebIdentity(role, file.into())));
        }
        seen.push(self.name.to_owned());
        let base = match (self.get("source_profile"), self.get("credential_source")) {
            (Some(_), Some(_)) => return Err(self.wrong("has source_profile beside credential_source")),
            (Some(name), None) => self.source(name, seen)?,
            (None, Some("Environment")) => by_environment(self.ambient)?
                .ok_or_else(|| self.wrong("wants keys of the environment: there are none"))?,
            (None, Some("EcsContainer")) => Endpoint::of(self.ambient)?
                .map(Way::Container)
                .ok_or_else(|| self.wrong("wants those of a container: no endpoint is named"))?,
            (None, Some("Ec2InstanceMetadata")) => Way::Instance,
            (None, Some(_)) => {
                let hint = "There are: Environment, EcsContainer, Ec2InstanceMetadata.";
                return Err(self.wrong("has a credential_source that there is not").hint(hint));
            }
            (None, None) => return Err(self.wrong("has a role_arn, and nobody to assume it")),
        };
        Ok(Some(Way::Role(role, Box::new(base))))
    }

    fn source(&self, name: &'a str, seen: &mut Vec<String>) -> Result<Way, Failure> {
        let source = Profile { name, ..*self };
        if !self.all.has(name) {
            return Err(self.wrong(&format!("names a source_profile {name} that is not there")));
        }
        if name == self.name {
            // A profile may name itself for the keys that stand in it.
            return source.own_keys()?.ok_or_else(|| self.wrong("names itself as its source_profile"));
        }
        if seen.iter().any(|one| one == name) {
            return Err(self.wrong("leads back to itself by source_profile"));
        }
        match (source.own_keys(), source.role(seen)) {
            (Ok(Some(keys)), _) if source.get("role_arn").is_none() => Ok(keys),
            (_, Ok(Some(role))) => Ok(role),
            (Ok(Some(keys)), _) => Ok(keys),
            (Err(why), _) | (_, Err(why)) => Err(why),
            (Ok(None), Ok(None)) => Err(source.wrong("has no keys and no role")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn way(variables: &[(&str, &str)], config: &str) -> Result<Way, Failure> {
        let who = Who::default();
        plan(&who, &Ambient::given(variables.iter().copied()), &Profiles::of("", config))
    }

    fn told(variables: &[(&str, &str)], config: &str) -> (Kind, String) {
        let failure = way(variables, config).unwrap_err();
        assert!(!failure.what.contains("MARK"), "{}", failure.what);
        (failure.kind, failure.what)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "MARK")];

    #[test]
    fn the_environment_comes_first_then_a_role_web_identity_the_profile_a_container_the_instance() {
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
        let all: Vec<_> = KEYS.into_iter().chain(web).chain(container).collect();
        let keys = "[default]\naws_access_key_id=a\naws_secret_access_key=b\n";
        let role = format!("{keys}role_arn = r\nsource_profile = default\n");
        assert_eq!(way(&all, &role).unwrap().word(), "environment");
        assert_eq!(way(&all[2..], &role).unwrap().word(), "role of a profile");
        assert_eq!(way(&all[2..], keys).unwrap().word(), "web identity");
        assert_eq!(way(&all[4..], keys).unwrap().word(), "profile");
        assert_eq!(way(&all[4..], "").unwrap().word(), "container endpoint");
        assert_eq!(way(&[], "").unwrap().word(), "instance metadata");
        assert_eq!(way(&[("AWS_EC2_METADATA_DISABLED", "True")], "").unwrap().word(), "nowhere");
    }

    #[test]
    fn a_profile_that_the_project_names_leaves_the_environments_keys_aside() {
        let who = Who { profile: Some("ops".into()), ..Who::default() };
        let profiles = Profiles::of("[ops]\naws_access_key_id=a\naws_secret_access_key=b\n", "");
        let way = plan(&who, &Ambient::given(KEYS), &profiles).unwrap();
        assert_eq!(way.word(), "profile");
        // AWS_PROFILE alone does not, as in botocore.
        let both: Vec<_> = KEYS.into_iter().chain([("AWS_PROFILE", "none")]).collect();
        assert_eq!(
            super::plan(&Who::default(), &Ambient::given(both), &profiles).unwrap().word(),
            "environment"
        );
    }

    #[test]
    fn roles_lead_through_their_sources_and_not_in_circles() {
        let chain = "[profile a]\nrole_arn=ra\nsource_profile=b\nexternal_id=e\n[profile b]\nrole_arn=rb\nsource_profile=c\n\
                     [profile c]\naws_access_key_id=a\naws_secret_access_key=b\n";
        let Way::Role(first, base) = way(&[("AWS_PROFILE", "a")], chain).unwrap() else { panic!() };
        let Way::Role(second, base) = *base else { panic!() };
        assert_eq!(
            (first.arn.as_str(), first.external_id.as_deref(), second.arn.as_str()),
            ("ra", Some("e"), "rb")
        );
        assert_eq!(base.word(), "profile");
        let circle = chain.replace("source_profile=c", "source_profile=a");
        assert!(told(&[("AWS_PROFILE", "a")], &circle).1.contains("leads back to itself"));
        let by_machine = "[default]\nrole_arn=r\ncredential_source=Ec2InstanceMetadata\n";
        let Way::Role(_, base) = way(&[], by_machine).unwrap() else { panic!() };
        assert_eq!(base.word(), "instance metadata");
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_its_name() {
        for (config, word) in [
            ("[default]\nsso_session = MARK\n", "SSO"),
            ("[default]\nsso_start_url = MARK\nsso_account_id = 1\n", "SSO"),
            ("[default]\ncredential_process = MARK\n", "credential_process"),
            ("[default]\nlogin_session = MARK\n", "login_session"),
            ("[default]\nrole_arn = r\nmfa_serial = MARK\nsource_profile = default\n", "second factor"),
            ("[default]\nrole_arn = r\n", "nobody to assume it"),
            ("[default]\nrole_arn = r\ncredential_source = MARK\n", "credential_source"),
            ("[default]\nrole_arn = r\nsource_profile = x\ncredential_source = MARK\n", "beside"),
            ("[default]\nrole_arn = r\nsource_profile = gone\n", "not there"),
            ("[default]\naws_access_key_id = MARK\n", "without aws_secret_access_key"),
        ] {
            let (kind, what) = told(&[], config);
            assert!(kind == Kind::Config && what.contains(word), "{config}: {what}");
        }
        assert!(told(&[("AWS_PROFILE", "x")], "").1.contains("no profile x"));
        assert_eq!(told(&[KEYS[0]], "").0, Kind::Permission);
        assert!(told(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], "").1.contains("AWS_ROLE_ARN"));
    }

    #[test]
    fn a_container_endpoint_elsewhere_is_refused() {
        for url in
            ["http://10.0.0.1/x", "http://169.254.170.2.evil/x", "ftp://127.0.0.1", "http://a:b@127.0.0.1/"]
        {
            let (kind, what) = told(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)], "");
            assert!(kind == Kind::Config && !what.contains(url), "{url}: {what}");
        }
        for url in [
            "http://127.0.0.1:1/x",
            "http://[::1]/x",
            "https://example.org/x",
            "http://169.254.170.23/v1/credentials",
        ] {
            assert!(way(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)], "").is_ok(), "{url}");
        }
    }
}
