-- One row a column of the tables whose OIDs are $1, in the order of the table.
SELECT a.attrelid AS table_oid, a.attname::text AS name, a.attnum AS position, a.atttypid AS type_oid,
       a.atttypmod AS typmod, a.attnotnull AS not_null, a.attgenerated <> '' AS generated
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
