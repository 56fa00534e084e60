"""Tables to measure with, and the proof that two of them are equal.

Out:   SQL.
Holds: the floor's tables have the columns, the key and the metadata columns of Sankofa's.
"""

METADATA = (
    "_sankofa_run bigint NOT NULL DEFAULT 1, _sankofa_loaded_at timestamptz NOT NULL DEFAULT now(), "
    "_sankofa_deleted_at timestamptz"
)
NARROW = {"id": "bigint", "updated_at": "timestamptz", "n": "int", "note": "text"}
# Ten kinds of columns, four of each: forty. The expressions are of `i`, the row, and `k`, the column.
_KINDS = [
    ("int", "(i * {k}) % 100000"),
    ("bigint", "i * 1000003 + {k}"),
    ("numeric(14,2)", "((i * {k}) % 10000000)::numeric / 100"),
    ("double precision", "sqrt(i + {k})"),
    ("text", "md5((i + {k})::text)"),
    ("varchar(40)", "CASE WHEN i % 3 = 0 THEN NULL ELSE 'status ' || (i + {k}) % 17 END"),
    ("timestamptz", "'2020-01-01'::timestamptz + make_interval(secs => (i * {k}) % 100000000)"),
    ("date", "'2000-01-01'::date + ((i + {k}) % 9000)::int"),
    ("boolean", "(i + {k}) % 2 = 0"),
    ("jsonb", "jsonb_build_object('a', i, 'b', 'value ' || {k})"),
]


def _wide():
    columns, values = {"id": "bigint"}, ["i"]
    for number in range(1, 40):
        kind, value = _KINDS[number % len(_KINDS)]
        columns[f"c{number}"] = kind
        values.append(value.format(k=number))
    return columns, values


WIDE, _WIDE_VALUES = _wide()


def _create(name, columns, more=""):
    listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    return f"CREATE TABLE {name} ({listed}{more}, PRIMARY KEY (id))"


def narrow(rows):
    """`narrow`: 10 million rows are 730 MB."""
    return [
        _create("narrow", NARROW),
        f"""INSERT INTO narrow SELECT i, '2024-01-01'::timestamptz + i * interval '1 second', i % 1000,
            'note ' || i FROM generate_series(1, {rows}) i""",
        "CREATE INDEX ON narrow (updated_at)",
        "VACUUM (ANALYZE, FREEZE) narrow",
    ]


def wide(rows):
    """`wide`: 40 columns of ten kinds."""
    return [
        _create("wide", WIDE),
        f"INSERT INTO wide SELECT {', '.join(_WIDE_VALUES)} FROM generate_series(1, {rows}::bigint) i",
        "VACUUM (ANALYZE, FREEZE) wide",
    ]


def blobs(name, rows, mib):
    """`rows` rows of `mib` MiB that do not compress."""
    return [
        f"CREATE TABLE {name} (id bigint PRIMARY KEY, body bytea)",
        f"ALTER TABLE {name} ALTER body SET STORAGE EXTERNAL",
        f"""INSERT INTO {name} SELECT i, decode(repeat(md5(i::text), 65536 * {mib} / 2), 'hex')
            FROM generate_series(1, {rows}) i""",
        f"VACUUM ANALYZE {name}",
    ]


def many(tables, rows):
    """`t1` ... of `rows` rows each."""
    made = "; ".join(
        f"{_create(f't{number}', NARROW)}; INSERT INTO t{number} SELECT i, '2024-01-01'::timestamptz, i, "
        f"'note ' || i FROM generate_series(1, {rows}) i"
        for number in range(1, tables + 1)
    )
    return [made, "VACUUM ANALYZE"]


def floor(name, columns):
    """A table of schema `floor` with Sankofa's key and metadata columns, filled by defaults."""
    return _create(f"floor.{name}", columns, ", " + METADATA)


def proof(table, columns, live=True):
    """One line that tells two tables apart: count of rows and sum of their hashes."""
    where = "" if live else " WHERE _sankofa_deleted_at IS NULL"
    row = ", ".join(columns)
    return f"SELECT count(*), sum(hash_record_extended(ROW({row}), 0) & 1099511627775) FROM {table}{where}"
