-- Class `rows`, on the warehouse: load, and let others read what is loaded. Run it in that database (here:
-- warehouse) as its owner or a superuser. `reader_role: metabase` and `after_role: marts` name the two others.
CREATE ROLE metabase NOLOGIN;
CREATE ROLE marts NOLOGIN;
CREATE ROLE sankofa_load LOGIN PASSWORD 'change-me';
REVOKE ALL ON DATABASE warehouse FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE warehouse TO sankofa_load;
-- It makes its own schemas: sankofa, sankofa_stage, and one a pipeline.
GRANT CREATE ON DATABASE warehouse TO sankofa_load;
-- `after:` SQL runs with the rights of marts alone: it reads what readers read and writes its own schema.
GRANT marts TO sankofa_load;
GRANT metabase TO marts;
CREATE SCHEMA marts AUTHORIZATION marts;
GRANT USAGE ON SCHEMA marts TO metabase;
-- A person or a dashboard logs in as a role of its own that is in metabase, and has CONNECT of its own: given
-- to metabase it would be sankofa_load's too, through marts.
