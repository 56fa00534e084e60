//! Why Vault gave no answer, and what that means for a run.
//!
//! In:    a status, Vault's `errors`, or what broke.
//! Out:   whether to try again, and the failure to end with.
//! Holds: pure; no body and no header is quoted, only `errors`.

use crate::error::{Failure, Kind};

/// No answer, or one that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None came, or not to its end.
    Broken {
        /// Why.
        what: String,
        /// Whether Vault may have done what it was asked all the same.
        reached: bool,
    },
    /// The two sides do not trust each other's certificates.
    Certificate(String),
    /// Vault, or what stands before it, says no.
    Refused {
        /// HTTP status.
        status: u16,
        /// Vault's own words.
        errors: Vec<String>,
    },
    /// What answers does not speak as Vault does.
    Strange {
        /// HTTP status.
        status: u16,
        /// What came instead.
        what: &'static str,
    },
}

impl Fault {
    /// Whether the same request may do better in a moment; `twice`: doing it twice does no harm.
    pub fn is_passing(&self, twice: bool) -> bool {
        match self {
            Fault::Broken { reached, .. } => twice || !reached,
            Fault::Certificate(_) => false,
            Fault::Refused { status, .. } => is_overload(*status),
            Fault::Strange { status, .. } => is_overload(*status),
        }
    }

    /// The status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Fault::Refused { status, .. } | Fault::Strange { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What `doing` ends with, such as `cannot read secret/data/x from Vault at https://v`.
    pub fn failure(&self, doing: &str) -> Failure {
        let failure = |kind, hint: &str| Failure::new(kind, format!("{doing}: {}", self.words())).hint(hint);
        match self {
            Fault::Broken { .. } => {
                failure(Kind::Temporary, "Look whether Vault runs and can be reached from here.")
            }
            Fault::Certificate(_) => failure(
                Kind::Config,
                "Name the authority of Vault's certificate by `ca_cert:`, our own by `client_cert:`; verification is never turned off.",
            ),
            Fault::Strange { status: 300..=399, .. } => {
                failure(Kind::Config, "Put the address where Vault really is in `address:`.")
            }
            Fault::Strange { .. } => {
                failure(Kind::Temporary, "What answers there is not Vault: a proxy, or another service.")
            }
            Fault::Refused { status: 403, .. } => {
                failure(Kind::Permission, "The policy of this login does not allow it.")
            }
            Fault::Refused { status, .. } if is_overload(*status) => failure(Kind::Temporary, self.advice()),
            Fault::Refused { .. } => {
                failure(Kind::Config, "Compare mount, path and `kv:` in sankofa.yaml with those of Vault.")
            }
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Fault::Refused { errors, .. } if errors.iter().any(|e| e.contains("sealed")) => {
                "Vault is sealed or not initialised: unseal it."
            }
            Fault::Refused { status: 429, .. } => {
                "Vault limits how often it may be asked, or this is a standby."
            }
            Fault::Refused { status: 472 | 473, .. } => {
                "This is a standby: put the active server's address in `address:`."
            }
            _ => "Look at Vault's own log; run it again.",
        }
    }

    fn words(&self) -> String {
        match self {
            Fault::Broken { what, .. } | Fault::Certificate(what) => what.clone(),
            Fault::Refused { status, errors } if errors.is_empty() => {
                format!("{} ({status})", meaning(*status))
            }
            Fault::Refused { status, errors } => format!("{} ({status})", errors.join("; ")),
            Fault::Strange { status, what } => format!("{what} ({status})"),
        }
    }
}

/// 412: a replica that is behind. 429: a limit, or a standby; 472 and 473: standbys of Enterprise.
fn is_overload(status: u16) -> bool {
    matches!(status, 408 | 412 | 429 | 472 | 473 | 500..=599)
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "bad request",
        403 => "permission denied",
        404 => "not found",
        412 => "the replica is behind",
        429 => "too many requests",
        472 | 473 => "a standby",
        503 => "sealed, or in maintenance",
        500..=599 => "Vault has trouble",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, error: &str) -> Fault {
        Fault::Refused { status, errors: vec![error.to_owned()] }
    }

    #[test]
    fn the_status_decides_whether_it_is_tried_again_and_how_it_ends() {
        for (status, code) in [
            (400, 78),
            (403, 77),
            (404, 78),
            (405, 78),
            (412, 75),
            (429, 75),
            (472, 75),
            (473, 75),
            (500, 75),
            (502, 75),
            (503, 75),
        ] {
            let fault = refused(status, "x");
            assert_eq!(fault.failure("cannot read").kind.exit_code(), code, "{status}");
            assert_eq!(fault.is_passing(false), code == 75, "{status}");
        }
        let sealed = refused(503, "Vault is sealed").failure("cannot read a from Vault at v");
        assert_eq!(sealed.what, "cannot read a from Vault at v: Vault is sealed (503)");
        assert!(sealed.hint.unwrap().contains("unseal"));
    }

    #[test]
    fn what_may_have_been_done_is_not_done_twice() {
        let cut = Fault::Broken { what: "cut".into(), reached: true };
        assert!(cut.is_passing(true) && !cut.is_passing(false));
        assert!(Fault::Broken { what: "refused".into(), reached: false }.is_passing(false));
        assert!(!Fault::Certificate("expired".into()).is_passing(true));
    }
}
