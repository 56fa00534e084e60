//! `sankofa.yaml` as it is written.
//!
//! In:    a tree. Out: [`ProjectFile`]. Not here: what is filled in (`resolve::project`).

use super::backups::{Backups, Drill};
use super::retention::RetentionKeys;
use super::{Form, No, Ordered};
use crate::config::model::Mask;
use crate::config::words::Length;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The operator's half of a project: where secrets, stores and the warehouse are, what is backed up,
/// and what no pipeline may read. It never holds a secret: connections are names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sankofa")]
pub struct ProjectFile {
    /// Version of this file's grammar.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Where connections and variables are asked for, in order; the first that has the id wins.
    /// The environment alone by default.
    pub secrets: Option<Vec<SecretKeys>>,
    /// Where backups and stages lie, by name.
    #[serde(default)]
    pub stores: Ordered<StoreKeys>,
    /// The warehouse; a project that only backs up databases needs none.
    pub warehouse: Option<WarehouseKeys>,
    /// Where `extract` puts what `validate` and `load` read.
    pub stage: Option<StageKeys>,
    /// What is backed up.
    pub backups: Option<Backups>,
    /// Where backups are restored to be proven.
    pub drill: Option<Drill>,
    /// What no pipeline file can loosen.
    #[serde(default)]
    pub guard: GuardKeys,
    /// Who is told.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// How long what is past is kept.
    #[serde(default)]
    pub retention: RetentionKeys,
    /// By name, what differs when `--env NAME` is given: merged onto this file key by key.
    #[serde(default)]
    pub environments: Ordered<Overlay>,
}

/// Keys of a file that differ in one environment.
#[derive(Clone, Debug)]
pub struct Overlay;

impl<'de> Deserialize<'de> for Overlay {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Overlay)
    }
}

impl JsonSchema for Overlay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Environment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Keys of this file that differ; mappings are merged, lists and words replaced."
        })
    }
}

/// One place that is asked for connections and variables.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SecretPlace")]
pub enum SecretKeys {
    /// `AIRFLOW_CONN_<ID>` and `AIRFLOW_VAR_<KEY>`, as Airflow itself.
    Environment,
    /// HashiCorp Vault, in the layout of Airflow's VaultBackend.
    Vault(Box<Vault>),
    /// AWS Secrets Manager, in the layout of Airflow's SecretsManagerBackend.
    AwsSecretsManager(Box<AwsSecretsManager>),
    /// Airflow's local files backend.
    Files(SecretFiles),
}

/// A Vault server, or OpenBao.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Its URL: scheme, host and port.
    pub address: String,
    /// Mount of the key-value engine; without it the first part of each id is the mount.
    pub mount: Option<String>,
    /// Path of connections under the mount, or several, asked in order; `connections` by default, `[]` for none here.
    pub connections: Option<Form<String, Vec<String>>>,
    /// Path of variables under the mount, or several; `variables` by default, `[]` for none here.
    pub variables: Option<Form<String, Vec<String>>>,
    /// Version of the key-value engine, 1 or 2; 2 by default.
    #[schemars(range(min = 1, max = 2))]
    pub kv: Option<u8>,
    /// Namespace.
    pub namespace: Option<String>,
    /// File with the certificate authority of the server; no other is trusted then.
    pub ca_cert: Option<String>,
    /// File with the certificate that we show to the server.
    pub client_cert: Option<String>,
    /// File with its key.
    pub client_key: Option<String>,
    /// How long one answer may take; 10s by default.
    pub timeout: Option<Length>,
    /// How to log in.
    pub auth: VaultAuth,
    /// By connection id, the path that leases user and password, such as `database/creds/ROLE`: one, or one a class.
    #[serde(default)]
    pub dynamic: Ordered<Form<String, No, Leased>>,
}

/// A path for each class of privileges; a class without one uses the connection's own user.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leased {
    /// For extract, validate, load, sync, and all that moves no backup.
    pub rows: Option<String>,
    /// For backup and backups.
    pub backup: Option<String>,
    /// For restore and drill.
    pub drill: Option<String>,
}

/// How to log in to Vault; secrets are read from files and variables, never written here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VaultAuth {
    /// AppRole.
    Approle {
        /// The role.
        role_id: String,
        /// File with the secret id.
        secret_id_file: Option<String>,
        /// Variable of the environment with the secret id, in place of a file.
        secret_id_env: Option<String>,
        /// Whether what is there is a response-wrapping token, to be unwrapped once: the token alone,
        /// or the whole `wrap_info` object, which tells an expired one from a stolen one.
        #[serde(default)]
        wrapped: bool,
        /// Mount of the auth method; `approle` by default.
        mount: Option<String>,
    },
    /// A token, from a file or `VAULT_TOKEN`.
    Token {
        /// File with the token.
        file: Option<String>,
    },
    /// A JSON web token, such as a Nomad workload identity.
    Jwt {
        /// The role; the method's default without.
        role: Option<String>,
        /// File with the JSON web token, read at every login; `nomad_vault_default.jwt` in `NOMAD_SECRETS_DIR` by default.
        file: Option<String>,
        /// Mount of the auth method; `jwt` by default.
        mount: Option<String>,
    },
    /// A Kubernetes service account.
    Kubernetes {
        /// The role.
        role: String,
        /// File with the service account's token, read at every login; where Kubernetes mounts it by default.
        file: Option<String>,
        /// Mount of the auth method; `kubernetes` by default.
        mount: Option<String>,
    },
    /// A client certificate.
    Cert {
        /// The role; any that fits without.
        role: Option<String>,
        /// File with the certificate.
        cert_file: String,
        /// File with its key.
        key_file: String,
        /// Mount of the auth method; `cert` by default.
        mount: Option<String>,
    },
    /// A Vault agent or proxy at the address that adds the token itself.
    Agent {},
}

/// AWS Secrets Manager. Who asks is found as AWS's own tools find it: environment, web identity,
/// profile, container, instance.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsSecretsManager {
    /// Region; that of the environment or the profile without it.
    pub region: Option<String>,
    /// What stands before the id in the name of a connection: `airflow/connections` by default; with
    /// `""` the id is the name; with `null` no connection is asked for.
    #[serde(default)]
    pub connections: Prefix,
    /// The same for variables; `airflow/variables` by default.
    #[serde(default)]
    pub variables: Prefix,
    /// What stands between the two; `/` by default.
    pub sep: Option<String>,
    /// More names of a connection's fields in a JSON secret, such as `{schema: [dbname]}`.
    #[serde(default)]
    pub extra_conn_words: Ordered<Vec<String>>,
    /// Profile of the shared files.
    pub profile: Option<String>,
    /// Role to assume before anything is asked.
    pub role_arn: Option<String>,
    /// URL of the service: a VPC endpoint, a test.
    pub endpoint_url: Option<String>,
}

/// What stands before an id: nothing said, a text, or `null`, which turns that kind off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prefix {
    /// As by default.
    #[default]
    Unsaid,
    /// This.
    Of(String),
    /// That kind is not asked for.
    Off,
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Prefix;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_unit<E>(self) -> Result<Prefix, E> {
                Ok(Prefix::Off)
            }

            fn visit_str<E>(self, text: &str) -> Result<Prefix, E> {
                Ok(Prefix::Of(text.to_owned()))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for Prefix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Prefix".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "null"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Files of Airflow's local filesystem backend: `.yaml`, `.json` or `.env`; relative to this file's directory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFiles {
    /// File with connections.
    pub connections: Option<String>,
    /// File with variables.
    pub variables: Option<String>,
}

/// Where objects lie.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Store")]
pub enum StoreKeys {
    /// A directory; relative to this file's.
    Directory(String),
    /// A Backblaze B2 bucket.
    B2(Bucket),
    /// An S3 bucket.
    S3(Bucket),
}

/// A bucket.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Id of the connection with the key.
    pub connection: String,
    /// Its name.
    pub bucket: String,
    /// What all names start with.
    pub prefix: Option<String>,
}

/// The warehouse.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Warehouse")]
pub struct WarehouseKeys {
    /// Id of its connection; its type says the kind.
    pub connection: String,
    /// Role that may read what is loaded.
    pub reader_role: Option<String>,
    /// Role under which `after:` SQL runs.
    pub after_role: Option<String>,
    /// Role that owns what is made.
    pub owner_role: Option<String>,
}

/// Where `extract` puts what `validate` and `load` read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Stage")]
pub struct StageKeys {
    /// Name of a store.
    pub store: String,
    /// age recipients; not encrypted without.
    #[serde(default)]
    pub encrypt_to: Vec<String>,
    /// Variable with the identity that `validate` and `load` decrypt with.
    pub identity: Option<String>,
    /// How long a stage is kept after its run has ended; 7d by default.
    pub keep: Option<Length>,
}

/// What no pipeline file can loosen. Patterns are `database.schema.table` or
/// `database.schema.table.column` as the catalog spells them, `*` for any run of characters; a part
/// with a dot in it stands in double quotes. Upper and lower case differ.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Guard")]
pub struct GuardKeys {
    /// Tables and columns that never leave a source.
    #[serde(default)]
    pub never: Vec<String>,
    /// Masks that always apply; the stricter of this and the pipeline's wins.
    #[serde(default)]
    pub mask: Ordered<Mask>,
    /// By source connection, the warehouse schemas it may fill; one not named may fill any.
    #[serde(default)]
    pub sources: Ordered<Vec<String>>,
}

/// One place that is told.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// An HTTP endpoint.
    pub webhook: Option<Webhook>,
    /// Mail.
    pub mail: Option<Mail>,
    /// Of what.
    pub when: Vec<Occasion>,
}

/// An HTTP endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Id of the connection.
    pub connection: String,
}

/// Mail.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Id of the SMTP connection.
    pub connection: String,
    /// Addresses.
    pub to: Vec<String>,
}

/// What somebody is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A run, backup or drill failed, and later is well again.
    Failure,
    /// `status` or `backups coverage` found something late, missing or not covered; and later no more.
    Late,
    /// One succeeded.
    Success,
}
