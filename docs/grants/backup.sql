-- Class `backup`, on each database that is backed up: read all of it, change nothing. Run it in that database
-- (here: hr) as a superuser. From 14 on; on 13 there is no pg_read_all_data: backup-13.sql.
CREATE ROLE sankofa_backup LOGIN PASSWORD 'change-me';
GRANT CONNECT ON DATABASE hr TO sankofa_backup;
GRANT pg_read_all_data TO sankofa_backup;
-- A dump that row security has thinned out is no backup: pg_dump refuses, and the run ends with 77.
ALTER ROLE sankofa_backup BYPASSRLS;
-- Large objects have rights of their own; each new one needs its line, or its owner's GRANT. Here: one.
GRANT SELECT ON LARGE OBJECT 4711 TO sankofa_backup;
