//! HashiCorp Vault and OpenBao, in the layout of Airflow's own VaultBackend.
//!
//! In:    [`Settings`]; an id.
//! Out:   connections and variables of a key-value engine, version 1 or 2; database users by lease.
//! Holds: the token goes to the address of the settings, to where it redirects on the same host, and to
//!        https, nowhere else; what we made (token, leases) is given back by `close`; an error has the
//!        status and Vault's own `errors`, never a body.
//! Not here: the text of a connection (`grammar`), when to ask another place ([`super::Resolver`]).
//!
//! Requests, paths and headers are vaultrs's. The sending is ours: vaultrs reads answers of any size,
//! follows every redirect with the token, never tries again, and quotes bodies in its errors.

mod call;
mod fault;
mod json;
mod kv;
mod lease;
mod login;
mod path;
mod place;
mod rights;
mod session;
mod settings;
mod wrapped;

pub use place::Vault;
pub use rights::Wanted;
pub use settings::{Auth, Kv, SecretId, Settings};
