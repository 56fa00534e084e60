//! `vault:` of `secrets:` -> [`VaultPlace`].
//!
//! In:    the keys. Out: where that Vault is, how to log in, where secrets lie in it.
//! Holds: files are relative to sankofa.yaml; an address is `http` or `https`, a host, maybe a port.

use super::At;
use crate::config::model::VaultPlace;
use crate::config::needs::Class;
use crate::config::node::Fault;
use crate::config::raw::Form;
use crate::config::raw::project::{Vault, VaultAuth};
use crate::secret::vault::{Auth, Kv, SecretId, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Resolves the `index`th place of `secrets:`, a Vault; `home` is the directory of sankofa.yaml.
///
/// # Errors
/// A [`Fault`] at the first key that is wrong.
pub(super) fn place(at: At<'_>, index: usize, keys: &Vault, home: &Path) -> Result<VaultPlace, Fault> {
    let index = index.to_string();
    let here = Here { at, path: ["secrets", &index, "vault"] };
    let file = |path: &String| home.join(path);
    let client_cert = match (&keys.client_cert, &keys.client_key, &keys.auth) {
        (_, _, VaultAuth::Cert { cert_file, key_file, .. }) => Some((file(cert_file), file(key_file))),
        (Some(certificate), Some(key), _) => Some((file(certificate), file(key))),
        (None, None, _) => None,
        _ => return Err(here.fault(&["client_cert"], "`client_cert` and `client_key` come together")),
    };
    let (dynamic, dynamic_by_class) = here.dynamic(keys)?;
    let settings = Settings {
        address: here.address(&keys.address)?,
        mount: keys.mount.as_ref().map(|mount| here.mount(&["mount"], mount)).transpose()?,
        connections: here.paths("connections", keys.connections.as_ref())?,
        variables: here.paths("variables", keys.variables.as_ref())?,
        kv: match keys.kv {
            None | Some(2) => Kv::Two,
            Some(1) => Kv::One,
            Some(_) => return Err(here.fault(&["kv"], "expected 1 or 2")),
        },
        namespace: here.namespace(keys.namespace.as_ref())?,
        ca_cert: keys.ca_cert.as_ref().map(file),
        client_cert,
        auth: here.auth(&keys.auth, home)?,
        dynamic,
        timeout: here.timeout(keys.timeout.map_or(TIMEOUT, |length| length.0))?,
    };
    Ok(VaultPlace { settings, dynamic_by_class })
}

/// Paths that give users: for every class, and for one each.
type Leases = (BTreeMap<String, String>, BTreeMap<String, BTreeMap<Class, String>>);

/// One Vault in the tree.
struct Here<'a> {
    at: At<'a>,
    path: [&'a str; 3],
}

impl Here<'_> {
    fn fault(&self, keys: &[&str], what: &str) -> Fault {
        let full: Vec<&str> = self.path.iter().chain(keys).copied().collect();
        self.at.fault(&full, what)
    }

    fn address(&self, text: &str) -> Result<String, Fault> {
        let url = reqwest::Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && matches!(url.path(), "" | "/")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let fault =
            || self.fault(&["address"], "expected a URL such as https://vault.example:8200, without a path");
        url.map(|url| url.as_str().trim_end_matches('/').to_owned()).ok_or_else(fault)
    }

    /// A mount or a path of Vault: parts between slashes, none of them empty or a step up.
    fn mount(&self, keys: &[&str], text: &str) -> Result<String, Fault> {
        let text = text.trim_matches('/');
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        if text.split('/').all(is_part) {
            return Ok(text.to_owned());
        }
        Err(self.fault(keys, "expected a path of Vault such as airflow or team/kv"))
    }

    fn paths(&self, key: &str, form: Option<&Form<String, Vec<String>>>) -> Result<Vec<String>, Fault> {
        let list = match form {
            None => return Ok(vec![key.to_owned()]),
            Some(Form::Word(path)) => std::slice::from_ref(path),
            Some(Form::List(paths)) => paths.as_slice(),
            Some(Form::Keys(no)) => match *no {},
        };
        let path = |path: &String| if path.is_empty() { Ok(String::new()) } else { self.mount(&[key], path) };
        list.iter().map(path).collect()
    }

    fn namespace(&self, text: Option<&String>) -> Result<Option<String>, Fault> {
        match text {
            Some(text) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(self.fault(&["namespace"], "expected a namespace without white space"))
            }
            text => Ok(text.cloned()),
        }
    }

    fn timeout(&self, timeout: Duration) -> Result<Duration, Fault> {
        let allowed = Duration::from_millis(100)..=Duration::from_secs(300);
        let fault = || self.fault(&["timeout"], "expected 100ms to 5m");
        allowed.contains(&timeout).then_some(timeout).ok_or_else(fault)
    }

    fn dynamic(&self, keys: &Vault) -> Result<Leases, Fault> {
        let mut leases = Leases::default();
        for (id, form) in &keys.dynamic.0 {
            match form {
                Form::Word(path) => drop(leases.0.insert(id.clone(), self.lease(&[id], path)?)),
                Form::List(no) => match *no {},
                Form::Keys(keys) => {
                    let all = [&keys.rows, &keys.backup, &keys.drill];
                    let paths = Class::ALL
                        .into_iter()
                        .zip(all)
                        .filter_map(|(class, path)| Some((class, path.as_ref()?)));
                    let lease =
                        |(class, path): (Class, &String)| Ok((class, self.lease(&[id, class.word()], path)?));
                    leases.1.insert(id.clone(), paths.map(lease).collect::<Result<_, Fault>>()?);
                }
            }
        }
        Ok(leases)
    }

    /// A path of Vault that gives user and password.
    fn lease(&self, keys: &[&str], path: &str) -> Result<String, Fault> {
        let keys = [&["dynamic"], keys].concat();
        let path = self.mount(&keys, path)?;
        if path.contains("/creds/") || path.contains("/static-creds/") {
            return Ok(path);
        }
        Err(self.fault(&keys, "expected MOUNT/creds/ROLE or MOUNT/static-creds/ROLE"))
    }

    fn auth(&self, auth: &VaultAuth, home: &Path) -> Result<Auth, Fault> {
        let file = |path: &Option<String>| -> Option<PathBuf> { path.as_ref().map(|path| home.join(path)) };
        let mount = |mount: &Option<String>, word: &str| {
            let text = mount.as_deref().unwrap_or(word);
            self.mount(&["auth", word, "mount"], text.strip_prefix("auth/").unwrap_or(text))
        };
        Ok(match auth {
            VaultAuth::Agent {} => Auth::Agent,
            VaultAuth::Token { file: path } => Auth::Token { file: file(path) },
            VaultAuth::Approle { role_id, secret_id_file, secret_id_env, wrapped, mount: at } => {
                if secret_id_file.is_some() == secret_id_env.is_some() {
                    let what = "expected one of secret_id_file, secret_id_env";
                    return Err(self.fault(&["auth", "approle"], what));
                }
                let (path, variable) = (file(secret_id_file), secret_id_env.clone());
                let secret_id = Some(SecretId { file: path, variable, wrapped: *wrapped });
                Auth::Approle { mount: mount(at, "approle")?, role_id: role_id.clone(), secret_id }
            }
            VaultAuth::Jwt { role, file: path, mount: at } => {
                Auth::Jwt { mount: mount(at, "jwt")?, role: role.clone(), file: file(path) }
            }
            VaultAuth::Kubernetes { role, file: path, mount: at } => {
                Auth::Kubernetes { mount: mount(at, "kubernetes")?, role: role.clone(), file: file(path) }
            }
            VaultAuth::Cert { role, mount: at, .. } => {
                Auth::Cert { mount: mount(at, "cert")?, role: role.clone() }
            }
        })
    }
}
