-- One row a table of ($1 schema, $2 name): what it is, its keys, its heaps, its size.
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind AS kind,
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
FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS wanted(schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
LEFT JOIN LATERAL (
    WITH RECURSIVE tree(oid) AS (
        SELECT c.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid
    )
    SELECT array_agg(ln.nspname::text ORDER BY lc.oid) FILTER (WHERE readable.all_of_them) AS schemas,
           array_agg(lc.relname::text ORDER BY lc.oid) FILTER (WHERE readable.all_of_them) AS names,
           array_agg(pg_catalog.pg_relation_size(lc.oid) / 8192 ORDER BY lc.oid)
               FILTER (WHERE readable.all_of_them) AS pages,
           sum(pg_catalog.pg_table_size(lc.oid)) AS bytes
    FROM tree t JOIN pg_catalog.pg_class lc ON lc.oid = t.oid
    JOIN pg_catalog.pg_namespace ln ON ln.oid = lc.relnamespace
    CROSS JOIN (
        SELECT bool_and(h.relkind = 'r' AND NOT h.relrowsecurity AND pg_catalog.has_schema_privilege(h.relnamespace, 'USAGE')
                        AND pg_catalog.has_table_privilege(h.oid, 'SELECT')) AS all_of_them
        FROM tree JOIN pg_catalog.pg_class h ON h.oid = tree.oid WHERE h.relkind <> 'p'
    ) AS readable
    WHERE lc.relkind IN ('r', 'm')
) AS l ON true
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
