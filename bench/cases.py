"""The cases: what is run in turn, what must be equal, what counts.

In:    two clusters, the program, sizes.
Out:   [`Figure`]s.
Holds: contestants take turns (A B A B); a figure counts only after both sides were proven equal.
"""

import statistics
import time

import backups
import data
import launches
import vaults
from cluster import pipe
from contestant import Sankofa
from measure import Figure, exponent, ratios, seconds, timed
from relay import Relay

CHECKS = {"rows": {"min": 1}, "null_rate": {"n": 0, "note": 0}, "unique": ["id"]}
WIDE_CHECKS = {"rows": {"min": 1}, "null_rate": {"c1": 0, "c4": 0}, "unique": ["id"]}
DATABASE = "bench"
MIB = 64  # DESIGN.md 3.12


class Bench:
    """Everything a case needs."""

    def __init__(self, source, warehouse, binary, sizes):
        self.source, self.warehouse, self.binary, self.sizes = source, warehouse, binary, sizes
        self.made = set()
        source.fresh(DATABASE)

    def make(self, name, statements):
        """Fills a source table once."""
        if name not in self.made:
            self.source.sql(DATABASE, *statements, "CHECKPOINT")
            self.made.add(name)

    def project(self, tables, port=None, **settings):
        """A project that loads `tables` into an empty warehouse."""
        self.warehouse.fresh("sankofa")
        program = Sankofa(self.binary, self.source.uri(DATABASE), self.warehouse.uri("sankofa", port))
        program.pipeline(tables, **settings)
        return program

    def floor_table(self, name, columns):
        """An empty table for psql, in an otherwise empty database."""
        self.warehouse.fresh("floor")
        self.warehouse.sql("floor", "CREATE SCHEMA floor", data.floor(name, columns))

    def floor_copy(self, name, columns):
        """The floor: psql COPY binary | psql COPY binary, into a table with key and metadata columns."""
        listed = ", ".join(columns)
        pipe(
            self.source.psql(DATABASE) + ["-c", f"COPY {name} TO STDOUT (FORMAT binary)"],
            self.warehouse.psql("floor") + ["-c", f"COPY floor.{name} ({listed}) FROM STDIN (FORMAT binary)"],
        )

    def prove(self, name, columns, *targets, live=True):
        """Ends the bench unless the targets hold the source's rows."""
        wanted = self.source.sql(DATABASE, data.proof(name, columns))
        for target in targets:
            schema = "bench" if target == "sankofa" else "floor"
            found = self.warehouse.sql(target, data.proof(f"{schema}.{name}", columns, live or target != "sankofa"))
            if found != wanted:
                raise SystemExit(f"bench: {name} differs: source {wanted}, {target} {found}")

    def tidy(self):
        """Gives the disk back."""
        for database in ("floor", "sankofa"):
            self.warehouse.sql("postgres", f"DROP DATABASE IF EXISTS {database} (FORCE)")


def _first(bench, name, columns, checks, bounds):
    floors, syncs, steps, memory = [], [], [], []
    tables = {f"public.{name}": {"mode": "full_refresh", "checks": checks}}
    for number in range(bench.sizes.rounds):
        bench.floor_table(name, columns)
        floors.append(timed(bench.floor_copy, name, columns))
        run = bench.project(tables).sync()
        syncs.append(run.seconds)
        bench.prove(name, columns, "floor", "sankofa")
        three = bench.project(tables).steps(f"bench/{number}")
        steps.append(three.seconds)
        bench.prove(name, columns, "sankofa")
        memory += [run.mib, three.mib]
    bench.tidy()
    floor = f"floor {seconds(floors)}"
    return [
        Figure(f"first load, {name}: sync / floor", ratios(syncs, floors), "x", bounds[0], f"{seconds(syncs)}, {floor}"),
        Figure(f"first load, {name}: three steps / floor", ratios(steps, floors), "x", bounds[1], f"{seconds(steps)}, {floor}"),
        Figure(f"first load, {name}: peak memory", memory, " MiB", MIB),
    ]


def first_narrow(bench):
    """10 million rows of four columns: sync, and the three steps, against psql | psql."""
    bench.make("narrow", data.narrow(bench.sizes.rows))
    return _first(bench, "narrow", data.NARROW, CHECKS, (1.0, 1.6))


def first_wide(bench):
    """A million rows of 40 mixed columns, as first_narrow."""
    bench.make("wide", data.wide(bench.sizes.wide_rows))
    return _first(bench, "wide", data.WIDE, WIDE_CHECKS, (1.0, 1.6))


def _change(bench, nth, where=""):
    """Changes one row in a hundred, spread over the table."""
    bench.source.sql(
        DATABASE, f"UPDATE narrow SET n = n + 1, updated_at = clock_timestamp() WHERE id % 100 = {nth}{where}"
    )


def nightly(bench):
    """Full refresh of the narrow table, 1 % changed each night, for seven nights."""
    bench.make("narrow", data.narrow(bench.sizes.rows))
    program = bench.project({"public.narrow": {"mode": "full_refresh", "checks": CHECKS}})
    program.sync()
    size = "SELECT pg_total_relation_size('bench.narrow')"
    before = int(bench.warehouse.sql("sankofa", size))
    floors, syncs, memory = [], [], []
    for night in range(bench.sizes.nights):
        _change(bench, night)
        if night < bench.sizes.rounds:
            bench.floor_table("narrow", data.NARROW)
            floors.append(timed(bench.floor_copy, "narrow", data.NARROW))
        run = program.sync()
        syncs.append(run.seconds)
        memory.append(run.mib)
        bench.prove("narrow", data.NARROW, "sankofa")
    grown = int(bench.warehouse.sql("sankofa", size)) / before
    bench.tidy()
    middle = statistics.median(floors)
    note = f"{seconds(syncs)}, floor {seconds(floors)}"
    return [
        Figure("nightly full refresh, 1 % changed: sync / floor", [s / middle for s in syncs], "x", 2.5, note),
        Figure(f"size of the table after {bench.sizes.nights} nights", [grown], "x", 1.3),
        Figure("nightly full refresh: peak memory", memory, " MiB", MIB),
    ]


def _merge_by_hand(bench, since):
    columns = ", ".join(data.NARROW)
    changed = ", ".join(f"{column} = excluded.{column}" for column in data.NARROW if column != "id")
    pipe(
        bench.source.psql(DATABASE)
        + ["-c", f"COPY (SELECT {columns} FROM narrow WHERE updated_at > '{since}') TO STDOUT (FORMAT binary)"],
        bench.warehouse.psql("floor")
        + ["-1", "-c", "CREATE TEMP TABLE changed (LIKE floor.narrow)", "-c", f"ALTER TABLE changed {_DROPS}"]
        + ["-c", f"COPY changed ({columns}) FROM STDIN (FORMAT binary)", "-c", "ANALYZE changed"]
        + ["-c", f"""INSERT INTO floor.narrow AS t ({columns}) SELECT {columns} FROM changed
                     ON CONFLICT (id) DO UPDATE SET {changed}, _sankofa_run = t._sankofa_run + 1, _sankofa_loaded_at = now()"""],
    )


_DROPS = "DROP _sankofa_run, DROP _sankofa_loaded_at, DROP _sankofa_deleted_at"
_SCANS = "SELECT pg_stat_clear_snapshot(), seq_scan FROM pg_stat_user_tables WHERE relname = 'narrow'"


def incremental(bench):
    """1 % of the narrow table changed, by index on updated_at, against the same merge by hand."""
    bench.make("narrow", data.narrow(bench.sizes.rows))
    bench.floor_table("narrow", data.NARROW)
    bench.floor_copy("narrow", data.NARROW)
    settings = {"mode": "incremental", "replication_key": "updated_at", "checks": CHECKS}
    program = bench.project({"public.narrow": settings | {"deletes": {"mode": "ignore"}}})
    program.sync()
    floors, syncs, scans = [], [], 0
    for number in range(bench.sizes.rounds + 2):
        since = bench.source.sql(DATABASE, "SELECT clock_timestamp()")
        _change(bench, 50 + number)
        floors.append(timed(_merge_by_hand, bench, since))
        before = bench.warehouse.sql("sankofa", _SCANS)
        syncs.append(program.sync().seconds)
        scans += bench.warehouse.sql("sankofa", _SCANS) != before
        bench.prove("narrow", data.NARROW, "floor", "sankofa")
    idle = [program.sync().seconds for _ in range(bench.sizes.rounds)]
    program.pipeline({"public.narrow": settings | {"deletes": {"mode": "soft", "every": "1s"}}})
    soft = [_with_deletes(bench, program, number) for number in range(bench.sizes.rounds)]
    bench.tidy()
    middle = statistics.median(floors)
    note = f"{seconds(syncs)}, by hand {seconds(floors)}"
    return [
        Figure("incremental, 1 % changed: sync / merge by hand", ratios(syncs, floors), "x", 1.2, note),
        Figure("incremental: runs that scanned the target", [scans], "", 0),
        Figure("incremental, nothing new", idle, " s"),
        Figure("incremental, 1 % changed, soft deletes / merge by hand", [s / middle for s in soft], "x", None, seconds(soft)),
    ]


def _with_deletes(bench, program, number):
    _change(bench, 70 + number, " AND id % 1000 > 100")
    bench.source.sql(DATABASE, f"DELETE FROM narrow WHERE id % 1000 = {80 + number}")
    time.sleep(1.1)  # `every: 1s`
    run = program.sync()
    bench.prove("narrow", data.NARROW, "sankofa", live=False)
    return run.seconds


def _script(bench, create):
    """One psql script: its output, with the rows in it, is another script that copies them in."""
    lines = ["\\echo 'BEGIN;'"]
    for number in range(1, bench.sizes.tables + 1):
        name = f"t{number}"
        first = data.floor(name, data.NARROW) if create else f"TRUNCATE floor.{name}"
        lines += [f"\\echo '{first};'", f"\\echo 'COPY floor.{name} ({', '.join(data.NARROW)}) FROM STDIN;'"]
        lines += [f"COPY {name} TO STDOUT;", "\\echo '\\\\.'"]
    return "\n".join(lines + ["\\echo 'COMMIT;'"]) + "\n"


def many(bench):
    """300 tables of 100 rows: first load, and a second full refresh, against one psql script."""
    tables = bench.sizes.tables
    bench.make("many", data.many(tables, 100))
    settings = {f"public.t{number}": {"mode": "full_refresh"} for number in range(1, tables + 1)}
    took = {key: [] for key in ("floor first", "first", "floor again", "again")}
    path = f"{bench.source.folder}/script.sql"
    for _ in range(bench.sizes.rounds):
        bench.warehouse.fresh("floor")
        bench.warehouse.sql("floor", "CREATE SCHEMA floor")
        program = bench.project(settings)
        for kind in ("first", "again"):
            with open(path, "w", encoding="utf-8") as file:
                file.write(_script(bench, kind == "first"))
            copy = timed(pipe, bench.source.psql(DATABASE) + ["-f", path], bench.warehouse.psql("floor"))
            took[f"floor {kind}"].append(copy)
            took[kind].append(program.sync().seconds)
        for number in range(1, tables + 1, 97):
            bench.prove(f"t{number}", data.NARROW, "floor", "sankofa")
    bench.tidy()
    return [
        Figure(f"{tables} tables, {words}: sync / one psql script", ratios(took[kind], took[f"floor {kind}"]), "x", 1.5,
               f"{seconds(took[kind])}, script {seconds(took[f'floor {kind}'])}")
        for kind, words in (("first", "first load"), ("again", "second full refresh"))
    ]


def memory(bench):
    """Rows of 1 MiB, one of 100 MiB, a slow warehouse."""
    large = bench.sizes.large_mib
    bench.make("blobs", data.blobs("blobs", bench.sizes.blobs, 1))
    bench.make("large", data.blobs("large", 3, large))
    bench.make("slow", [f"CREATE TABLE slow AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, {bench.sizes.slow_rows}) i"])
    figures = []
    for name, bound in (("blobs", MIB), ("large", MIB + 3 * large)):
        program = bench.project({f"public.{name}": {"mode": "full_refresh"}})
        runs = [program.sync("--full-refresh").mib, bench.project({f"public.{name}": {"mode": "full_refresh"}}).steps("bench/m").mib]
        bench.prove(name, ["id", "body"], "sankofa")
        what = "1 MiB each" if name == "blobs" else f"{large} MiB each"
        figures.append(Figure(f"peak memory, rows of {what}: sync, three steps", runs, " MiB", bound))
    with Relay(bench.warehouse.port, 10_000_000) as relay:
        run = bench.project({"public.slow": {"mode": "full_refresh"}}, relay.port).sync()
    bench.prove("slow", ["id", "note"], "sankofa")
    figures.append(Figure("peak memory, warehouse behind 10 MB/s", [run.mib], " MiB", MIB, f"{run.seconds:.1f} s"))
    bench.tidy()
    return figures


def growth(bench):
    """First loads of growing tables: the exponent of time by rows."""
    times = []
    for rows in bench.sizes.growth:
        name = f"narrow_{rows}"
        bench.source.sql(DATABASE, *(statement.replace("narrow", name) for statement in data.narrow(rows)), "CHECKPOINT")
        tables = {f"public.{name}": {"mode": "full_refresh"}}
        times.append(statistics.median(bench.project(tables).sync().seconds for _ in range(bench.sizes.rounds)))
        bench.source.sql(DATABASE, f"DROP TABLE {name}")
    bench.tidy()
    note = ", ".join(f"{rows / 1e6:g} M: {took:.1f} s" for rows, took in zip(bench.sizes.growth, times))
    return [Figure("growth of a first load: exponent", [exponent(bench.sizes.growth, times)], "", 1.1, note)]


ALL = {
    "first": first_narrow,
    "nightly": nightly,
    "incremental": incremental,
    "tables": many,
    "wide": first_wide,
    "memory": memory,
    "growth": growth,
    "backup": backups.backup,
    "restore": backups.restore,
    "secrets": vaults.secrets,
    "airflow": launches.airflow,
}
