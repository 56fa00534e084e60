-- One row a column of the tables whose OIDs are $1, in the order of the table.
SELECT a.attrelid AS table_oid, a.attname::text AS name, a.attnum AS position, a.atttypid AS type_oid,
       a.atttypmod AS typmod, a.attnotnull AS not_null, a.attgenerated <> '' AS generated,
       CASE WHEN a.attgenerated = '' THEN '{}' ELSE coalesce((
           -- To 14 the column itself depends on the others, from 15 on its expression does.
           SELECT array_agg(DISTINCT r.attname::text)
           FROM pg_catalog.pg_depend p
           JOIN pg_catalog.pg_attribute r ON r.attrelid = p.refobjid AND r.attnum = p.refobjsubid
           WHERE p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = a.attrelid
             AND p.refobjsubid > 0 AND p.refobjsubid <> a.attnum
             AND ((p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = a.attrelid AND p.objsubid = a.attnum)
                  OR (p.classid = 'pg_catalog.pg_attrdef'::regclass
                      AND p.objid = (SELECT d.oid FROM pg_catalog.pg_attrdef d
                                     WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)))
       ), '{}') END AS made_of
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
