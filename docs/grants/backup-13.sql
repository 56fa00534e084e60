-- Class `backup` on PostgreSQL 13, which has no pg_read_all_data: as backup.sql, schema by schema. Run it in that
-- database (here: hr, with schema public alone) as a superuser. A new schema needs its three lines, and so that new
-- tables need none, whoever makes them: ALTER DEFAULT PRIVILEGES IN SCHEMA ... GRANT SELECT ON TABLES, then SEQUENCES.
CREATE ROLE sankofa_backup LOGIN PASSWORD 'change-me';
GRANT CONNECT ON DATABASE hr TO sankofa_backup;
GRANT USAGE ON SCHEMA public TO sankofa_backup;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO sankofa_backup;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO sankofa_backup;
-- A dump that row security has thinned out is no backup: pg_dump refuses, and the run ends with 77.
ALTER ROLE sankofa_backup BYPASSRLS;
-- Large objects have rights of their own; each new one needs its line, or its owner's GRANT. Here: one.
GRANT SELECT ON LARGE OBJECT 4711 TO sankofa_backup;
