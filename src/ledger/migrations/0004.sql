-- Schema `sankofa`, version 4: since when a check is missed and by which rows; what a person took on for one run.
ALTER TABLE sankofa.check_result
    ADD COLUMN since timestamptz,
    ADD COLUMN since_run text,
    ADD COLUMN refused_rows text[] NOT NULL DEFAULT '{}';

CREATE TABLE sankofa.acceptance (
    run bigint NOT NULL REFERENCES sankofa.run ON DELETE CASCADE,
    table_name text NOT NULL,
    check_name text NOT NULL,
    accepted_by text NOT NULL,
    reason text NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, table_name, check_name)
);

CREATE TABLE sankofa.set_aside (
    run bigint NOT NULL REFERENCES sankofa.run ON DELETE CASCADE,
    table_name text NOT NULL,
    set_aside_by text NOT NULL,
    reason text NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    loaded_run bigint,
    loaded_at timestamptz,
    PRIMARY KEY (run, table_name)
);

CREATE OR REPLACE VIEW sankofa.checks AS
    SELECT r.pipeline, r.run_id, r.started_at, c.table_name, c.check_name, c.scope, c.severity, c.measured, c.bound, c.passed,
           c.since AS missed_since, c.since_run AS missed_since_run, c.refused_rows,
           a.run IS NOT NULL AS accepted, a.reason AS accepted_because
    FROM sankofa.check_result c JOIN sankofa.run r ON r.id = c.run
    LEFT JOIN sankofa.acceptance a ON a.run = c.run AND a.table_name = c.table_name AND a.check_name = c.check_name;

CREATE OR REPLACE VIEW sankofa.freshness AS
    SELECT s.pipeline, s.table_name, s.target, s.watermark_text AS watermark, s.live_rows,
           r.run_id AS published_by, r.ended_at AS published_at, clock_timestamp() - r.ended_at AS age,
           l.run_id AS last_run_id, l.status AS last_status, l.started_at AS last_started_at,
           a.set_aside_at, a.reason AS set_aside_because
    FROM sankofa.table_state s JOIN sankofa.run r ON r.id = s.run
    LEFT JOIN LATERAL (SELECT n.run_id, n.status, n.started_at FROM sankofa.run n
        WHERE n.pipeline = s.pipeline AND n.kind <> 'reset' ORDER BY n.id DESC LIMIT 1) l ON true
    LEFT JOIN LATERAL (SELECT o.set_aside_at, o.reason FROM sankofa.set_aside o JOIN sankofa.run p ON p.id = o.run
        WHERE p.pipeline = s.pipeline AND o.table_name = s.table_name AND o.loaded_at IS NULL AND p.status = 'published'
        ORDER BY o.run LIMIT 1) a ON true;

COMMENT ON COLUMN sankofa.checks.missed_since IS 'When the first of the runs in a row that missed it began; empty: it was kept';
COMMENT ON COLUMN sankofa.checks.missed_since_run IS 'Name of that run';
COMMENT ON COLUMN sankofa.checks.refused_rows IS 'Keys of at most five rows that it refuses: numbers, uuids and times; no text, no column that is masked';
COMMENT ON COLUMN sankofa.checks.accepted IS 'Somebody has accepted the miss for this run alone';
COMMENT ON COLUMN sankofa.checks.accepted_because IS 'Why; who did is in table acceptance and in `sankofa state show`';
COMMENT ON COLUMN sankofa.freshness.set_aside_at IS 'Since when a published run has left this table as it was; empty: none has since it was loaded';
COMMENT ON COLUMN sankofa.freshness.set_aside_because IS 'Why';
