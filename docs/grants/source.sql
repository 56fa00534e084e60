-- Class `rows`, on each source: read what is loaded, and nothing else. Run it in that database (here: hr)
-- as its owner or a superuser. The grant is the hard limit behind `guard:`: leave out what must never leave.
CREATE ROLE sankofa_rows LOGIN PASSWORD 'change-me';
REVOKE ALL ON DATABASE hr FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE hr TO sankofa_rows;
GRANT USAGE ON SCHEMA public TO sankofa_rows;
-- When other transactions began: without it a read by a time could miss rows, and ends with 77.
GRANT pg_read_all_stats TO sankofa_rows;
GRANT SELECT ON public.department TO sankofa_rows;
-- Column by column where some must never leave: here all but national_id.
GRANT SELECT (id, name, department, updated_at) ON public.employee TO sankofa_rows;
-- Where row security would hide rows the run ends with 77; leave this out where there is none.
ALTER ROLE sankofa_rows BYPASSRLS;
