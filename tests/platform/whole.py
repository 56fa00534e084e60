"""The platform in one piece: three production databases, warehouse, drill server, Vault, S3, engine, Airflow.

In:    `shared/data`, the test bed. Out: `Platform`; what a person would look at: rows, runs, backups, leftovers.
Holds: no process, mount or container of it is left at the end, whatever happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import parts
from flow import Airflow, parent_of
from parts import BINARY, CHECKOUT, IMAGE, run
from postgres import PASSWORD, Cluster
from school import Door
from waiting import until

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("SANKOFA_SHARED") or CHECKOUT.parent / "shared")
PIPELINES = ("hr", "records", "service_desk")
FIRST_DAYS = {"hr": "1996-07-01", "records": "2013-11-15", "service_desk": "2016-03-02 00:00+00"}
MASKED = {"employee": ("first_name", "full_name"), "incident": ("caller",)}
SOURCE_MAJOR = 15  # whose clients Debian's archive has for the image's base
SOURCE_ROLE = f"CREATE ROLE sankofa_rows LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_stats"
SOURCE_GRANTS = "GRANT USAGE ON SCHEMA public TO sankofa_rows; GRANT SELECT ON ALL TABLES IN SCHEMA public TO sankofa_rows"


class Platform:
    """All of it. Use as a context."""

    def __init__(self, work: Path) -> None:
        self.work, self.ends, self.begun = work, [], f"{time.time():.0f}"
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def start(self) -> None:
        """Start everything, each part after what it needs."""
        self.sources = self.end(Cluster(self.work / "sources", parts.BED, SOURCE_MAJOR))
        self.warehouse = self.end(Cluster(self.work / "warehouse", parts.BED, 17))
        self.operations = self.end(Cluster(self.work / "operations", parts.BED, SOURCE_MAJOR))
        self.door = Door(self.sources.port)
        self.door.is_open.set()
        self.fill()
        self.inbox = parts.Inbox()
        self.store = self.end(parts.S3(self.work))
        self.vault = self.end(parts.Vault(self.work))
        self.identity = self.give_secrets()
        self.engine = parts.Engine(self.work, SOURCE_MAJOR)
        self.ends.append(self.clean_engine)
        self.volumes = set(self.engine.volumes())
        self.make_stage()
        self.make_repository()
        self.airflow = self.end(Airflow(self.work, self.operations, self.settings()))
        self.airflow.start_all()

    def end(self, part: Any) -> Any:
        """Note that a part is to be stopped."""
        self.ends.append(part.stop)
        return part

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self.ends:
            try:
                self.ends.pop()()
            except Exception as failure:  # noqa: BLE001 (the others are to be stopped too)
                print(f"platform: cannot stop a part: {failure}")

    def fill(self) -> None:
        """Load the three real data sets, as load.sh beside them does; make the roles of both sides."""
        self.sources.psql("postgres", sql=SOURCE_ROLE)
        for name in PIPELINES:
            home = SHARED / "data" / name
            self.sources.psql("postgres", sql=f"CREATE DATABASE {name}")
            self.sources.psql(name, "-f", str(home / "schema.sql"), "-c", SOURCE_GRANTS)
            for file in home.glob("*.csv.gz"):
                table = file.name.removesuffix(".csv.gz")
                self.sources.psql(name, sql=f"\\copy history.{table} FROM PROGRAM 'gzip -dc {file}' CSV HEADER")
            self.sources.psql(name, sql="ANALYZE")  # advance_to takes ten times as long without
        self.advance(0)
        self.warehouse.psql("postgres", sql="CREATE DATABASE warehouse")
        self.warehouse.psql("warehouse", "-v", f"password={PASSWORD}", "-f", str(CHECKOUT / "demo/warehouse.sql"))

    def give_secrets(self) -> str:
        """Put every connection into Vault; returns the recipient of the backups."""
        key = self.work / "identity"
        said = run(BINARY, "-q", "keygen", "--json", "--out", key)
        door, here = f"127.0.0.1:{self.door.port}", "127.0.0.1"
        self.vault.fill(
            POSTGRES_PASSWORD=PASSWORD, SANKOFA_ROWS_PASSWORD=PASSWORD, SANKOFA_WAREHOUSE_PASSWORD=PASSWORD,
            S3_KEY_ID=parts.S3.KEY, S3_SECRET_KEY=parts.S3.SECRET, HMAC_KEY="not-a-secret-key-of-32-bytes-0123456789",
            SOURCE_HR=door, SOURCE_RECORDS=door, SOURCE_SERVICE_DESK=door, S3_URL=self.store.url,
            WAREHOUSE=f"{here}:{self.warehouse.port}", DRILL=f"{here}:{self.operations.port}",
        )  # fmt: skip
        for name in PIPELINES:  # where the door is closed, runs wait longer than they would
            uri = f"postgres://sankofa_rows:{PASSWORD}@{door}/{name}?connect_timeout=300"
            self.vault.ask("POST", f"airflow/data/connections/{name}_db", {"data": {"conn_uri": uri}})
        identity = next(line for line in key.read_text().splitlines() if line.startswith("AGE-SECRET-KEY"))
        self.vault.ask("POST", "airflow/data/variables/age_identity", {"data": {"value": identity}})
        # What docs/airflow.md says of backups that Airflow starts: its token mints for their role too.
        policy = (CHECKOUT / "nomad/policies/airflow.hcl").read_text()
        minting = policy[policy.index("path") : policy.index("}") + 1]
        policy += minting.replace("sankofa-rows", "sankofa-backup")
        self.vault.ask("PUT", "sys/policies/acl/airflow", {"policy": policy})
        return str(json.loads(said)["recipient"])

    def make_stage(self) -> None:
        """A disk of its own for the stage, small enough to be filled."""
        self.stage = self.work / "stage"
        self.stage.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=192m,mode=0700,uid=10001,gid=10001", "tmpfs", self.stage)
        self.ends.append(lambda: run("umount", "-l", self.stage))

    def make_repository(self) -> None:
        """The analysts' repository with compiled locks, and the operator's file beside it."""
        self.repository, self.operator = self.work / "repository", self.work / "operator"
        shutil.copytree(HERE / "project/pipelines", self.repository / "pipelines")
        shutil.copytree(CHECKOUT / "airflow_dags/dags", self.repository / "dags")
        self.operator.mkdir()
        shutil.copy(HERE / "project/sankofa.yaml", self.operator)
        self.compile()
        self.compile("--backups", "--out", str(self.operator))

    def compile(self, *words: str) -> None:
        """What the analysts' CI does: a lock of each pipeline."""
        environment = {**os.environ, "SANKOFA_CONFIG": str(self.operator / "sankofa.yaml"), **self.variables("rows")}
        run(BINARY, "-q", "--project", self.repository, "config", "compile", *words, env=environment)

    def variables(self, privilege: str) -> dict[str, str]:
        """Variables of a container of a class; none is a secret."""
        return {"VAULT_ADDR": self.vault.url, "ROLE_ID": f"sankofa-{privilege}", "RECIPIENT": self.identity}

    def mounts(self) -> dict[Path, str]:
        """What containers see of this machine."""
        return {self.operator / "sankofa.yaml": "/etc/sankofa/sankofa.yaml", self.stage: "/stage"}

    def settings(self) -> dict[str, str]:
        """`[sankofa]`, and the two connections that Airflow itself has."""
        mounts = [{"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": target != "/stage"}
                  for source, target in self.mounts().items()]  # fmt: skip
        own = {
            "launcher": "docker", "image": IMAGE, "instance": "platform", "docker_url": self.engine.url,
            "docker_network": "host", "docker_environment": json.dumps(self.variables("{class}")),
            "docker_mounts": json.dumps(mounts), "vault_conn_id": "vault_default", "notify": "alerts",
            "backups": str(self.operator / "backups.lock.json"), "retry_delay_seconds": "3", "retries": "5",
            "backups_schedule": "0 1 1 * *",  # as the pipelines': the tests' days are their own, not the clock's
        }  # fmt: skip
        found = {f"AIRFLOW__SANKOFA__{name.upper()}": value for name, value in own.items()}
        token = {"conn_type": "vault", "host": "127.0.0.1", "port": self.vault.port, "schema": "http",
                 "password": parts.AIRFLOW_TOKEN}  # fmt: skip
        return {**found, "AIRFLOW_CONN_VAULT_DEFAULT": json.dumps(token), "AIRFLOW_CONN_ALERTS": self.inbox.connection}

    def by_hand(self, privilege: str, *words: str) -> dict[str, Any]:
        """Run one command as the operator's scheduler would: a container of a class, with its own identity."""
        options = [word for source, target in self.mounts().items() for word in ("-v", f"{source}:{target}")]
        settings = {**self.variables(privilege), "SANKOFA_WRAPPED_SECRET_ID": self.vault.wrapped(f"sankofa-{privilege}")}
        options += [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
        said = self.engine.docker("run", "--rm", "--network", "host", *options, IMAGE, *words)
        return dict(json.loads(said.splitlines()[-1]))

    def advance(self, day: int) -> None:
        """Let production live on until `day` days after the first."""
        for name, first in FIRST_DAYS.items():
            kind = "timestamptz" if name == "service_desk" else "date"
            moment = f"(TIMESTAMPTZ '{first}' + {day} * INTERVAL '1 day')::{kind}"
            self.sources.psql(name, sql=f"SET timezone = 'UTC'; SELECT advance_to({moment})")

    def differing(self) -> list[str]:
        """The tables whose rows in the warehouse are not those of their source, as text, masked columns aside."""
        return [f"{name}.{table}" for name in PIPELINES for table in self.tables(name) if not self.is_equal(name, table)]

    def tables(self, name: str) -> list[str]:
        """The live tables of a source."""
        return self.sources.psql(name, sql="SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split()

    def is_equal(self, name: str, table: str) -> bool:
        """Whether both sides hash to the same."""
        left_out = ", ".join(f"'{one}'" for one in MASKED.get(table, ("",)))
        columns = self.sources.psql(
            name,
            sql="SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attnum > 0 AND NOT"
            f" attisdropped AND attrelid = 'public.\"{table}\"'::regclass AND attname NOT IN ({left_out})",
        )
        marks = f"SELECT count(*) FROM pg_attribute WHERE attrelid = '{name}.\"{table}\"'::regclass"
        has_mark = self.warehouse.psql("warehouse", sql=f"{marks} AND attname = '_sankofa_deleted_at'") == "1"
        hashed = "SELECT count(*), md5(string_agg(r, E'\\n' ORDER BY r COLLATE \"C\")) FROM (SELECT ({})::text AS r FROM {}) q"
        ours = self.warehouse.psql(
            "warehouse",
            sql=hashed.format(columns, f'{name}."{table}"' + (" WHERE _sankofa_deleted_at IS NULL" if has_mark else "")),
        )
        return ours == self.sources.psql(name, sql=hashed.format(columns, f'public."{table}"'))

    def pipeline(self, name: str) -> str:
        """What the analysts have written."""
        return (self.repository / f"pipelines/{name}.yaml").read_text()

    def change(self, name: str, text: str) -> None:
        """What an analyst does: write, compile. Returns when Airflow has taken it up."""
        (self.repository / f"pipelines/{name}.yaml").write_text(text)
        self.compile()

    def containers(self, dag: str, run: str, task: str, *more: str) -> list[str]:
        """Containers of one task, whichever try started them."""
        labels = {"dag": dag, "run": run, "task": task}
        return self.engine.containers(*[f"label=sankofa.{name}={value}" for name, value in labels.items()], *more)

    def container(self, dag: str, run: str, task: str) -> str:
        """Wait for the container of a task to run; return its id."""
        return until(f"{dag}.{task} runs", lambda: self.containers(dag, run, task, "status=running"))[0]

    def started(self, dag: str, run: str, task: str) -> int:
        """How many containers were ever started for a task."""
        labels = {"dag": dag, "run": run, "task": task}
        words = [f"--filter=label=sankofa.{name}={value}" for name, value in labels.items()]
        return len(self.engine.docker("events", "--since", self.begun, "--until", f"{time.time():.0f}",
                                      "--filter=event=start", *words).splitlines())  # fmt: skip

    @contextlib.contextmanager
    def closed_door(self) -> Iterator[None]:
        """No source answers: what is started waits for it."""
        self.door.is_open.clear()
        try:
            yield
        finally:
            self.door.is_open.set()

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Nothing more fits onto the disk of the stage."""
        file = self.stage / "filler"
        with file.open("wb") as out, contextlib.suppress(OSError):
            while True:
                out.write(bytes(1 << 20))
                out.flush()
        try:
            yield
        finally:
            file.unlink()

    @contextlib.contextmanager
    def frozen(self, dag: str, run: str, task: str) -> Iterator[None]:
        """A container stands still, somewhere in its work."""
        container = self.container(dag, run, task)
        self.engine.docker("pause", container)
        try:
            yield
        finally:
            self.engine.docker("unpause", container)

    def kill_worker(self, dag: str, run: str, task: str) -> None:
        """Kill the process that follows a container, and the executor's worker that it is a child of."""
        where = f"dag_id = '{dag}' AND run_id = '{run}' AND task_id = '{task}'"
        pid = int(self.airflow.sql(f"SELECT pid FROM task_instance WHERE {where}"))
        for one in (parent_of(pid), pid):
            os.kill(one, signal.SIGKILL)

    def good(self, listed: dict[str, Any]) -> dict[str, int]:
        """How many good backups of each database `backups list` tells of."""
        return {one["database"]: one["good"] for one in listed["databases"]}

    def clean_engine(self) -> None:
        """Remove what a test that failed has left."""
        for one in self.engine.containers():
            subprocess.run(["docker", "rm", "-fv", one], env=self.engine.environment, check=False, capture_output=True)
