//! What an archive needs of the server it is restored into.
//!
//! In:    the table of contents; what the server has.
//! Out:   what is missing, named before anything is written.
//! Holds: pure.
//! Not here: asking the server (`check`).

use crate::backup::archive::Item;
use std::collections::BTreeSet;

/// Names that must be on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Extensions that must be available.
    pub extensions: BTreeSet<String>,
    /// Owners, grantees and the roles of policies.
    pub roles: BTreeSet<String>,
    /// Tablespaces.
    pub tablespaces: BTreeSet<String>,
    /// Locales of collations of the operating system.
    pub locales: BTreeSet<String>,
}

impl Needs {
    /// What the entries of `items` need; roles only where owners and grants are restored.
    pub fn of<'a>(items: impl IntoIterator<Item = &'a Item>, with_owners: bool) -> Needs {
        let mut needs = Needs::default();
        for item in items {
            needs.add(item, with_owners);
        }
        needs
    }

    /// Roles that the database as such needs: its owner, grantees, roles with settings in it.
    pub fn of_database<'a>(items: impl IntoIterator<Item = &'a Item>) -> Needs {
        let mut needs = Needs::default();
        for item in items {
            match item.kind.as_str() {
                "DATABASE" if !item.owner.is_empty() => drop(needs.roles.insert(item.owner.clone())),
                "DATABASE PROPERTIES" => {
                    let lines = item.definition.lines();
                    let roles = lines.filter_map(|line| identifier(line.strip_prefix("ALTER ROLE ")?));
                    needs.roles.extend(roles);
                }
                "ACL" if item.tag.starts_with("DATABASE ") => needs.roles.extend(granted(&item.definition)),
                _ => {}
            }
        }
        needs
    }

    fn add(&mut self, item: &Item, with_owners: bool) {
        match item.kind.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => return, // not restored as such
            "EXTENSION" => drop(self.extensions.insert(item.tag.clone())),
            "COLLATION" => self.locales.extend(locales(&item.definition)),
            "ACL" | "DEFAULT ACL" if item.tag.starts_with("DATABASE ") => return,
            "ACL" | "DEFAULT ACL" if with_owners => self.roles.extend(granted(&item.definition)),
            "POLICY" => self.roles.extend(policy_roles(&item.definition)),
            _ => {}
        }
        if with_owners && !item.owner.is_empty() {
            self.roles.insert(item.owner.clone());
        }
        if !item.tablespace.is_empty() {
            self.tablespaces.insert(item.tablespace.clone());
        }
    }

    /// What of it `have` lacks.
    pub fn beyond(&self, have: &Needs) -> Needs {
        let missing =
            |need: &BTreeSet<String>, have: &BTreeSet<String>| need.difference(have).cloned().collect();
        Needs {
            extensions: missing(&self.extensions, &have.extensions),
            roles: missing(&self.roles, &have.roles),
            tablespaces: missing(&self.tablespaces, &have.tablespaces),
            locales: missing(&self.locales, &have.locales),
        }
    }

    /// Each kind that is not empty, in words.
    pub fn sentences(&self) -> Vec<String> {
        let kinds = [
            ("extension", &self.extensions),
            ("role", &self.roles),
            ("tablespace", &self.tablespaces),
            ("locale", &self.locales),
        ];
        let named = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        named
            .map(|(kind, names)| format!("{kind}{} {}", if names.len() == 1 { "" } else { "s" }, list(names)))
            .collect()
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// The roles of `GRANT ... TO role;` and `REVOKE ... FROM role;`, one statement a line.
fn granted(sql: &str) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    for line in sql.lines() {
        if let Some(role) = line.strip_prefix("SET SESSION AUTHORIZATION ") {
            roles.extend(identifier(role));
        }
        for word in [" FOR ROLE ", " TO ", " FROM "] {
            let Some((_, rest)) = line.rsplit_once(word) else { continue };
            roles.extend(identifier(rest));
        }
    }
    roles
}

/// `CREATE POLICY p ON t TO a, b USING (...)`.
fn policy_roles(sql: &str) -> BTreeSet<String> {
    let head =
        sql.split(" USING (").next().unwrap_or_default().split(" WITH CHECK (").next().unwrap_or_default();
    let Some((_, list)) = head.rsplit_once(" TO ") else { return BTreeSet::new() };
    list.trim_end_matches(";\n").split(", ").filter_map(identifier).collect()
}

/// The identifier that `text` begins with; none for PUBLIC and DEFAULT.
fn identifier(text: &str) -> Option<String> {
    let text = text.trim_start();
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut letters = quoted.chars().peekable();
        while let Some(letter) = letters.next() {
            match (letter, letters.peek()) {
                ('"', Some('"')) => drop(letters.next()),
                ('"', _) => return Some(name),
                _ => {}
            }
            name.push(letter);
        }
        return None;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    let word = &text[..end];
    (!word.is_empty() && !["PUBLIC", "DEFAULT"].contains(&word)).then(|| word.to_owned())
}

/// The locales of `CREATE COLLATION x (provider = libc, locale = 'de_DE.utf8')`; ICU knows its own.
fn locales(sql: &str) -> BTreeSet<String> {
    if !sql.contains("provider = libc") {
        return BTreeSet::new();
    }
    let value = |key: &str| {
        let (_, rest) = sql.split_once(&format!("{key} = '"))?;
        rest.split_once('\'').map(|(value, _)| value.to_owned())
    };
    ["locale", "lc_collate", "lc_ctype"].into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: &str, tag: &str, definition: &str) -> Item {
        Item {
            kind: kind.into(),
            tag: tag.into(),
            definition: definition.into(),
            owner: "own".into(),
            ..Item::default()
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn roles_are_those_of_owners_grants_and_policies() {
        let items = [
            item("TABLE", "t", ""),
            item(
                "ACL",
                "TABLE t",
                "GRANT SELECT ON TABLE public.\"from TO x\" TO \"Ann \"\"A\"\"\" WITH GRANT OPTION;\n",
            ),
            item(
                "ACL",
                "TABLE t",
                "REVOKE ALL ON TABLE public.t FROM PUBLIC;\nGRANT ALL ON TABLE public.t TO writer;\n",
            ),
            item("ACL", "DATABASE hr", "GRANT CONNECT ON DATABASE hr TO other;\n"),
            item(
                "DEFAULT ACL",
                "DEFAULT PRIVILEGES FOR TABLES",
                "ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA public GRANT SELECT ON TABLES TO reader;\n",
            ),
            item(
                "POLICY",
                "t p",
                "CREATE POLICY p ON public.t TO alpha, beta USING ((a = 'x TO y'::text));\n",
            ),
        ];
        let needs = Needs::of(&items, true);
        assert_eq!(needs.roles, set(&["Ann \"A\"", "alpha", "beta", "maker", "own", "reader", "writer"]));
        assert_eq!(Needs::of(&items[..4], false).roles, set(&[]));
    }

    #[test]
    fn a_database_as_such_needs_its_owner_its_grantees_and_roles_with_settings_in_it() {
        let items = [
            item("DATABASE", "hr", ""),
            item(
                "DATABASE PROPERTIES",
                "hr",
                "ALTER DATABASE hr SET a TO 'ALTER ROLE x';\nALTER ROLE \"b c\" IN DATABASE hr SET a TO '1';\n",
            ),
            item("ACL", "DATABASE hr", "GRANT CONNECT ON DATABASE hr TO other;\n"),
            item("ACL", "TABLE t", "GRANT SELECT ON TABLE t TO reader;\n"),
        ];
        assert_eq!(Needs::of_database(&items).roles, set(&["b c", "other", "own"]));
    }

    #[test]
    fn what_the_server_lacks_is_said_by_kind() {
        let mut placed = item("TABLE", "t", "");
        placed.tablespace = "fast".into();
        let items = [
            item("EXTENSION", "hstore", ""),
            item("EXTENSION", "plpgsql", ""),
            item(
                "COLLATION",
                "german",
                "CREATE COLLATION public.german (provider = libc, locale = 'de_DE.utf8');\n",
            ),
            item("COLLATION", "icu", "CREATE COLLATION public.i (provider = icu, locale = 'de');\n"),
            placed,
        ];
        let have = Needs { extensions: set(&["plpgsql"]), ..Needs::default() };
        let missing = Needs::of(&items, true).beyond(&have);
        assert_eq!(
            missing.sentences(),
            ["extension hstore", "role own", "tablespace fast", "locale de_DE.utf8"]
        );
    }
}
