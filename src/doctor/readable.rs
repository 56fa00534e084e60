//! Whether a role may read all of a database, as a dump must: tables, sequences, large objects, and every row.
//!
//! In:    the database's connection. Out: findings.
//! Holds: reads the catalog only; what an extension brings is its own and not asked for.
//! Not here: the dump, which refuses the same with 77 (`backup::dump`).

use super::Findings;
use crate::error::Kind;
use crate::pg::connect::{SessionOptions, connect};
use crate::pg::public;
use crate::secret::Connection;
use crate::table::quote;
use anyhow::Result;

/// Every table, view that keeps rows, and sequence that pg_dump reads, and whether this role may not read it, or
/// row security would hide rows of it.
const RELATIONS: &str = "
    WITH mine AS (
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind, n.oid AS schema
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
          AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass
                            AND d.objid = c.oid AND d.deptype = 'e')
    ), judged AS (
        SELECT name, relkind <> 'S' AND row_security_active(oid) AS hides, has_schema_privilege(schema, 'USAGE')
            AND CASE relkind WHEN 'S' THEN has_sequence_privilege(oid, 'SELECT')
                ELSE has_table_privilege(oid, 'SELECT') END AS reads
        FROM mine
    )
    SELECT current_user::text, count(*) FILTER (WHERE NOT reads), min(name) FILTER (WHERE NOT reads),
        count(*) FILTER (WHERE reads AND hides), min(name) FILTER (WHERE reads AND hides)
    FROM judged";

/// Large objects have an owner and grants of their own, which pg_read_all_data does not stand for.
const LARGE_OBJECTS: &str = "
    SELECT count(*), min(m.oid)::text FROM pg_catalog.pg_largeobject_metadata m
    WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
      AND current_setting('lo_compat_privileges') <> 'on' AND NOT pg_has_role(m.lomowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                        AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))";

/// Looks at what the role of `connection` may read.
pub async fn examine(connection: &Connection, name: &str, findings: &mut Findings) -> Result<()> {
    let session = connect(connection, &SessionOptions::named(name)).await?;
    let wrong = |error| public::failure(error, "cannot look at what the role may read");
    let row = session.client.query_one(RELATIONS, &[]).await.map_err(wrong)?;
    let large = session.client.query_one(LARGE_OBJECTS, &[]).await.map_err(wrong)?;
    let role: String = row.get(0);
    let before = findings.all.len();
    let mut refuse = |count: i64, what: &str, first: Option<String>, next: String| {
        if let (1.., Some(first)) = (count, first) {
            let said = format!("{role} {what} {first}{}", and_others(count - 1));
            findings.fail(Kind::Permission, said, next);
        }
    };
    let all = match session.major() {
        14.. => format!("GRANT pg_read_all_data TO {};", quote(&role)),
        _ => "GRANT SELECT on each; docs/grants/backup-13.sql has the lines.".to_owned(),
    };
    refuse(row.get(1), "may not read", row.get(2), all);
    let bypass = format!("ALTER ROLE {} BYPASSRLS;", quote(&role));
    refuse(row.get(3), "does not see every row (row security) of", row.get(4), bypass);
    let object: Option<String> = large.get(1);
    let grant = format!(
        "GRANT SELECT ON LARGE OBJECT {} TO {}; for each, or let a superuser dump.",
        object.as_deref().unwrap_or("..."),
        quote(&role)
    );
    refuse(large.get(0), "may not read large object", object, grant);
    if findings.all.len() == before {
        findings.ok(format!("{role} may read all of it"));
    }
    session.close().await;
    Ok(())
}

fn and_others(count: i64) -> String {
    if count > 0 { format!(" and {count} more") } else { String::new() }
}
