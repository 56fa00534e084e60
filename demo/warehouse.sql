-- Roles of the warehouse: sankofa loads, metabase reads, marts makes what dashboards read.
CREATE ROLE metabase NOLOGIN;
CREATE ROLE marts NOLOGIN IN ROLE metabase;           -- it reads what readers read
CREATE ROLE sankofa LOGIN PASSWORD :'password' IN ROLE marts;
GRANT CREATE ON DATABASE warehouse TO sankofa;
CREATE SCHEMA marts AUTHORIZATION marts;
GRANT USAGE ON SCHEMA marts TO metabase;
