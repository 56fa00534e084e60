-- Schema `sankofa`, version 1: what was run, how far each table is, what was agreed on and checked.
-- Base tables may change between versions; the views at the end are stable.
CREATE SCHEMA sankofa;
REVOKE ALL ON SCHEMA sankofa FROM PUBLIC;
COMMENT ON SCHEMA sankofa IS 'Runs, watermarks, contracts and checks of Sankofa; read its views, not its tables';

CREATE TABLE sankofa.meta (
    only_row bool PRIMARY KEY DEFAULT true CHECK (only_row),
    schema_version int NOT NULL,
    min_binary text NOT NULL,
    environment text NOT NULL
);

CREATE TABLE sankofa.run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline text NOT NULL,
    run_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('sync', 'steps', 'reset')),
    command text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'staged', 'published', 'failed', 'cancelled', 'lost')),
    attempt int NOT NULL DEFAULT 1,
    config_hash text NOT NULL,
    binary_version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    error_code text,
    error_message text,
    report jsonb,
    UNIQUE (pipeline, run_id)
);

CREATE TABLE sankofa.table_run (
    run bigint NOT NULL REFERENCES sankofa.run ON DELETE CASCADE,
    table_name text NOT NULL,
    target text NOT NULL,
    mode text NOT NULL,
    reason text,
    rows_read bigint NOT NULL,
    rows_staged bigint NOT NULL,
    rows_inserted bigint NOT NULL,
    rows_updated bigint NOT NULL,
    rows_deleted bigint NOT NULL,
    rows_unchanged bigint NOT NULL,
    rows_rejected bigint NOT NULL,
    live_rows bigint NOT NULL,
    bytes bigint NOT NULL,
    duration_ms bigint NOT NULL,
    schema_change text,
    PRIMARY KEY (run, table_name)
);

CREATE TABLE sankofa.table_state (
    pipeline text NOT NULL,
    table_name text NOT NULL,
    target text NOT NULL,
    run bigint NOT NULL REFERENCES sankofa.run,
    watermark jsonb,
    watermark_text text,
    contract jsonb NOT NULL,
    contract_version int NOT NULL,
    settings text NOT NULL,
    live_rows bigint NOT NULL,
    deletes_at timestamptz,
    PRIMARY KEY (pipeline, table_name),
    UNIQUE (target)
);

CREATE TABLE sankofa.contract (
    pipeline text NOT NULL,
    table_name text NOT NULL,
    version int NOT NULL,
    run bigint NOT NULL REFERENCES sankofa.run,
    contract jsonb NOT NULL,
    change text,
    PRIMARY KEY (pipeline, table_name, version)
);

CREATE TABLE sankofa.check_result (
    run bigint NOT NULL REFERENCES sankofa.run ON DELETE CASCADE,
    table_name text NOT NULL,
    check_name text NOT NULL,
    scope text NOT NULL,
    severity text NOT NULL,
    measured double precision,
    bound text NOT NULL,
    passed bool NOT NULL,
    PRIMARY KEY (run, table_name, check_name)
);

CREATE VIEW sankofa.runs AS
    SELECT id, pipeline, run_id, kind, command, status, attempt, started_at, ended_at,
           ended_at - started_at AS duration, binary_version, error_code
    FROM sankofa.run;
COMMENT ON VIEW sankofa.runs IS 'One row a run; `_sankofa_run` of a loaded row is its id';

CREATE VIEW sankofa.tables AS
    SELECT r.pipeline, r.run_id, r.started_at, r.status, t.*
    FROM sankofa.table_run t JOIN sankofa.run r ON r.id = t.run;
COMMENT ON VIEW sankofa.tables IS 'One row a table of a run: rows read, written, live, and how long it took';

CREATE VIEW sankofa.watermarks AS
    SELECT s.pipeline, s.table_name, s.target, s.watermark_text AS watermark, s.watermark ->> 'key' AS replication_key,
           s.live_rows, s.deletes_at, r.run_id, r.ended_at AS published_at
    FROM sankofa.table_state s JOIN sankofa.run r ON r.id = s.run;
COMMENT ON VIEW sankofa.watermarks IS 'One row a loaded table: how far it has been read, and when it was last published';

CREATE VIEW sankofa.contracts AS
    SELECT c.pipeline, c.table_name, c.version, r.run_id, r.ended_at AS agreed_at, c.change, c.contract
    FROM sankofa.contract c JOIN sankofa.run r ON r.id = c.run;
COMMENT ON VIEW sankofa.contracts IS 'Every version of the columns that source and warehouse agreed on';

CREATE VIEW sankofa.checks AS
    SELECT r.pipeline, r.run_id, r.started_at, c.table_name, c.check_name, c.scope, c.severity, c.measured, c.bound, c.passed
    FROM sankofa.check_result c JOIN sankofa.run r ON r.id = c.run;
COMMENT ON VIEW sankofa.checks IS 'Every figure that a quality check has measured';

-- Rows on their way, and tables not yet published: no reader gets USAGE here.
CREATE SCHEMA sankofa_stage;
REVOKE ALL ON SCHEMA sankofa_stage FROM PUBLIC;
