//! Brings back what belongs to a whole server: roles, memberships, settings.
//!
//! In:    the globals that were kept with a backup, the server.
//! Out:   what was made, what was there already, what was left out.
//! Holds: a role that is there is left alone, with all its settings and memberships; a tablespace is
//!        named, never made, since its directory belongs to a machine.
//! Not here: fetching and decrypting them (`verify`).

use crate::pg::Session;
use anyhow::Result;
use std::collections::BTreeSet;

/// What became of the globals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Roles that were made.
    pub made: Vec<String>,
    /// Roles that were there and are as they were.
    pub kept: Vec<String>,
    /// Statements that the server refused, by their first words.
    pub refused: Vec<String>,
    /// Tablespaces that the source had and the server lacks.
    pub tablespaces: Vec<String>,
}

/// One statement of `pg_dumpall --globals-only`, by what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Statement<'a> {
    CreateRole(String),
    /// About the role named: `ALTER ROLE`, `COMMENT ON ROLE`, `GRANT ... TO`.
    OfRole(String, &'a str),
    Tablespace(String),
    Other,
}

/// Applies `sql`, statement by statement.
///
/// # Errors
/// 75 when the session is lost. A statement that is refused is told in [`Applied::refused`].
pub async fn apply(session: &Session, sql: &str) -> Result<Applied> {
    let client = &session.client;
    let cannot = format!("cannot bring back roles on {}", session.connection_id());
    let rows = client.query("SELECT rolname::text FROM pg_catalog.pg_roles", &[]).await;
    let rows = rows.map_err(|error| session.failure(error, &cannot))?;
    let there: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut applied = Applied::default();
    let mut made = BTreeSet::new();
    for text in split(sql) {
        let run = match read(text) {
            Statement::CreateRole(role) if there.contains(&role) => {
                applied.kept.push(role);
                continue;
            }
            Statement::CreateRole(role) => {
                applied.made.push(role.clone());
                made.insert(role);
                text
            }
            Statement::OfRole(role, text) if made.contains(&role) => text,
            Statement::Tablespace(name) => {
                applied.tablespaces.push(name);
                continue;
            }
            Statement::OfRole(..) | Statement::Other => continue,
        };
        if let Err(error) = client.batch_execute(run).await {
            if error.is_closed() {
                return Err(session.failure(error, &cannot));
            }
            applied.refused.push(run.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(applied)
}

/// Statements, each with its `;`; comments and psql's own commands are left out.
fn split(sql: &str) -> Vec<&str> {
    let (mut statements, mut start, mut quoted, mut comment) = (Vec::new(), None, None, false);
    for (at, letter) in sql.char_indices() {
        match (letter, quoted) {
            ('\n', None) if comment => comment = false,
            _ if comment => {}
            ('-' | '\\', None) if start.is_none() => comment = true,
            (quote, Some(open)) if quote == open => quoted = None,
            (quote @ ('\'' | '"'), None) => {
                quoted = Some(quote);
                start.get_or_insert(at);
            }
            (';', None) => statements.extend(start.take().map(|start| &sql[start..=at])),
            (letter, None) if !letter.is_whitespace() => drop(start.get_or_insert(at)),
            _ => {}
        }
    }
    statements
}

fn read(text: &str) -> Statement<'_> {
    let after = |head: &str| text.strip_prefix(head).and_then(identifier);
    if let Some(role) = after("CREATE ROLE ") {
        return Statement::CreateRole(role);
    }
    if let Some(name) = after("CREATE TABLESPACE ") {
        return Statement::Tablespace(name);
    }
    if text.contains(" IN DATABASE ") {
        return Statement::Other; // of a database of another name
    }
    if let Some(role) = after("ALTER ROLE ").or_else(|| after("COMMENT ON ROLE ")) {
        return Statement::OfRole(role, text);
    }
    match text.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" TO ")) {
        // Who granted it is a role of the old server; the one who restores grants it here.
        Some((_, rest)) if !text.contains(" ON ") => {
            match (identifier(rest), text.split_once(" GRANTED BY ")) {
                (Some(role), Some((grant, _))) => Statement::OfRole(role, grant),
                (Some(role), None) => Statement::OfRole(role, text),
                (None, _) => Statement::Other,
            }
        }
        _ => Statement::Other,
    }
}

/// The identifier at the start of `text`, unquoted.
fn identifier(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
        return (end > 0).then(|| text[..end].to_owned());
    };
    let mut name = String::new();
    let mut parts = quoted.split('"');
    loop {
        name.push_str(parts.next()?);
        match parts.next() {
            Some("") => name.push('"'),
            _ => return Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBALS: &str = "--\n-- PostgreSQL database cluster dump; it's here\n--\n\n\\restrict abc\n\nSET default_transaction_read_only = off;\n\
        CREATE ROLE alice;\nALTER ROLE alice WITH NOSUPERUSER PASSWORD 'x;y''z';\nCREATE ROLE \"Bob \"\"B\"\"\";\n\
        CREATE TABLESPACE fast OWNER alice LOCATION '/x';\nALTER ROLE alice IN DATABASE hr SET work_mem TO '1MB';\n\
        GRANT alice TO \"Bob \"\"B\"\"\" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;\n\
        ALTER ROLE alice SET search_path TO 'a', 'b';\n\n\\unrestrict abc\n";

    #[test]
    fn statements_are_split_at_semicolons_outside_of_quotes_and_comments() {
        let all = split(GLOBALS);
        assert_eq!(all.len(), 8, "{all:#?}");
        assert_eq!(all[2], "ALTER ROLE alice WITH NOSUPERUSER PASSWORD 'x;y''z';");
    }

    #[test]
    fn each_statement_is_known_by_its_role_and_the_rest_is_left_out() {
        let bob = "Bob \"B\"".to_owned();
        let all: Vec<_> = split(GLOBALS).into_iter().map(read).collect();
        assert_eq!(all[1], Statement::CreateRole("alice".into()));
        assert_eq!(all[3], Statement::CreateRole(bob.clone()));
        assert_eq!(all[4], Statement::Tablespace("fast".into()));
        let grant = "GRANT alice TO \"Bob \"\"B\"\"\" WITH ADMIN OPTION, INHERIT TRUE";
        assert_eq!(all[6], Statement::OfRole(bob, grant));
        assert_eq!((&all[0], &all[5]), (&Statement::Other, &Statement::Other));
    }
}
