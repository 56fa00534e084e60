"""Backups and restores beside PostgreSQL's own programs.

In:    a cluster with a database, the program, sizes.
Out:   [`Figure`]s.
Holds: contestants take turns; the data is such that zstd -3 packs it 3:1 to 6:1, and the figure says
       how much; what was backed up is restored and proven equal before a figure counts.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

from measure import Figure, ratios, seconds

DATABASE = "archive"
PROJECT = """\
version: 1
warehouse: {{connection: source}}
stores: {{bench: {store}}}
backups:
  defaults: {{store: bench, encrypt_to: [{recipient}], codec: {codec}}}
  databases: {{archive: {{connection: source}}}}
"""


def fill(cluster, rows):
    """`archive`: text, JSON and numbers as a register has them; 10 million rows are 2 GB."""
    cluster.fresh(DATABASE)
    words = "(ARRAY['enrolled','withdrawn','passed','failed','deferred','transferred'])[1 + i % 6]"
    cluster.sql(
        DATABASE,
        f"""CREATE TABLE event AS SELECT i AS id, now() - (i * 37 % 100000000) * interval '1 second' AS at,
            (i * 7919) % 50000 AS student, {words} AS what, md5(i::text) AS reference,
            jsonb_build_object('grade', i % 100, 'by', 'user' || i % 977, 'note', {words} || ' in week ' || i % 52) AS more
            FROM generate_series(1, {rows}::bigint) i""",
        "ALTER TABLE event ADD PRIMARY KEY (id)",
        "CREATE INDEX ON event (student)",
        f"""CREATE TABLE person AS SELECT i AS id, 'Name ' || i AS name, 'user' || i || '@school.example' AS email,
            (i * 13) % 365 AS day, repeat('remark ', (i % 9)::int) AS remarks FROM generate_series(1, {rows // 5}::bigint) i""",
        "ALTER TABLE person ADD PRIMARY KEY (id)",
        "VACUUM (ANALYZE, FREEZE)",
        "CHECKPOINT",
    )


class Timed:
    """Wall seconds, peak resident MiB and standard output of a program."""

    def __init__(self, command, **how):
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, **how)
        self.out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds, self.mib = time.monotonic() - started, usage.ru_maxrss / 1024
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"bench: {' '.join(command[:3])} ended with {process.returncode}: {self.out.decode()[:2000]}")


class Archive:
    """A project that backs up `archive`, and PostgreSQL's own programs on the same database."""

    def __init__(self, bench, codec="zstd", store=None):
        self.cluster, self.binary = bench.source, bench.binary
        self.folder = tempfile.mkdtemp(prefix="sankofa-bench-archive-")
        made = subprocess.run([self.binary, "keygen", "--out", f"{self.folder}/identity"], capture_output=True, text=True, check=True)
        recipient = next(word for word in made.stdout.replace('"', " ").split() if word.startswith("age1"))
        store = store or json.dumps({"directory": f"{self.folder}/store"})
        with open(f"{self.folder}/sankofa.yaml", "w", encoding="utf-8") as file:
            file.write(PROJECT.format(store=store, recipient=recipient, codec=codec))
        self.environment = {
            "PATH": "/usr/bin:/bin", "SANKOFA_PG_BIN": self.cluster.client,
            "AIRFLOW_CONN_SOURCE": self.cluster.uri(DATABASE) + "?sslmode=disable",
            "AIRFLOW_CONN_TARGET": self.cluster.uri("restored") + "?sslmode=disable",
        }
        self.errors = open(f"{self.folder}/errors", "w", encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sankofa(self, *args):
        """Runs a command; its result is `out`."""
        command = [self.binary, *args, "-q", "--json", "--project", self.folder]
        return Timed(command, env=self.environment, stderr=self.errors)

    def program(self, name, *args):
        """Runs one of PostgreSQL's programs."""
        where = ["-h", "127.0.0.1", "-p", str(self.cluster.port), "-U", "bench"]
        return Timed([f"{self.cluster.client}/{name}", *where, *args])

    def dump(self):
        """The floor: everything is read, nothing is kept."""
        shell = f"'{self.cluster.client}/pg_dump' -h 127.0.0.1 -p {self.cluster.port} -U bench -Fc -Z0 {DATABASE} > /dev/null"
        return Timed(["/bin/sh", "-c", shell])

    def by_hand(self):
        """What people write: dump, gzip, gpg."""
        shell = (
            f"'{self.cluster.client}/pg_dump' -h 127.0.0.1 -p {self.cluster.port} -U bench {DATABASE} | gzip | "
            f"gpg --batch --yes --homedir {self.folder} --passphrase bench -c -o {self.folder}/by-hand"
        )
        return Timed(["/bin/sh", "-c", shell], stderr=self.errors)

    def zstd_bytes(self):
        """What zstd -3 makes of the dump; None without zstd."""
        if not shutil.which("zstd"):
            return None
        shell = f"'{self.cluster.client}/pg_dump' -h 127.0.0.1 -p {self.cluster.port} -U bench -Fc -Z0 {DATABASE} | zstd -3 -c | wc -c"
        return int(Timed(["/bin/sh", "-c", shell]).out)


def backup(bench):
    """pg_dump to nowhere beside a backup: packed, encrypted, proven, stored in a directory."""
    fill(bench.source, bench.sizes.archive_rows)
    for codec in ("zstd", "gzip"):
        with Archive(bench, codec) as archive:
            floors, ours, memory = [], [], []
            for _ in range(bench.sizes.rounds):
                floors.append(archive.dump().seconds)
                run = archive.sankofa("backup", "archive", "--skip-globals")
                ours.append(run.seconds)
                memory.append(run.mib)
            result = json.loads(run.out)
            bound = 1.10 if codec == "zstd" else None
            yield Figure(f"backup, {codec} / `pg_dump -Fc -Z0 > /dev/null`", ratios(ours, floors), "x", bound, seconds(ours))
            yield Figure(f"backup, {codec}, peak memory", memory, " MiB", 128)
            if codec == "zstd":
                yield from _sizes(archive, result["bytes"])
                if shutil.which("gpg"):
                    yield Figure("pg_dump, gzip, gpg by hand / the same floor", [archive.by_hand().seconds / statistics.median(floors)], "x")


def _sizes(archive, plain):
    dumps = [
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(f"{archive.folder}/store") for name in names if name.startswith("dump.")
    ]
    packed = archive.zstd_bytes()
    if packed:
        ratio = f"zstd -3 packs it {plain / packed:.1f}:1"
        yield Figure("size of a backup / `zstd -3`", [size / packed for size in dumps], "x", 1.10, ratio)


def restore(bench):
    """pg_restore -j2 of a decrypted local archive beside a restore out of the store, with and without its proof."""
    fill(bench.source, bench.sizes.archive_rows)
    with Archive(bench) as archive:
        archive.sankofa("backup", "archive", "--skip-globals")
        local = f"{archive.folder}/local.pgc"
        archive.program("pg_dump", "-Fc", "-Z0", "-f", local, DATABASE)
        floors, bare, proven = [], [], []
        for _ in range(bench.sizes.rounds):
            bench.source.fresh("floor")
            floors.append(archive.program("pg_restore", "-j2", "-d", "floor", local).seconds)
            bench.source.sql("postgres", "DROP DATABASE floor", "DROP DATABASE IF EXISTS restored (FORCE)", "CHECKPOINT")
            run = archive.sankofa("restore", "archive", "--into", "target", "--jobs", "2", "--identity-file", f"{archive.folder}/identity", "--spool", archive.folder)
            proven.append(run.seconds)
            bare.append(run.seconds - json.loads(run.out)["phases_ms"]["prove"] / 1000)
        yield Figure("restore, to the end of pg_restore / `pg_restore -j2` of a local archive", ratios(bare, floors), "x", 1.25, seconds(bare))
        yield Figure("restore and proof / the same floor", ratios(proven, floors), "x", 1.9, seconds(proven))
