//! What is known of a Vault before it is asked: where it is, how to log in, where secrets lie in it.
//!
//! Holds: no secret; secrets of a login are read from files and variables when it happens.

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A Vault, as the project names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// `http://` or `https://`, host and port; no path.
    pub address: String,
    /// Mount of the key-value engine; `None`: the first part of each id is the mount.
    pub mount: Option<String>,
    /// Paths of connections under the mount, asked in order; `""` for none in between, an empty list: none are here.
    pub connections: Vec<String>,
    /// Paths of variables, in the same way.
    pub variables: Vec<String>,
    /// Version of the key-value engine.
    pub kv: Kv,
    /// Namespace of Vault Enterprise and OpenBao.
    pub namespace: Option<String>,
    /// The one authority that the server's certificate is trusted by; `None`: the system's.
    pub ca_cert: Option<PathBuf>,
    /// Certificate and key that we show to the server.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// How to log in.
    pub auth: Auth,
    /// By connection id, the path that gives user and password.
    pub dynamic: BTreeMap<String, String>,
    /// How long one answer may take.
    pub timeout: Duration,
}

/// Version of a key-value engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kv {
    /// Without versions.
    One,
    /// With versions, that can be deleted and destroyed.
    Two,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// A role id and a secret id.
    Approle {
        /// Mount of the method.
        mount: String,
        /// The role.
        role_id: String,
        /// Where the secret id is; `None` for a role that wants none.
        secret_id: Option<SecretId>,
    },
    /// A token that somebody else made: in a file, else in `VAULT_TOKEN`.
    Token {
        /// The file.
        file: Option<PathBuf>,
    },
    /// A JSON web token that is read from its file at every login.
    Jwt {
        /// Mount of the method.
        mount: String,
        /// The role; the method's default without.
        role: Option<String>,
        /// The file; that of Nomad's `vault_default` identity without.
        file: Option<PathBuf>,
    },
    /// The token of a Kubernetes service account, read at every login.
    Kubernetes {
        /// Mount of the method.
        mount: String,
        /// The role.
        role: String,
        /// The file; where Kubernetes mounts it without.
        file: Option<PathBuf>,
    },
    /// The client certificate.
    Cert {
        /// Mount of the method.
        mount: String,
        /// The role; any that fits without.
        role: Option<String>,
    },
    /// An agent or proxy listens at the address and adds a token itself.
    Agent,
}

/// Where a secret id is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretId {
    /// Its file, or else `variable`.
    pub file: Option<PathBuf>,
    /// The variable of the environment that holds it.
    pub variable: Option<String>,
    /// Whether what is there is a response-wrapping token, to be unwrapped once.
    pub wrapped: bool,
}

impl Auth {
    /// Its word in the project file.
    pub fn word(&self) -> &'static str {
        match self {
            Auth::Approle { .. } => "approle",
            Auth::Token { .. } => "token",
            Auth::Jwt { .. } => "jwt",
            Auth::Kubernetes { .. } => "kubernetes",
            Auth::Cert { .. } => "cert",
            Auth::Agent => "agent",
        }
    }
}
