//! Application keys, the tokens they get, and what a token may do.

use base64::Engine;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal};
use super::server::Doors;
use super::state::{Shape, State};

pub const ACCOUNT: &str = "4a5b6c7d8e9f";
const TOKEN_MS: u64 = 24 * 3600 * 1000;

/// What a new key may do. Made by [`KeySpec::new`].
#[derive(Clone, Debug, Default)]
pub struct KeySpec {
    pub capabilities: Vec<String>,
    pub buckets: Vec<String>,
    pub prefix: Option<String>,
    pub expires_ms: Option<u64>,
}

impl KeySpec {
    /// A key with these capabilities, for every bucket.
    pub fn new(capabilities: &[&str]) -> KeySpec {
        let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
        KeySpec { capabilities, ..KeySpec::default() }
    }

    /// One that may do what a key may do at all.
    pub fn all() -> KeySpec {
        KeySpec::new(&[
            "listKeys",
            "writeKeys",
            "deleteKeys",
            "listBuckets",
            "listAllBucketNames",
            "readBuckets",
            "writeBuckets",
            "deleteBuckets",
            "readBucketEncryption",
            "writeBucketEncryption",
            "readBucketRetentions",
            "writeBucketRetentions",
            "readFileRetentions",
            "writeFileRetentions",
            "readFileLegalHolds",
            "writeFileLegalHolds",
            "bypassGovernance",
            "listFiles",
            "readFiles",
            "shareFiles",
            "writeFiles",
            "deleteFiles",
        ])
    }

    /// Takes one capability away.
    #[must_use]
    pub fn without(mut self, capability: &str) -> KeySpec {
        self.capabilities.retain(|name| name != capability);
        self
    }

    /// Only for this bucket; said twice, for both.
    #[must_use]
    pub fn bucket(mut self, name: &str) -> KeySpec {
        self.buckets.push(name.to_owned());
        self
    }

    /// Only for names that begin so.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> KeySpec {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// Only until then, ms since 1970.
    #[must_use]
    pub fn until_ms(mut self, expires_ms: u64) -> KeySpec {
        self.expires_ms = Some(expires_ms);
        self
    }
}

/// An application key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// An account token.
pub struct Token {
    pub key_id: String,
    pub expires_ms: u64,
}

/// What a token is good for, once it is known to be good.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    pub key_id: String,
    pub capabilities: Vec<String>,
    pub bucket_ids: Option<Vec<String>>,
    pub prefix: String,
}

impl Rights {
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|name| name == capability)
    }

    /// Refuses what lacks a capability.
    pub fn need(&self, capability: &str) -> Outcome<()> {
        self.has(capability).then_some(()).ok_or_else(Refusal::unauthorized)
    }

    /// Whether the key is bound to buckets.
    pub fn is_bound(&self) -> bool {
        self.bucket_ids.is_some()
    }

    /// Refuses another bucket than the key's.
    pub fn need_bucket(&self, id: &str) -> Outcome<()> {
        let is_allowed = self.bucket_ids.as_ref().is_none_or(|ids| ids.iter().any(|own| own == id));
        is_allowed.then_some(()).ok_or_else(Refusal::unauthorized)
    }

    /// Refuses a name, or a prefix of names, outside the key's.
    pub fn need_name(&self, name: &str) -> Outcome<()> {
        name.starts_with(&self.prefix).then_some(()).ok_or_else(Refusal::unauthorized)
    }
}

impl State {
    pub fn make_key(&mut self, spec: KeySpec) -> Key {
        let number = self.count();
        let id = format!("0044a5b6c7d8e9f{number:010}");
        // Of a length whose base64 needs padding, so that a client that forgets it is found out.
        let key = Key { id, secret: format!("K004obviouslyFakeSecrets{number:08}") };
        self.keys.push((key.clone(), spec));
        key
    }

    pub fn revoke(&mut self, key: &Key) {
        self.keys.retain(|(own, _)| own != key);
        self.tokens.retain(|_, token| token.key_id != key.id);
    }

    pub fn expire_tokens(&mut self) {
        self.tokens.values_mut().for_each(|token| token.expires_ms = 0);
    }

    /// `b2_authorize_account`.
    pub fn authorize(&mut self, header: Option<&str>, version: u32, doors: &Doors) -> Outcome<Answer> {
        let (id, secret) = basic(header)?;
        let known = self.keys.iter().find(|(key, _)| key.id == id && key.secret == secret);
        let Some((key, spec)) = known.cloned() else { return Err(Refusal::bad_token()) };
        let now = self.now_ms();
        if spec.expires_ms.is_some_and(|end| end <= now) {
            return Err(Refusal::unauthorized());
        }
        let shape = if self.switches.shape == Shape::V3 { 3 } else { version };
        if shape < 4 && spec.buckets.len() > 1 {
            return Err(Refusal::bad_request("Keys with several buckets need version 4 of the API"));
        }
        let token = format!("4_{}_{:06}_acct_obviously_fake", key.id, self.count());
        let expires_ms = (now + TOKEN_MS).min(spec.expires_ms.unwrap_or(u64::MAX));
        self.tokens.insert(token.clone(), Token { key_id: key.id, expires_ms });
        Ok(Answer::json(json!({
            "accountId": ACCOUNT,
            "apiInfo": self.api_info(&spec, shape, doors),
            "applicationKeyExpirationTimestamp": spec.expires_ms,
            "authorizationToken": token,
        })))
    }

    fn api_info(&self, spec: &KeySpec, shape: u32, doors: &Doors) -> Value {
        let mut capabilities = spec.capabilities.clone();
        if self.switches.has_unknowns {
            capabilities.push("dreamOfFiles".to_owned());
        }
        let ids = |name: &String| self.bucket_named(name).map(|bucket| bucket.id.clone());
        let mut storage = json!({
            "absoluteMinimumPartSize": self.switches.min_part_bytes,
            "apiUrl": doors.api,
            "downloadUrl": doors.download,
            "recommendedPartSize": self.switches.recommended_part_bytes,
            "s3ApiUrl": "https://s3.us-west-004.invalid",
        });
        if shape >= 4 {
            let rows = spec.buckets.iter().map(|name| match ids(name) {
                Some(id) => json!({"id": id, "name": name}),
                None => json!({"id": "deaddeaddeaddeaddeaddead", "name": null}),
            });
            let buckets: Vec<Value> = rows.collect();
            let buckets = if buckets.is_empty() { Value::Null } else { Value::Array(buckets) };
            storage["allowed"] =
                json!({"buckets": buckets, "capabilities": capabilities, "namePrefix": spec.prefix});
            return json!({"storageApi": storage});
        }
        let bucket = spec.buckets.first();
        storage["bucketId"] = json!(bucket.map(|name| ids(name).unwrap_or_else(|| "dead".repeat(6))));
        storage["bucketName"] = json!(bucket.filter(|name| ids(name).is_some()));
        storage["capabilities"] = json!(capabilities);
        storage["namePrefix"] = json!(spec.prefix);
        storage["infoType"] = json!("storageApi");
        let groups = json!({"capabilities": [], "groupsApiUrl": doors.api, "infoType": "groupsApi"});
        json!({"storageApi": storage, "groupsApi": groups})
    }

    /// What the account token in `header` may do.
    pub fn rights(&self, header: Option<&str>) -> Outcome<Rights> {
        let token = header.and_then(|text| self.tokens.get(text)).ok_or_else(Refusal::bad_token)?;
        if token.expires_ms <= self.now_ms() {
            return Err(Refusal::expired_token());
        }
        self.rights_of(&token.key_id)
    }

    /// What a key may do.
    pub fn rights_of(&self, key_id: &str) -> Outcome<Rights> {
        let (_, spec) = self.keys.iter().find(|(key, _)| key.id == key_id).ok_or_else(Refusal::bad_token)?;
        let ids = spec.buckets.iter().filter_map(|name| self.bucket_named(name));
        let bucket_ids: Vec<String> = ids.map(|bucket| bucket.id.clone()).collect();
        Ok(Rights {
            key_id: key_id.to_owned(),
            capabilities: spec.capabilities.clone(),
            bucket_ids: (!spec.buckets.is_empty()).then_some(bucket_ids),
            prefix: spec.prefix.clone().unwrap_or_default(),
        })
    }
}

/// Key id and secret of a Basic credential; base64 with its padding.
fn basic(header: Option<&str>) -> Outcome<(String, String)> {
    let encoded = header.and_then(|text| text.strip_prefix("Basic ")).ok_or_else(Refusal::bad_token)?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
    let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(Refusal::bad_token)?;
    let (id, secret) = text.split_once(':').ok_or_else(Refusal::bad_token)?;
    Ok((id.to_owned(), secret.to_owned()))
}
