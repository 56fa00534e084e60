//! Words that look like secrets have no place in a project file.
//!
//! In:    a tree, or one text.
//! Out:   nothing, or a [`Fault`] that says what kind of secret it looks like, and where.
//! Holds: keys and values alike are searched, and none is ever quoted.

use super::node::{Fault, Mark, Node, Value};

/// Refuses a tree that holds something like a secret.
///
/// # Errors
/// The first one, by its place and kind.
pub fn refuse(node: &Node) -> Result<(), Fault> {
    match &node.value {
        Value::Scalar { text, .. } => refuse_text(text, node.mark),
        Value::List(items) => items.iter().try_for_each(refuse),
        Value::Map(entries) => entries.iter().try_for_each(|(key, item)| {
            refuse_text(&key.text, key.mark)?;
            refuse(item)
        }),
    }
}

/// Refuses a text, such as an SQL file, that holds something like a secret.
///
/// # Errors
/// The first one, by its line and kind.
pub fn refuse_lines(text: &str) -> Result<(), Fault> {
    (1..).zip(text.lines()).try_for_each(|(line, text)| refuse_text(text, Mark { line, column: 1 }))
}

fn refuse_text(text: &str, mark: Mark) -> Result<(), Fault> {
    match looks_like(text) {
        None => Ok(()),
        Some(what) => Err(Fault::new(format!("this looks like {what}"))
            .at(mark)
            .hint("Project files hold no secret: name a connection or a variable, and change what was written here.")),
    }
}

/// What kind of secret `text` looks like.
pub fn looks_like(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    if lower.contains("age-secret-key-") {
        return Some("an age identity");
    }
    if lower.contains("private key-----") {
        return Some("a private key");
    }
    if lower.contains("scram-sha-256$") {
        return Some("a password verifier");
    }
    if has_uri_password(text) {
        return Some("a URI with a password");
    }
    if names_password(&lower) {
        return Some("a password");
    }
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "/+_-.=".contains(c))).find_map(token)
}

/// Whether a URI in `text` has a password before its host.
fn has_uri_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let rest = &text[at + 3..];
        let rest = rest.split(char::is_whitespace).next().unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let inside = |part: &str| {
            part.rsplit_once('@')
                .and_then(|(user, _)| user.split_once(':'))
                .is_some_and(|(_, p)| !p.is_empty())
        };
        // A password with an unescaped slash in it: what follows the colon is no port.
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        let odd =
            !authority.starts_with('[') && !port.is_empty() && !port.bytes().all(|b| b.is_ascii_digit());
        inside(authority) || (odd && inside(rest))
    })
}

/// Whether `lower` gives a password by name: `password=...` or `"password": "..."`.
fn names_password(lower: &str) -> bool {
    ["password", "passwd", "pwd", "secret_access_key", "application_key", "secret_key"].iter().any(|name| {
        lower.match_indices(name).any(|(at, _)| {
            let rest = &lower[at + name.len()..];
            let json = rest.strip_prefix(['"', '\'']).map(str::trim_start).and_then(|r| r.strip_prefix(':'));
            let json = json.map(str::trim_start).and_then(|r| r.strip_prefix(['"', '\'']));
            let value = rest.strip_prefix('=').or(json).unwrap_or_default();
            value.starts_with(|c: char| !c.is_whitespace() && !"\"'&;),$".contains(c))
        })
    })
}

/// Tokens that services give out in a shape of their own.
fn token(word: &str) -> Option<&'static str> {
    let after = |prefix: &str| word.strip_prefix(prefix).map_or(0, str::len);
    let upper = word.bytes().any(|b| b.is_ascii_uppercase());
    let mixed =
        upper && word.bytes().any(|b| b.is_ascii_lowercase()) && word.bytes().any(|b| b.is_ascii_digit());
    let base64 = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=".contains(&b));
    match word.len() {
        20 if (word.starts_with("AKIA") || word.starts_with("ASIA")) && base64 => Some("an AWS access key"),
        40 if mixed && base64 => Some("an AWS secret key"),
        31 if word.starts_with("K00") && base64 => Some("a B2 application key"),
        _ if after("hvs.") > 20 || after("hvb.") > 20 => Some("a Vault token"),
        _ if after("ghp_") > 20 || after("github_pat_") > 20 || after("glpat-") > 15 => {
            Some("an access token")
        }
        _ if after("xoxb-") > 15 || after("xoxp-") > 15 => Some("an access token"),
        _ if after("eyJ") > 20 && word.contains(".eyJ") => Some("a JSON web token"),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) const PLANTED: &[&str] = &[
    "postgresql://ama:hunter2@db.example/hr",
    "see postgres://ama:p/w0rd@db.example:5432/hr here",
    "https://u:p@h",
    "host=db user=ama password=hunter2",
    "AGE-SECRET-KEY-1QQPQYQJ0WDJ6TV2CJ0FCVPUHGMRXDR6UC5Y2S2HQYQHZ3RHWS7QSU6W6H",
    "age-secret-key-1qqpqyqj0wdj6tv2cj0fcvpuhgmrxdr",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY01",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AKIAIOSFODNN7EXAMPLE",
    "K001abcdefghijklmnopqrstuvwxyzA",
    "hvs.CAESIJlU02LQZq3gadwdwadawdawdawdawd",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    r#"{"conn_type": "postgres", "password": "hunter2"}"#,
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "SCRAM-SHA-256$4096:c2FsdA==$a:b",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_seen_and_not_quoted() {
        for text in PLANTED {
            assert!(looks_like(text).is_some(), "{text}");
            let fault = refuse_text(text, Mark { line: 3, column: 4 }).unwrap_err();
            assert!(!format!("{fault:?}").contains(text));
        }
    }

    #[test]
    fn what_people_write_in_projects_is_no_secret() {
        for text in [
            "https://vault.example:8200",
            "https://vault.example:8200/v1?x=a@b",
            "http://[::1]:8200/x@y",
            "postgresql://ama@db.example/hr",
            "/secrets/secret_id",
            "database/creds/sankofa-rows",
            "password_changed_at > now() - interval '1 day'",
            "password = ''",
            "Africa/Accra",
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "a_column_name_that_is_quite_long_but_lower",
            "*.*.*.password",
            "0 3 * * *",
        ] {
            assert_eq!(looks_like(text), None, "{text}");
        }
    }
}
