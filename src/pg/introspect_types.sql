-- Every type but the row types of tables: what it is made of, and which extension owns it.
SELECT t.oid, t.typname::text AS name, n.nspname::text AS schema, t.typtype AS class,
       pg_catalog.format_type(t.oid, -1) AS sql,
       CASE WHEN t.typlen = -1 AND t.typcategory = 'A' THEN t.typelem ELSE 0::oid END AS element,
       t.typbasetype AS base, t.typtypmod AS base_typmod, e.extname::text AS extension,
       coalesce(CASE t.typtype
                WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)
                WHEN 'm' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r
                               WHERE (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid) END, 0) AS range_of,
       CASE WHEN t.typtype = 'e'
            THEN coalesce((SELECT array_agg(l.enumlabel::text ORDER BY l.enumsortorder)
                           FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid), '{}')
            ELSE '{}' END AS labels,
       t.typsend <> 0 AND t.typreceive <> 0 AS has_io
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
      AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE t.typrelid = 0 OR c.relkind = 'c'
