//! Runs the pipeline's own SQL in the publishing commit, with the rights of one role alone.
//!
//! Each statement runs inside a function that belongs to that role and has SECURITY DEFINER: there
//! PostgreSQL refuses SET ROLE and transaction control, in dynamic SQL too (manual, SET ROLE:
//! "cannot be used within SECURITY DEFINER functions"). Deferred triggers fire inside it too: at COMMIT
//! they would run as whoever commits (before PostgreSQL 18).

use super::Publication;
use crate::config::sql_text;
use crate::error::Failure;
use crate::ledger::STAGING_SCHEMA;
use crate::table::quote;
use anyhow::Result;

/// Runs every statement of every file, in order.
pub async fn run(publication: &Publication<'_>) -> Result<()> {
    if publication.pipeline.after.is_empty() {
        return Ok(());
    }
    let Some(role) = &publication.warehouse.after_role else {
        let what =
            format!("cannot run `after:` of {}: sankofa.yaml names no after_role", publication.pipeline.name);
        return Err(Failure::config(what)
            .hint("Set `warehouse: {after_role: ...}`: its rights are all that `after:` has.")
            .into());
    };
    let (role, function) = (quote(role), format!("{STAGING_SCHEMA}.r{}_after", publication.run));
    let make = format!(
        "SET CONSTRAINTS ALL IMMEDIATE; GRANT CREATE, USAGE ON SCHEMA {STAGING_SCHEMA} TO {role};
         CREATE FUNCTION {function}(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
         SET search_path = {schema}, pg_catalog, pg_temp AS $after$ BEGIN
            EXECUTE statement; SET CONSTRAINTS ALL IMMEDIATE; END $after$;
         ALTER FUNCTION {function}(text) OWNER TO {role};
         GRANT EXECUTE ON FUNCTION {function}(text) TO CURRENT_USER;
         REVOKE CREATE, USAGE ON SCHEMA {STAGING_SCHEMA} FROM {role}",
        schema = quote(&publication.pipeline.schema),
    );
    publication.execute(&make, "cannot prepare `after:`").await?;
    let call = format!("SELECT {function}($1)");
    for (path, text) in &publication.pipeline.after {
        let statements =
            sql_text::statements(text).map_err(|why| Failure::config(format!("cannot run {path}: {why}")))?;
        for (number, statement) in statements.iter().enumerate() {
            let cannot = format!("cannot run statement {} of {path}", number + 1);
            let ran = publication.session.client.execute(&call, &[statement]).await;
            ran.map_err(|error| publication.session.failure(error, &cannot))?;
        }
    }
    publication.execute(&format!("DROP FUNCTION {function}(text)"), "cannot end `after:`").await
}
