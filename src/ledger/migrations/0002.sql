-- Schema `sankofa`, version 2: what was backed up, verified, drilled and found covered.
-- The stores keep the truth of backups and drills; this is what dashboards and `status` read beside it.
CREATE TABLE sankofa.backup (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    database_name text NOT NULL,
    run_id text NOT NULL,
    store text NOT NULL,
    backup_id text,
    status text NOT NULL CHECK (status IN ('stored', 'failed')),
    attempt int NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    table_count bigint,
    row_count bigint,
    plain_bytes bigint,
    stored_bytes bigint,
    server_version text,
    binary_version text NOT NULL,
    error_code text,
    error_message text,
    UNIQUE (database_name, run_id)
);

CREATE TABLE sankofa.verification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    database_name text NOT NULL,
    backup_id text NOT NULL,
    verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    passed bool NOT NULL,
    opened bool NOT NULL,
    stored_bytes bigint NOT NULL,
    binary_version text NOT NULL,
    error_code text,
    error_message text
);
CREATE INDEX ON sankofa.verification (database_name, backup_id);

CREATE TABLE sankofa.drill (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    database_name text NOT NULL,
    run_id text NOT NULL,
    backup_id text,
    status text NOT NULL CHECK (status IN ('proven', 'different', 'failed')),
    attempt int NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    table_count bigint,
    row_count bigint,
    different bigint,
    plain_bytes bigint,
    stored_bytes bigint,
    fetch_ms bigint,
    decrypt_ms bigint,
    restore_ms bigint,
    prove_ms bigint,
    restore_within_ms bigint,
    server_version text,
    binary_version text NOT NULL,
    error_code text,
    error_message text,
    UNIQUE (database_name, run_id)
);
CREATE INDEX ON sankofa.drill (database_name, backup_id);

CREATE TABLE sankofa.coverage_look (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    looked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    found jsonb NOT NULL
);

CREATE VIEW sankofa.freshness AS
    SELECT s.pipeline, s.table_name, s.target, s.watermark_text AS watermark, s.live_rows,
           r.run_id AS published_by, r.ended_at AS published_at, clock_timestamp() - r.ended_at AS age,
           l.run_id AS last_run_id, l.status AS last_status, l.started_at AS last_started_at
    FROM sankofa.table_state s JOIN sankofa.run r ON r.id = s.run
    LEFT JOIN LATERAL (SELECT n.run_id, n.status, n.started_at FROM sankofa.run n
        WHERE n.pipeline = s.pipeline AND n.kind <> 'reset' ORDER BY n.id DESC LIMIT 1) l ON true;
COMMENT ON VIEW sankofa.freshness IS 'One row a loaded table: how old what readers see is, and how the newest run of its pipeline went';

CREATE VIEW sankofa.backups AS
    SELECT b.id, b.database_name, b.backup_id, b.run_id, b.store, b.status, b.attempt, b.started_at, b.ended_at,
           b.ended_at - b.started_at AS duration, b.table_count, b.row_count, b.plain_bytes, b.stored_bytes,
           b.server_version, b.binary_version, b.error_code, v.verified_at, v.passed AS verified, v.opened,
           d.ended_at AS drilled_at, d.status = 'proven' AS proven
    FROM sankofa.backup b
    LEFT JOIN LATERAL (SELECT n.verified_at, n.passed, n.opened FROM sankofa.verification n
        WHERE n.database_name = b.database_name AND n.backup_id = b.backup_id ORDER BY n.id DESC LIMIT 1) v ON true
    LEFT JOIN LATERAL (SELECT n.ended_at, n.status FROM sankofa.drill n WHERE n.database_name = b.database_name
        AND n.backup_id = b.backup_id AND n.status <> 'failed' ORDER BY n.id DESC LIMIT 1) d ON true;
COMMENT ON VIEW sankofa.backups IS 'One row a run of `sankofa backup`: what was stored, how large, and whether it was verified and proven since; what is in the store now is told by `sankofa backups list`';

CREATE VIEW sankofa.drills AS
    SELECT id, database_name, backup_id, run_id, status, attempt, started_at, ended_at, table_count, row_count, different,
           plain_bytes, stored_bytes, fetch_ms, decrypt_ms, restore_ms, prove_ms,
           fetch_ms + decrypt_ms + restore_ms + prove_ms AS took_ms, restore_within_ms,
           fetch_ms + decrypt_ms + restore_ms + prove_ms <= restore_within_ms AS in_time,
           server_version, binary_version, error_code
    FROM sankofa.drill;
COMMENT ON VIEW sankofa.drills IS 'One row a drill: whether a backup came back equal on another server, and how long that took';

CREATE VIEW sankofa.coverage AS
    SELECT c.looked_at, f.server, f.database_name, f.backed_up_as, f.newest_at, f.age_s, f.expected_every_s, f.verdict, f.said
    FROM (SELECT looked_at, found FROM sankofa.coverage_look ORDER BY id DESC LIMIT 1) c,
         pg_catalog.jsonb_to_recordset(c.found) AS f(server text, database_name text, backed_up_as text,
             newest_at timestamptz, age_s int8, expected_every_s int8, verdict text, said text);
COMMENT ON VIEW sankofa.coverage IS 'Every database of every server, as the newest `sankofa backups coverage` found it';

COMMENT ON COLUMN sankofa.runs.id IS 'Number of the run: `_sankofa_run` of a loaded row';
COMMENT ON COLUMN sankofa.runs.run_id IS 'Name of the run, as the scheduler calls it';
COMMENT ON COLUMN sankofa.runs.kind IS 'sync: in one process; steps: extract, validate, load; reset: state reset';
COMMENT ON COLUMN sankofa.runs.command IS 'Command that it was last seen in';
COMMENT ON COLUMN sankofa.runs.status IS 'running, staged, published, failed, cancelled, or lost with its process';
COMMENT ON COLUMN sankofa.runs.attempt IS 'How often it was begun';
COMMENT ON COLUMN sankofa.runs.error_code IS 'data: refused by contract or check; temporary; permission; config; else unclassified';
COMMENT ON COLUMN sankofa.tables.reason IS 'Why every row was read although the mode does not say so';
COMMENT ON COLUMN sankofa.tables.live_rows IS 'Rows of the table in the warehouse after the run, without deleted ones';
COMMENT ON COLUMN sankofa.tables.bytes IS 'Bytes read from the source';
COMMENT ON COLUMN sankofa.checks.measured IS 'What was found, in the unit of the bound';
COMMENT ON COLUMN sankofa.checks.bound IS 'What is allowed';
COMMENT ON COLUMN sankofa.checks.severity IS 'fail: a miss refuses the run; warn: it is only told';
COMMENT ON COLUMN sankofa.freshness.age IS 'Time since the run that published what readers see now';
COMMENT ON COLUMN sankofa.freshness.watermark IS 'How far the source has been read';
COMMENT ON COLUMN sankofa.freshness.last_status IS 'How the newest run of the pipeline ended; see runs.status';
COMMENT ON COLUMN sankofa.backups.status IS 'stored or failed';
COMMENT ON COLUMN sankofa.backups.plain_bytes IS 'Bytes that pg_dump wrote';
COMMENT ON COLUMN sankofa.backups.stored_bytes IS 'Bytes in the store, packed and encrypted';
COMMENT ON COLUMN sankofa.backups.verified IS 'Whether its newest `backups verify` read it back as its manifest says; empty: never done';
COMMENT ON COLUMN sankofa.backups.opened IS 'Whether that also decrypted it and compared it with its proof';
COMMENT ON COLUMN sankofa.backups.proven IS 'Whether its newest drill restored it equal to what was dumped; empty: never drilled';
COMMENT ON COLUMN sankofa.drills.status IS 'proven: restored equal; different: it was not; failed: the drill did not come to an end';
COMMENT ON COLUMN sankofa.drills.took_ms IS 'Fetching, decrypting, restoring and proving, milliseconds';
COMMENT ON COLUMN sankofa.drills.in_time IS 'Whether that is within `restore_within`';
COMMENT ON COLUMN sankofa.coverage.verdict IS 'covered; gap: no young enough backup; ignored: by name in sankofa.yaml; exempt: nothing to back up';
COMMENT ON COLUMN sankofa.coverage.age_s IS 'Age of its newest good backup when it was looked at, seconds';
