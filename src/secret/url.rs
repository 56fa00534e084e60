//! Takes a URI apart as Python's `urllib.parse` does, quirks included.
//!
//! In:    the text of a URI.
//! Out:   scheme, authority, path and query; user, host and port of the authority.
//! Holds: equal to `urlsplit` of Python 3.11 for every text; no part of the text in an error.
//! Not here: what Airflow makes of the parts (`grammar`).

use super::grammar::Fault;
use percent_encoding::percent_decode_str;
use std::net::Ipv6Addr;

/// One URI in its parts, none of them decoded.
pub(super) struct Split {
    /// Lower case; empty when there is none.
    pub scheme: String,
    /// What stands between `//` and the first `/`, `?` or `#`.
    pub netloc: String,
    /// With its first `/`.
    pub path: String,
    /// Without its `?`.
    pub query: String,
}

// Non-ASCII characters whose compatibility form holds one of `/?#@:` (Unicode 15, NFKC);
// Python refuses them in an authority (bpo-36216).
const DISGUISED: &str = "\u{2047}\u{2048}\u{2049}\u{2100}\u{2101}\u{2105}\u{2106}\u{2a74}\u{fe13}\u{fe16}\
\u{fe55}\u{fe56}\u{fe5f}\u{fe6b}\u{ff03}\u{ff0f}\u{ff1a}\u{ff1f}\u{ff20}";

impl Split {
    /// Splits `text`; CR, LF and TAB are removed from it first.
    pub fn of(text: &str) -> Result<Split, Fault> {
        let url: String = text
            .trim_start_matches(|c: char| c <= ' ')
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n' | '\t'))
            .collect();
        let (scheme, rest) = scheme_and_rest(&url);
        let (netloc, rest) = match rest.strip_prefix("//") {
            Some(after) => after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len())),
            None => ("", rest),
        };
        check_netloc(netloc)?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(Split { scheme, netloc: netloc.into(), path: path.into(), query: query.into() })
    }

    /// User and password, where the authority has an `@` and a `:` before it.
    pub fn user_and_password(&self) -> (Option<&str>, Option<&str>) {
        match self.netloc.rsplit_once('@').map(|(userinfo, _)| userinfo) {
            None => (None, None),
            Some(userinfo) => match userinfo.split_once(':') {
                Some((user, password)) => (Some(user), Some(password)),
                None => (Some(userinfo), None),
            },
        }
    }

    /// The authority without user and password.
    pub fn host_and_port(&self) -> &str {
        self.netloc.rsplit_once('@').map_or(&self.netloc, |(_, host)| host)
    }

    fn host_then_port(&self) -> (&str, &str) {
        let whole = self.host_and_port();
        match whole.split_once('[') {
            Some((_, bracketed)) => {
                let (host, rest) = bracketed.split_once(']').unwrap_or((bracketed, ""));
                (host, rest.split_once(':').map_or("", |(_, port)| port))
            }
            None => whole.split_once(':').unwrap_or((whole, "")),
        }
    }

    /// The host, lower-cased up to its first `%`; empty when there is none.
    pub fn host(&self) -> String {
        let host = self.host_then_port().0;
        let (name, zone) = host.split_at(host.find('%').unwrap_or(host.len()));
        name.to_lowercase() + zone
    }

    /// The port, if one is given.
    pub fn port(&self) -> Result<Option<u16>, Fault> {
        match self.host_then_port().1 {
            "" => Ok(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map(Some).or(Err(Fault::Port))
            }
            _ => Err(Fault::Port),
        }
    }
}

fn scheme_and_rest(url: &str) -> (String, &str) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match url.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(legal) =>
        {
            (scheme.to_lowercase(), rest)
        }
        _ => (String::new(), url),
    }
}

fn check_netloc(netloc: &str) -> Result<(), Fault> {
    if netloc.contains('[') != netloc.contains(']') {
        return Err(Fault::Brackets);
    }
    if let Some((_, after)) = netloc.split_once('[') {
        check_bracketed(after.split_once(']').map_or(after, |(inside, _)| inside))?;
    }
    match netloc.contains(|c| DISGUISED.contains(c)) {
        true => Err(Fault::Disguised),
        false => Ok(()),
    }
}

fn check_bracketed(host: &str) -> Result<(), Fault> {
    let fits = match host.strip_prefix('v') {
        Some(future) => future.split_once('.').is_some_and(|(version, rest)| {
            !version.is_empty() && version.bytes().all(|b| b.is_ascii_hexdigit()) && !rest.is_empty()
        }),
        None => match host.split_once('%') {
            Some((address, zone)) => {
                !zone.is_empty() && !zone.contains('%') && address.parse::<Ipv6Addr>().is_ok()
            }
            None => host.parse::<Ipv6Addr>().is_ok(),
        },
    };
    if fits { Ok(()) } else { Err(Fault::Brackets) }
}

/// Percent-decodes once, as UTF-8 with U+FFFD for what is not; a `%` without two hex digits stays.
pub(super) fn unquote(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The pairs of a query, in order; blanks kept, `+` read as a space.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unquote(&name.replace('+', " ")), unquote(&value.replace('+', " ")))
    })
}
