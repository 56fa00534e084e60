//! Where an id lies in a key-value engine.
//!
//! In:    mount, paths, id. Out: mount and path of each place to look at, in order.
//! Holds: pure; an id never leads out of its path: a part that is empty, `.` or `..` is refused, all
//!        else is percent-encoded when it is sent.

use super::settings::{Kv, Settings};
use crate::error::Failure;
use crate::secret::Asked;

/// Where one secret lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Mount of the engine.
    pub mount: String,
    /// Path below it, without the `data` of version 2.
    pub path: String,
}

/// Where `asked` may lie; empty where this Vault is not asked for such things.
///
/// # Errors
/// 78 for an id that is no path.
pub fn spots(settings: &Settings, asked: Asked<'_>) -> Result<Vec<Spot>, Failure> {
    let (prefixes, id) = match asked {
        Asked::Connection(id) => (&settings.connections, id),
        Asked::Variable(key) => (&settings.variables, key),
    };
    if id.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let what = format!("cannot ask Vault for {asked}: a part of the id is empty, `.` or `..`");
        return Err(
            Failure::config(what).hint("In Vault the parts between the slashes of an id are folders.")
        );
    }
    let (mount, rest) = match &settings.mount {
        Some(mount) => (mount.as_str(), id),
        // As Airflow with `mount_point: null`: an id of one part is nowhere.
        None => match id.split_once('/') {
            Some(parts) => parts,
            None => return Ok(Vec::new()),
        },
    };
    let below = |prefix: &String| match prefix.trim_matches('/') {
        "" => rest.to_owned(),
        prefix => format!("{prefix}/{rest}"),
    };
    Ok(prefixes.iter().map(|prefix| Spot { mount: mount.to_owned(), path: below(prefix) }).collect())
}

impl Settings {
    /// The paths of Vault's API that are read for `asked`, as a policy names them; none for an id that
    /// is no path.
    pub fn paths(&self, asked: Asked<'_>) -> Vec<String> {
        let full = |spot: Spot| match self.kv {
            Kv::One => format!("{}/{}", spot.mount, spot.path),
            Kv::Two => format!("{}/data/{}", spot.mount, spot.path),
        };
        spots(self, asked).unwrap_or_default().into_iter().map(full).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Auth;
    use super::*;
    use std::time::Duration;

    fn settings(mount: Option<&str>, connections: &[&str]) -> Settings {
        Settings {
            address: "http://127.0.0.1:8200".into(),
            mount: mount.map(str::to_owned),
            connections: connections.iter().map(|path| path.to_string()).collect(),
            variables: vec!["variables".into()],
            kv: Kv::Two,
            namespace: None,
            ca_cert: None,
            client_cert: None,
            auth: Auth::Agent,
            dynamic: Default::default(),
            timeout: Duration::from_secs(1),
        }
    }

    fn all(settings: &Settings, id: &str) -> Vec<String> {
        let spots = spots(settings, Asked::Connection(id)).unwrap();
        spots.iter().map(|spot| format!("{} {}", spot.mount, spot.path)).collect()
    }

    #[test]
    fn ids_lie_under_each_path_in_order_as_in_airflow() {
        let two = settings(Some("airflow"), &["connections", "/shared/db/"]);
        assert_eq!(all(&two, "team1/hr"), ["airflow connections/team1/hr", "airflow shared/db/team1/hr"]);
        assert_eq!(all(&settings(Some("airflow"), &[""]), "hr"), ["airflow hr"]);
        assert_eq!(all(&settings(Some("airflow"), &[]), "hr"), [""; 0]);
        assert_eq!(all(&settings(None, &["connections"]), "kv/hr"), ["kv connections/hr"]);
        assert_eq!(all(&settings(None, &["connections"]), "hr"), [""; 0]);
    }

    #[test]
    fn an_id_that_leads_elsewhere_is_refused() {
        let one = settings(Some("airflow"), &["connections"]);
        for id in ["..", "../variables/x", "a/../b", "./a", "a//b", "/a", "a/", "a/.."] {
            let failure = spots(&one, Asked::Connection(id)).unwrap_err();
            assert_eq!(failure.kind.exit_code(), 78, "{id}");
        }
        assert_eq!(all(&one, "..a/b.."), ["airflow connections/..a/b.."]);
    }
}
