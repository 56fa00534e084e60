-- One row a table of ($1 schema, $2 name): what it is, its keys, its heaps, its size. All heaps are
-- found in one pass: a lateral join looked through pg_class once for each table.
WITH RECURSIVE wanted AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relhassubclass, c.reltuples
    FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS asked(schema, name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = asked.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
), tree(root, oid) AS (
    SELECT w.oid, w.oid FROM wanted w
    UNION SELECT t.root, i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid
), heaps AS (
    SELECT t.root, h.oid, hn.nspname, h.relname, h.relkind,
           bool_and(h.relkind = 'p' OR (h.relkind = 'r' AND NOT h.relrowsecurity
                    AND pg_catalog.has_schema_privilege(h.relnamespace, 'USAGE')
                    AND pg_catalog.has_table_privilege(h.oid, 'SELECT'))) OVER (PARTITION BY t.root) AS readable
    FROM tree t JOIN pg_catalog.pg_class h ON h.oid = t.oid
    JOIN pg_catalog.pg_namespace hn ON hn.oid = h.relnamespace
), leaves AS (
    SELECT root, array_agg(nspname::text ORDER BY oid) FILTER (WHERE readable) AS schemas,
           array_agg(relname::text ORDER BY oid) FILTER (WHERE readable) AS names,
           array_agg(pg_catalog.pg_relation_size(oid) / 8192 ORDER BY oid) FILTER (WHERE readable) AS pages,
           sum(pg_catalog.pg_table_size(oid)) AS bytes
    FROM heaps WHERE relkind IN ('r', 'm') GROUP BY root
)
SELECT c.oid, c.nspname::text AS schema, c.relname::text AS name, c.relkind AS kind,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.ord)
                 FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
                 WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND k.ord <= i.indnkeyatts
                   AND (c.relkind = 'p' OR NOT c.relhassubclass)), '{}') AS primary_key,
       coalesce((SELECT array_agg(key ORDER BY key) FROM (
                 SELECT string_agg(a.attname::text, E'\x1f' ORDER BY k.ord) AS key
                 FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, ord)
                 JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
                 WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                   AND i.indpred IS NULL AND i.indexprs IS NULL
                   AND a.attrelid = c.oid AND k.ord <= i.indnkeyatts AND (c.relkind = 'p' OR NOT c.relhassubclass)
                 GROUP BY i.indexrelid) AS u), '{}') AS unique_keys,
       coalesce((SELECT array_agg(DISTINCT a.attname::text)
                 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attnum = i.indkey[0]
                 WHERE i.indrelid = c.oid AND a.attrelid = c.oid AND i.indisvalid), '{}') AS indexed,
       c.reltuples::float8 AS estimated_rows,
       coalesce(l.schemas, '{}') AS leaf_schemas, coalesce(l.names, '{}') AS leaf_names,
       coalesce(l.pages, '{}') AS leaf_pages, coalesce(l.bytes, 0)::int8 AS bytes
FROM wanted c LEFT JOIN leaves l ON l.root = c.oid
