//! One source: reachable, readable where a pipeline reads, closed where the guard says never.

use super::Findings;
use crate::config::model::{Pipeline, Project, TableSpec};
use crate::error::{Kind, nearest_hint};
use crate::etl::prepare;
use crate::pg::introspect::Partitions;
use crate::pg::{Session, SessionOptions, connect, introspect};
use crate::report::lines::span;
use crate::secret::Resolver;
use crate::table::{TableName, quote, quote_list};
use anyhow::Result;

/// A transaction so old pins watermarks, seconds.
const OLD_S: i64 = 600;
/// Columns told by name before the others are counted.
const NAMED: usize = 5;

/// Which server answers, and whether its version is supported.
pub fn version(session: &Session, findings: &mut Findings) {
    let (major, at) = (session.major(), &session.endpoint);
    match major {
        13..=18 => findings.ok(format!("PostgreSQL {major} at {at}")),
        ..13 => findings.fail(
            Kind::Config,
            format!("PostgreSQL {major} at {at} is older than any supported version"),
            "Versions 13 to 18 are supported.",
        ),
        _ => findings.warn(
            format!("PostgreSQL {major} at {at} is newer than any tested version"),
            "Versions 13 to 18 are supported; look for a newer sankofa.",
        ),
    }
}

/// Asks everything about the source called `id`.
pub async fn examine(project: &Project, id: &str, pipelines: &[&Pipeline], resolver: &Resolver) -> Findings {
    let mut findings = Findings::about(format!("source {id}"));
    let Some(connection) = findings.answer(resolver.connection(id).await) else { return findings };
    let options = SessionOptions::named(concat!("sankofa/", env!("CARGO_PKG_VERSION"), " doctor"))
        .set("default_transaction_read_only", "on")
        .set("search_path", "")
        .set("statement_timeout", "60s");
    let Some(session) = findings.answer(connect(&connection, &options).await) else { return findings };
    version(&session, &mut findings);
    let question = Question { project, session: &session };
    let asked = question.role(pipelines, &mut findings).await;
    findings.answer(asked);
    let asked = question.standby(&mut findings).await;
    findings.answer(asked);
    let asked = question.pins(&mut findings).await;
    findings.answer(asked);
    for pipeline in pipelines {
        let asked = question.tables(pipeline, &mut findings).await;
        findings.answer(asked);
    }
    let asked = question.guard(&mut findings).await;
    findings.answer(asked);
    findings
}

struct Question<'a> {
    project: &'a Project,
    session: &'a Session,
}

impl Question<'_> {
    async fn rows(&self, sql: &str) -> Result<Vec<tokio_postgres::Row>> {
        let rows = self.session.client.query(sql, &[]).await;
        rows.map_err(|error| self.session.failure(error, "cannot look into the source"))
    }

    async fn role(&self, pipelines: &[&Pipeline], findings: &mut Findings) -> Result<()> {
        let query =
            "SELECT current_user::text, r.rolsuper, pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
            FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
        let rows = self.rows(query).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (role, superuser, stats): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
        if superuser {
            findings.warn(
                format!("logs in as superuser {role}: no grant limits what it reads"),
                "Use a role of its own with SELECT on what is loaded, and pg_read_all_stats.",
            );
        }
        let needs = pipelines.iter().any(|pipeline| {
            let specs: Vec<&TableSpec> = pipeline.tables.iter().collect();
            prepare::opening(pipeline, &specs, "").needs_activity
        });
        match (needs, stats) {
            (true, false) if !self.session.in_recovery => findings.fail(
                Kind::Permission,
                format!("{role} cannot see open transactions: a watermark could pass them"),
                format!("GRANT pg_read_all_stats TO {};", quote(&role)),
            ),
            (_, true) => findings.ok(format!("{role} sees open transactions (pg_read_all_stats)")),
            _ => {}
        }
        Ok(())
    }

    async fn standby(&self, findings: &mut Findings) -> Result<()> {
        if !self.session.in_recovery {
            return Ok(());
        }
        let query = "SELECT current_setting('hot_standby_feedback')::bool, current_setting('max_standby_streaming_delay')";
        let rows = self.rows(query).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (feedback, delay): (bool, String) = (row.get(0), row.get(1));
        findings.ok("a standby: the watermark stays at the newest run that is proven complete");
        if !feedback {
            findings.warn(
                format!("hot_standby_feedback is off: a long read can be cancelled (max_standby_streaming_delay {delay})"),
                "Set hot_standby_feedback = on there, or a longer delay.",
            );
        }
        Ok(())
    }

    /// Transactions that hold the watermark back.
    async fn pins(&self, findings: &mut Findings) -> Result<()> {
        let query = format!(
            "SELECT pid, coalesce(state, 'unknown'), extract(epoch FROM clock_timestamp() - xact_start)::int8,
                coalesce(application_name, '')
             FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND backend_type NOT IN ('autovacuum worker', 'walsender')
               AND xact_start < clock_timestamp() - interval '{OLD_S} seconds' ORDER BY xact_start LIMIT 3"
        );
        for row in self.rows(&query).await? {
            let (pid, state, age, program): (i32, String, i64, String) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            findings.warn(
                format!(
                    "server process {pid} ({state}, {program}) has had a transaction open for {}: it pins the watermark",
                    span(age.unsigned_abs())
                ),
                format!("SELECT pg_terminate_backend({pid}); once its owner agrees."),
            );
        }
        let query =
            "SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - prepared))::int8, 0)
            FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()";
        if let Some(row) = self.rows(query).await?.first().filter(|row| row.get::<_, i64>(0) > 0) {
            let (count, age): (i64, i64) = (row.get(0), row.get(1));
            findings.warn(
                format!(
                    "{count} prepared transactions, the oldest {} old, pin the watermark",
                    span(age.unsigned_abs())
                ),
                "See pg_prepared_xacts; COMMIT PREPARED or ROLLBACK PREPARED those that are forgotten.",
            );
        }
        Ok(())
    }

    /// Every table of a pipeline: there, readable in the columns that travel, no row hidden.
    async fn tables(&self, pipeline: &Pipeline, findings: &mut Findings) -> Result<()> {
        let names: Vec<TableName> = pipeline.tables.iter().map(|spec| spec.name.clone()).collect();
        let found = introspect::tables(&self.session.client, &names).await?;
        let all = introspect::names(&self.session.client, Partitions::Named).await?;
        let all: Vec<String> = all.iter().map(TableName::to_string).collect();
        let access = self.access().await?;
        let before = findings.all.len();
        for spec in &pipeline.tables {
            let Some(table) = found.iter().find(|table| table.name == spec.name) else {
                let near = nearest_hint(&spec.name.to_string(), all.iter().map(String::as_str));
                findings.fail(Kind::Config, format!("{}: there is no such table", spec.name), near);
                continue;
            };
            let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
            let never = self.project.guard.never_columns(&self.database().await?, &spec.name, &columns);
            let travels = |name: &&String| {
                let named = spec.include.as_ref().is_none_or(|list| list.contains(name));
                named && !spec.exclude.contains(name) && !never.contains(name)
            };
            let missing: Vec<String> = columns
                .iter()
                .filter(travels)
                .filter(|name| !access.iter().any(|a| a.table == spec.name && a.column == **name))
                .cloned()
                .collect();
            if !missing.is_empty() {
                findings.fail(
                    Kind::Permission,
                    format!("{}: columns {} cannot be read", spec.name, some(&missing)),
                    format!(
                        "GRANT SELECT ({}) ON {} TO its role; and USAGE on the schema.",
                        quote_list(&missing),
                        spec.name
                    ),
                );
            }
            if self.hides_rows(&spec.name).await? {
                findings.fail(
                    Kind::Permission,
                    format!("{}: row security would hide rows", spec.name),
                    "Give the role BYPASSRLS, or a policy of its own is not enough: a subset is refused.",
                );
            }
        }
        if findings.all.len() == before {
            findings.ok(format!("pipeline {}: {} tables can be read", pipeline.name, pipeline.tables.len()));
        }
        Ok(())
    }

    async fn hides_rows(&self, table: &TableName) -> Result<bool> {
        let query = "SELECT pg_catalog.row_security_active(c.oid) FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
        let row = self.session.client.query_opt(query, &[&table.schema, &table.name]).await;
        let row = row.map_err(|error| self.session.failure(error, "cannot look into the source"))?;
        Ok(row.is_some_and(|row| row.get(0)))
    }

    async fn database(&self) -> Result<String> {
        Ok(self
            .rows("SELECT current_database()::text")
            .await?
            .first()
            .map_or(String::new(), |row| row.get(0)))
    }

    /// Every column outside the system's schemas that this role can read.
    async fn access(&self) -> Result<Vec<Access>> {
        let rows = self.rows(&columns_sql("AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')")).await?;
        Ok(rows.iter().map(Access::of).collect())
    }

    /// What must never leave must not be readable; a pattern that matches nothing may be mistyped.
    async fn guard(&self, findings: &mut Findings) -> Result<()> {
        let guard = &self.project.guard;
        if guard.never.is_empty() && guard.mask.is_empty() {
            return Ok(());
        }
        let database = self.database().await?;
        let readable = self.access().await?;
        let open = readable.iter().filter(|access| {
            let columns = [access.column.clone()];
            guard.never_table(&database, &access.table).is_some()
                || !guard.never_columns(&database, &access.table, &columns).is_empty()
        });
        let open: Vec<String> = open.map(|access| format!("{}.{}", access.table, access.column)).collect();
        match open.is_empty() {
            true => findings.ok("nothing that the guard says never of can be read"),
            false => findings.fail(
                Kind::Permission,
                format!("the role can read what the guard says never of: {}", some(&open)),
                "REVOKE SELECT on the table, then GRANT SELECT on the other columns: grants are the hard limit.",
            ),
        }
        let everything: Vec<Access> = self.rows(&columns_sql("")).await?.iter().map(Access::of).collect();
        let patterns = guard.never.iter().chain(guard.mask.iter().map(|(pattern, _)| pattern));
        for pattern in patterns.filter(|pattern| crate::config::guard::is_about(pattern, &database)) {
            let hit = everything.iter().any(|access| {
                crate::config::guard::pattern_matches(pattern, &database, &access.table, Some(&access.column))
            });
            if !hit {
                findings
                    .warn(format!("guard pattern {} matches nothing here", pattern.text), "Is it mistyped?");
            }
        }
        Ok(())
    }
}

/// One column.
struct Access {
    table: TableName,
    column: String,
}

impl Access {
    fn of(row: &tokio_postgres::Row) -> Self {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        Access { table, column: row.get(2) }
    }
}

fn columns_sql(and: &str) -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, a.attname::text FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
         {and} ORDER BY 1, 2, a.attnum"
    )
}

/// The first few by name, the others by number.
fn some(names: &[String]) -> String {
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = (1..=7).map(|n| format!("c{n}")).collect();
        assert_eq!(some(&names), "c1, c2, c3, c4, c5 and 2 more");
        assert_eq!(some(&names[..1]), "c1");
    }
}
