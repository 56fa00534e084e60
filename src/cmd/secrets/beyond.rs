//! What the identity in a connection may do beyond what the project needs of it.
//!
//! In:    a connection that was found, and what it is for.
//! Out:   short phrases: attributes, memberships, counts; never a value.
//! Holds: PostgreSQL's catalog and B2's login are asked, nothing is changed.
//! Not here: what the identity that asks a place may read there ([`crate::secret::Place::beyond`]).

use crate::config::model::{Bucket, StorePlace};
use crate::config::needs::{Needed, Purpose};
use crate::error::classify;
use crate::pg::connect::{SessionOptions, connect};
use crate::pg::session::Session;
use crate::secret::{Beyond, Connection};
use crate::store::b2::B2;
use crate::table::TableName;
use anyhow::Result;

const NAME: &str = concat!("sankofa/", env!("CARGO_PKG_VERSION"), " secrets check");
/// What a store needs of a key; one that prunes needs `deleteFiles` too.
const B2_NEEDS: &[&str] = &[
    "listBuckets",
    "listFiles",
    "readFiles",
    "writeFiles",
    "readBuckets",
    "readFileRetentions",
    "writeFileRetentions",
    "readBucketRetentions",
    "deleteFiles",
];

/// What `connection` opens beyond the uses of `needed`.
pub(super) async fn of(connection: &Connection, needed: &Needed) -> Beyond {
    let bucket = needed.uses.iter().find_map(|(_, purpose)| match purpose {
        Purpose::Bucket(StorePlace::B2(bucket)) | Purpose::Prune(StorePlace::B2(bucket)) => Some(Ok(bucket)),
        Purpose::Bucket(_) | Purpose::Prune(_) | Purpose::Receiver => Some(Err(())),
        _ => None,
    });
    let found = match bucket {
        Some(Ok(bucket)) => b2(connection, bucket).await,
        Some(Err(())) => return Beyond::Unknown(None), // S3 and receivers tell nobody what a key may do
        None => postgres(connection, needed).await,
    };
    found.map_or_else(|why| Beyond::Unknown(Some(classify(&why).what)), Beyond::Known)
}

async fn b2(connection: &Connection, bucket: &Bucket) -> Result<Vec<String>> {
    let rights = B2::open(connection, &bucket.bucket, bucket.prefix.as_deref())?.key_rights().await?;
    let more = rights.capabilities.into_iter().filter(|name| !B2_NEEDS.contains(&name.as_str()));
    let mut found: Vec<String> = more.map(|name| format!("capability {name}")).collect();
    match rights.buckets {
        None => found.push("all buckets".to_owned()),
        Some(1) => {}
        Some(count) => found.push(format!("{count} buckets")),
    }
    if bucket.prefix.is_some() && rights.prefix.is_none() {
        found.push("all names in the bucket".to_owned());
    }
    Ok(found)
}

/// Attributes and memberships that let a role out of its database or past its grants.
const ROLE: &str = "SELECT r.rolsuper, r.rolcreaterole, r.rolreplication, r.rolcreatedb, r.rolbypassrls, \
    ARRAY(SELECT m.rolname::text FROM pg_catalog.pg_roles m WHERE m.rolname LIKE 'pg\\_%' AND NOT r.rolsuper \
        AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER') ORDER BY 1) \
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Tables of others' schemas by what may be done to them, as `schema.table`.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text, \
        pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'), \
        pg_catalog.has_table_privilege(c.oid, 'SELECT') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'f', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
        AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')";

/// Whether row security would hide rows of a table that is read: only BYPASSRLS reads all of them.
const HIDDEN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
    ON n.oid = c.relnamespace JOIN ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS t (s, r) \
    ON t.s = n.nspname AND t.r = c.relname WHERE c.relrowsecurity)";

async fn postgres(connection: &Connection, needed: &Needed) -> Result<Vec<String>> {
    let options = SessionOptions::named(NAME).set("default_transaction_read_only", "on");
    let session = connect(connection, &options).await?;
    let [loads, dumps, drills] = [Purpose::Warehouse, Purpose::Backup, Purpose::Drill]
        .map(|wanted| needed.is_for(|purpose| *purpose == wanted));
    let read = read(needed);
    let asked = session.client.query_one(ROLE, &[]).await;
    let row = asked.map_err(|error| session.failure(error, "cannot ask what the role may do"))?;
    let attributes = [
        (row.try_get(0)?, "superuser", false),
        (row.try_get(1)?, "CREATEROLE", false),
        (row.try_get(2)?, "REPLICATION", false),
        (row.try_get(3)?, "CREATEDB", drills),
        (row.try_get(4)?, "BYPASSRLS", dumps || drills || are_hidden(&session, &read).await?),
    ];
    let beyond = attributes.into_iter().filter(|(is, _, needs)| *is && !needs);
    let mut found: Vec<String> = beyond.map(|(_, name, _)| name.to_owned()).collect();
    let fits = |name: &str| match name {
        "pg_read_all_stats" | "pg_monitor" | "pg_read_all_settings" => true,
        "pg_read_all_data" => dumps,
        "pg_signal_backend" => loads || dumps,
        _ => false,
    };
    let member: Vec<String> = row.try_get(5)?;
    found.extend(member.into_iter().filter(|name| !fits(name)).map(|name| format!("member of {name}")));
    if !loads && !drills {
        found.extend(tables(&session, &read, dumps).await?);
    }
    session.close().await;
    Ok(found)
}

/// The tables that pipelines read.
fn read(needed: &Needed) -> Vec<&TableName> {
    let tables = needed.uses.iter().map(|(_, purpose)| match purpose {
        Purpose::Source(tables) => tables.as_slice(),
        _ => &[],
    });
    tables.flatten().collect()
}

async fn are_hidden(session: &Session, read: &[&TableName]) -> Result<bool> {
    let names: (Vec<&str>, Vec<&str>) =
        read.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let asked = session.client.query_one(HIDDEN, &[&names.0, &names.1]).await;
    Ok(asked.map_err(|error| session.failure(error, "cannot ask what the role may do"))?.try_get(0)?)
}

/// Tables that may be written, and those that may be read and nobody reads.
async fn tables(session: &Session, read: &[&TableName], dumps: bool) -> Result<Vec<String>> {
    let asked = session.client.query(TABLES, &[]).await;
    let rows = asked.map_err(|error| session.failure(error, "cannot ask what the role may do"))?;
    let (mut writable, mut readable) = (0, 0);
    for row in &rows {
        let (schema, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        writable += usize::from(row.try_get::<_, bool>(2)?);
        let is_named = read.iter().any(|table| table.schema == schema && table.name == name);
        readable += usize::from(row.try_get::<_, bool>(3)? && !is_named && !dumps);
    }
    let counted =
        [(writable, "tables may be written"), (readable, "tables may be read that no pipeline names")];
    Ok(counted.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect())
}
