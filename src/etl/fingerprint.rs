//! What a table was loaded under: its filter, its masks, and which key they were made with.
//!
//! In:    a table's settings and layout; the key of HMAC masks.
//! Out:   a text that the ledger keeps, and what two of them tell.
//! Holds: it tells one key from another and not the key: an HMAC of a fixed text under it.
//! Not here: the masks (`pg::copy`), what a difference leads to (`etl::reading`).

use crate::config::model::TableSpec;
use crate::config::needs::HMAC_KEY;
use crate::error::Failure;
use crate::etl::layout::Layout;
use crate::pg::copy::hex;
use anyhow::Result;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Why every row is read again after [`HMAC_KEY`] was changed.
pub const OTHER_KEY: &str = "the key of HMAC masks has changed, and every mask with it";

/// Tells one HMAC key from another without telling the key.
///
/// # Errors
/// 77 for a key that is too short to be one.
pub fn of_key(key: Option<&SecretString>) -> Result<String> {
    let Some(key) = key else { return Ok(String::new()) };
    let key = key.expose_secret();
    if key.len() < 16 {
        return Err(Failure::permission(format!(
            "cannot mask: variable {HMAC_KEY} is shorter than 16 bytes"
        ))
        .hint("Make one with `openssl rand -hex 32` and keep it: another key changes every masked value.")
        .into());
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
    mac.update(b"sankofa fingerprint");
    Ok(hex(&mac.finalize().into_bytes())[..16].to_owned())
}

/// What a table is loaded under; `key` is [`of_key`]'s. The key stands behind a dot where it is used.
pub fn of_table(spec: &TableSpec, layout: &Layout, key: &str) -> String {
    let masks: Vec<_> =
        layout.columns.iter().filter_map(|column| Some((&column.name, column.mask?))).collect();
    let key = if layout.needs_hmac_key() { key } else { "" };
    let all = &hex(&Sha256::digest(format!("{:?} {masks:?} {key}", spec.filter)))[..16];
    if key.is_empty() { all.to_owned() } else { format!("{all}.{key}") }
}

/// The part of [`of_table`] that tells the key; `None`: no key, or kept before keys were told apart.
pub fn key_of(settings: &str) -> Option<&str> {
    settings.split_once('.').map(|(_, key)| key)
}

/// Why rows loaded under `kept` have to be read again under `now`, if they have.
pub fn difference(kept: &str, now: &str) -> Option<&'static str> {
    let all = |settings: &'_ str| settings.split('.').next().map(str::to_owned);
    match (key_of(kept), key_of(now)) {
        _ if all(kept) == all(now) => None,
        (Some(before), Some(after)) if before != after => Some(OTHER_KEY),
        _ => Some("filter or masks have changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_is_told_from_another_mask_and_what_was_kept_before_keys_were_told_still_fits() {
        assert_eq!(difference("aa.k1", "aa.k1"), None);
        assert_eq!(difference("aa", "aa.k1"), None);
        assert_eq!(difference("aa.k1", "bb.k2"), Some(OTHER_KEY));
        for (kept, now) in [("aa.k1", "bb.k1"), ("aa", "bb.k1"), ("aa.k1", "bb")] {
            assert_eq!(difference(kept, now), Some("filter or masks have changed"), "{kept} {now}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_for_the_same_key_alone_and_holds_nothing_of_it() {
        let of = |key: &str| of_key(Some(&SecretString::from(key))).unwrap();
        let key = "0123456789abcdef0123";
        assert_eq!(of(key), of(key));
        assert_ne!(of(key), of("0123456789abcdef0124"));
        assert!(!of(key).contains("0123456789"));
        assert!(of_key(Some(&SecretString::from("short"))).is_err());
    }
}
