//! What an archive says of the database as such, for a database of another name.
//!
//! In:    the table of contents; the names of then and of now.
//! Out:   the options of `CREATE DATABASE`; statements to run in the end.
//! Holds: pure; only statements that begin as pg_dump writes them are taken over.
//!
//! `pg_restore` takes these over only with `--create`, which knows no other name.

use crate::backup::archive::Item;
use crate::table::{quote, quote_if_needed};

/// What follows `CREATE DATABASE name `: encoding and locale of the source.
pub fn options(items: &[Item], with_tablespace: bool) -> String {
    let default = || "TEMPLATE template0".to_owned();
    let Some(item) = items.iter().find(|item| item.kind == "DATABASE") else { return default() };
    let rest = after_name(&item.definition, "CREATE DATABASE ", &item.tag);
    let Some(options) = rest.and_then(|rest| rest.trim().strip_suffix(';')) else { return default() };
    match options.split_once(" TABLESPACE = ") {
        Some((before, _)) if !with_tablespace => before.trim().to_owned(),
        _ => options.trim().to_owned(),
    }
}

/// Owner, settings, grants and the comment of the database, with `name` in the place of its old one.
/// Each ends with `;` and a line's end.
pub fn statements(items: &[Item], name: &str, with_grants: bool) -> Vec<String> {
    let Some(database) = items.iter().find(|item| item.kind == "DATABASE") else { return Vec::new() };
    let old = database.tag.as_str();
    let owner = Some(&database.owner).filter(|owner| with_grants && !owner.is_empty());
    let owner = owner.map(|owner| format!("ALTER DATABASE {} OWNER TO {};\n", quote(name), quote(owner)));
    let about = |item: &&Item| match item.kind.as_str() {
        "DATABASE PROPERTIES" => true,
        "ACL" => with_grants && item.tag.starts_with("DATABASE "),
        "COMMENT" => item.tag.starts_with("DATABASE "),
        _ => false,
    };
    let statements = items.iter().filter(about);
    let statements = statements.filter_map(|item| renamed(&item.definition, old, name, with_grants));
    owner.into_iter().chain(statements).collect()
}

/// Where a statement of pg_dump names the database, by what stands before.
const BEFORE: &[&str] = &["ALTER DATABASE ", "COMMENT ON DATABASE ", " IN DATABASE ", " ON DATABASE "];

/// The statements of `sql`, one or more lines each, with the other name; `None` if none is understood.
fn renamed(sql: &str, old: &str, new: &str, with_roles: bool) -> Option<String> {
    let mut text = String::new();
    for line in sql.lines() {
        let is_for_role = line.starts_with("ALTER ROLE ");
        let starts = ["ALTER DATABASE ", "COMMENT ON DATABASE ", "GRANT ", "REVOKE ", "ALTER ROLE "];
        if !starts.iter().any(|start| line.starts_with(start)) || (is_for_role && !with_roles) {
            continue; // `UPDATE pg_catalog.pg_database SET datistemplate`: not for a copy
        }
        let named = BEFORE.iter().find_map(|before| {
            let at = line.find(before)? + before.len();
            Some((&line[..at], after_name(line, &line[..at], old)?))
        });
        if let Some((head, rest)) = named.filter(|(_, rest)| rest.ends_with(';')) {
            text.push_str(&format!("{head}{}{rest}\n", quote(new)));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// What follows the name in `sql`, which begins with `head` and the name, quoted or not.
fn after_name<'a>(sql: &'a str, head: &str, name: &str) -> Option<&'a str> {
    let rest = sql.strip_prefix(head)?;
    let spellings = [quote_if_needed(name), quote(name), name.to_owned()];
    let fits = |rest: &&str| rest.starts_with([' ', ';']);
    spellings.iter().find_map(|spelling| rest.strip_prefix(spelling.as_str()).filter(fits))
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

    #[test]
    fn encoding_and_locale_come_with_a_database_and_its_tablespace_if_asked_for() {
        let sql = "CREATE DATABASE \"a b\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LC_COLLATE = 'C' TABLESPACE = fast;\n";
        let items = [item("DATABASE", "a b", sql)];
        assert_eq!(options(&items, false), "WITH TEMPLATE = template0 ENCODING = 'UTF8' LC_COLLATE = 'C'");
        assert!(options(&items, true).ends_with("TABLESPACE = fast"));
        assert_eq!(options(&[], true), "TEMPLATE template0");
    }

    #[test]
    fn settings_and_grants_are_those_of_the_new_name_and_nothing_else_is_run() {
        let items = [
            item("DATABASE", "hr", "CREATE DATABASE hr;\n"),
            item(
                "DATABASE PROPERTIES",
                "hr",
                "ALTER DATABASE hr SET search_path TO 'a', 'b';\nALTER ROLE x IN DATABASE hr SET work_mem TO '1MB';\n\
                 UPDATE pg_catalog.pg_database SET datistemplate = true WHERE datname = 'hr';\n",
            ),
            item(
                "ACL",
                "DATABASE hr",
                "REVOKE CONNECT ON DATABASE hr FROM PUBLIC;\nGRANT CONNECT ON DATABASE hr TO app;\n",
            ),
            item("COMMENT", "DATABASE hr", "COMMENT ON DATABASE hr IS 'people';\n"),
            item("COMMENT", "TABLE hr", "COMMENT ON TABLE public.hr IS 'x';\n"),
        ];
        let all = statements(&items, "new", true).concat();
        assert_eq!(
            all,
            "ALTER DATABASE \"new\" OWNER TO \"own\";\nALTER DATABASE \"new\" SET search_path TO 'a', 'b';\n\
             ALTER ROLE x IN DATABASE \"new\" SET work_mem TO '1MB';\n\
             REVOKE CONNECT ON DATABASE \"new\" FROM PUBLIC;\nGRANT CONNECT ON DATABASE \"new\" TO app;\n\
             COMMENT ON DATABASE \"new\" IS 'people';\n"
        );
        let without = statements(&items, "new", false).concat();
        assert!(!without.contains("GRANT") && !without.contains("ROLE") && without.contains("COMMENT"));
    }
}
