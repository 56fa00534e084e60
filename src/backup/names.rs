//! What the objects of backups are called in a store.
//!
//! In:    names of databases and servers, times, ids.
//! Out:   `hr/20261121T160500Z-0f3a9c21/`, `_servers/hr_db/20261121T160500Z-0f3a9c21/`, `drills/`.
//! Holds: pure; whatever a name holds, its folder is made of `[A-Za-z0-9._-]`, names that differ have
//!        folders that differ, and no database takes the folder of servers or drills.

use crate::backup::manifest::Kind;
use crate::pg::copy::hex;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

/// Folder of the globals of servers.
pub const SERVERS: &str = "_servers/";
/// Folder of the records of drills, one `.json` each.
pub const DRILLS: &str = "drills/";

/// The longest escaped name, bytes; file systems end at 255.
const LONGEST: usize = 200;
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// `name` as a part of an object's name: other characters, the point, and what would be taken for a
/// folder of ours are `.` and two hex digits a byte; a very long name ends in its hash.
pub fn escape(name: &str) -> String {
    let reserved = name.starts_with('_') || name == DRILLS.trim_end_matches('/');
    let mut text = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if is_plain && !(at == 0 && reserved) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!(".{byte:02x}"));
        }
    }
    if text.len() > LONGEST {
        text.truncate(LONGEST - 34); // all of it is ASCII
        text.push_str("..");
        text.push_str(&hex(&Sha256::digest(name))[..32]);
    }
    text
}

/// The folder of everything of one database (`kind` database) or one server (`kind` globals), with `/`.
pub fn home(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Database => format!("{}/", escape(name)),
        Kind::Globals => format!("{SERVERS}{}/", escape(name)),
    }
}

/// Last part of a backup's folder, which is its id: it sorts by time, and `unique` (letters and digits)
/// tells two of the same second apart.
pub fn id(started_at: Timestamp, unique: &str) -> String {
    format!("{}-{unique}", started_at.to_zoned(TimeZone::UTC).strftime(TIME))
}

/// The time in an id that [`id`] made; `None` for any other text.
pub fn started_at(id: &str) -> Option<Timestamp> {
    let (time, unique) = id.split_once('-')?;
    let is_unique = !unique.is_empty() && unique.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let at = jiff::civil::DateTime::strptime(TIME, time).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    (is_unique && self::id(at, unique) == id).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folders_read_as_the_contract_says() {
        let at: Timestamp = "2026-11-21T16:05:00.9Z".parse().unwrap();
        assert_eq!(id(at, "0f3a9c21"), "20261121T160500Z-0f3a9c21");
        assert_eq!(started_at("20261121T160500Z-0f3a9c21"), "2026-11-21T16:05:00Z".parse().ok());
        for wrong in ["", "20261121T160500Z", "20261121T160500Z-", "20261341T160500Z-a", "x-a", "2026-11-21"]
        {
            assert_eq!(started_at(wrong), None, "{wrong}");
        }
        assert_eq!(home(Kind::Database, "hr"), "hr/");
        assert_eq!(home(Kind::Globals, "hr_db"), "_servers/hr_db/");
        assert_eq!(home(Kind::Database, "Año /1.x"), "A.c3.b1o.20.2f1.2ex/");
    }

    #[test]
    fn no_database_takes_a_folder_of_ours() {
        for name in ["_servers", "drills", "_", ".", "..", "_servers/x"] {
            let home = home(Kind::Database, name);
            assert!(
                !home.starts_with(SERVERS) && !home.starts_with(DRILLS) && !home.starts_with("./"),
                "{home}"
            );
        }
        assert_eq!(escape("drills_of_hr"), "drills_of_hr");
    }

    proptest! {
        #[test]
        fn every_name_has_a_folder_of_its_own(one in ".{1,90}", other in ".{1,90}") {
            let (a, b) = (escape(&one), escape(&other));
            prop_assert!(a.len() <= LONGEST);
            prop_assert!(a.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)));
            prop_assert_eq!(one == other, a == b);
        }
    }
}
