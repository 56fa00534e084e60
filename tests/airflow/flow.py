"""Airflow as an institution runs it: scheduler, dag-processor, triggerer, api-server, their database.

In:    an installed Airflow 3.3 or 2.11 and what a platform needs beside it, a PostgreSQL server, `[sankofa]`.
Out:   the processes, by name, to kill and to start again; runs, their tasks, what a person does to them.
Holds: nothing is stubbed: LocalExecutor (or Celery) starts the tasks, the REST interface takes orders.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import requests
from postgres import PASSWORD, Cluster, free_port
from waiting import until

VERSION = int(os.environ["SANKOFA_AIRFLOW"])
BED, WORK = Path(os.environ["SANKOFA_TESTBED"]), Path(os.environ["SANKOFA_WORK"])
OURS = ("sankofa_hr", "sankofa_records", "sankofa_service_desk", "sankofa_backups")
COMMON = {
    "CORE__PARALLELISM": "3",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "API__WORKERS": "1",
    "API_AUTH__JWT_SECRET": "not-a-secret-of-the-platform-0123456789abcdef0123456789abcdef-0123456789",
    "CORE__FERNET_KEY": base64.urlsafe_b64encode(b"not-a-secret-but-32-bytes-long-x").decode(),
    # A lost task is noticed in seconds instead of minutes.
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
    "SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "5",
    "SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
    "SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "4",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "SCHEDULER__PARSING_PROCESSES": "1",
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
}


def event_of(line: str) -> str:
    """What a line of a log says; Airflow 3 writes JSON."""
    if not line.startswith("{"):
        return line
    found = json.loads(line)
    errors = [f"{one['exc_type']}: {one['exc_value']}" for one in found.get("error_detail") or []]
    return " ".join([str(found.get("event")), *errors])


def parent_of(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Airflow:
    """One Airflow in `work`, its metadata in `cluster`."""

    def __init__(self, work: Path, cluster: Cluster, settings: dict[str, str], version: int = VERSION) -> None:
        self.work, self.cluster, self.port = work, cluster, free_port()
        cluster.psql("postgres", sql="CREATE DATABASE airflow")
        database = f"postgresql+psycopg2://postgres:{PASSWORD}@127.0.0.1:{cluster.port}/airflow"
        own = {
            **COMMON,
            "DATABASE__SQL_ALCHEMY_CONN": database,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__DAGS_FOLDER": str(work / "repository/dags"),
            "API__PORT": str(self.port),
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        }
        found = {f"AIRFLOW__{name}": value for name, value in own.items()}
        self.environment = {**os.environ, **found, **settings, "AIRFLOW_HOME": str(work / "home")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""
        self.be(version)
        self.command("db", "migrate")

    def be(self, version: int) -> None:
        """Let every program that is started from now on be of a version."""
        self.version = version
        self.environment |= {
            "PATH": f"{BED}/airflow-{version}/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{WORK}/site:{BED}/airflow-platform-{version}",
        }

    def command(self, *words: str) -> str:
        """Run one `airflow` command to its end."""
        done = subprocess.run(["airflow", *words], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-3000:])
        return done.stdout

    def start(self, *names: str) -> None:
        """Start processes, each the leader of a group of its own."""
        for name in names:
            with (self.work / f"{name.replace(' ', '-')}.log").open("ab") as log:
                words = ["airflow", *name.split()]
                self.processes[name] = subprocess.Popen(
                    words, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            if name == "api-server":
                until("the api-server answers", self.is_up, 180)

    def is_up(self) -> bool:
        """Whether the api-server answers."""
        assert self.processes["api-server"].poll() is None, (self.work / "api-server.log").read_text()[-3000:]
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/api/v2/monitor/health", timeout=5).ok
        except requests.RequestException:
            return False

    def start_all(self) -> None:
        """Start what an Airflow of this version needs for LocalExecutor and deadlines."""
        self.start(*(("api-server", "dag-processor", "scheduler", "triggerer") if self.version == 3 else ("scheduler", "triggerer")))

    def kill(self, name: str) -> None:
        """Kill a process, and not its children, as the kernel would."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def kill_tree(self, name: str) -> None:
        """Kill a process with all that it started, wherever that has gone, as a host that is lost."""
        process = self.processes.pop(name)
        tree, found = {process.pid}, 0
        while len(tree) > found:
            found = len(tree)
            for one in Path("/proc").iterdir():
                with contextlib.suppress(OSError, ValueError):
                    if parent_of(int(one.name)) in tree:
                        tree.add(int(one.name))
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def use_celery(self, broker: str) -> None:
        """Go over to Celery: what waits in the database is taken up by the new executor."""
        own = {
            "CORE__EXECUTOR": "CeleryExecutor",
            "CELERY__BROKER_URL": broker,
            "CELERY__RESULT_BACKEND": self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+", "db+postgresql+"),
            "CELERY__WORKER_CONCURRENCY": "2",
        }
        self.environment |= {f"AIRFLOW__{name}": value for name, value in own.items()}
        self.kill_tree("scheduler")
        self.start("scheduler", "celery worker")

    def stop(self) -> None:
        """End every process with all that it started."""
        for process in self.processes.values():
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        self.processes.clear()
        mark = f"AIRFLOW_HOME={self.work / 'home'}".encode()
        for pid in [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and int(one.name) != os.getpid()]:
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue

    def sql(self, sql: str) -> str:
        """Ask the metadata database."""
        return self.cluster.psql("airflow", sql=sql)

    def api(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask the REST interface, as the web page does."""
        url = f"http://127.0.0.1:{self.port}"
        if not self.token:
            self.token = requests.get(f"{url}/auth/token", timeout=20).json()["access_token"]
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{url}/api/v2/{path}", json=body, headers=headers, timeout=30)
        assert answer.ok, (method, path, answer.status_code, answer.text)
        return dict(answer.json()) if answer.content else {}

    def dags(self) -> list[str]:
        """The DAGs that are there."""
        there = "NOT is_stale" if self.version == 3 else "is_active"
        return sorted(self.sql(f"SELECT dag_id FROM dag WHERE {there}").split())

    def first_run(self, dag: str) -> str:
        """Id of the run that Airflow made itself."""
        return self.sql(f"SELECT run_id FROM dag_run WHERE dag_id = '{dag}' ORDER BY id LIMIT 1")

    def unpause(self, *dags: str) -> None:
        """Switch DAGs on."""
        for dag in dags:
            if self.version == 3:
                self.api("PATCH", f"dags/{dag}", {"is_paused": False})
            else:
                self.command("dags", "unpause", dag)

    def trigger(self, dag: str, run: str, **conf: Any) -> str:
        """Start a run by hand; returns its id."""
        if self.version == 3:
            self.api("POST", f"dags/{dag}/dagRuns", {"logical_date": None, "dag_run_id": run, "conf": conf})
        else:
            self.command("dags", "trigger", dag, "--run-id", run, "--conf", json.dumps(conf))
        return run

    def clear(self, dag: str, run: str) -> None:
        """Clear the failed tasks of a run, as a person does when the cause is gone."""
        if self.version == 3:
            body = {"dry_run": False, "dag_run_id": run, "only_failed": True, "reset_dag_runs": True}
            self.api("POST", f"dags/{dag}/clearTaskInstances", body)
        else:
            self.command("tasks", "clear", "-y", "-f", dag)

    def state(self, dag: str, run: str) -> str:
        """State of a run."""
        return self.sql(f"SELECT state FROM dag_run WHERE dag_id = '{dag}' AND run_id = '{run}'")

    def task(self, dag: str, run: str, task: str) -> tuple[str, int]:
        """State and try of a task."""
        where = f"dag_id = '{dag}' AND run_id = '{run}' AND task_id = '{task}'"
        found = self.sql(f"SELECT coalesce(state, ''), try_number FROM task_instance WHERE {where}") or "|0"
        state, attempt = found.split("|")
        return state, int(attempt)

    def ends(self, dag: str, run: str, wanted: str = "success", seconds: float = 300) -> None:
        """Wait for the end of a run, and hold it to the one that is wanted."""
        state = until(f"{dag} {run} ends", lambda: (one := self.state(dag, run)) in ("success", "failed") and one, seconds)
        assert state == wanted, f"{dag} {run} is {state}\n{self.tasks(dag, run)}\n{self.logs(dag, run, limit=2500)}"

    def tasks(self, dag: str, run: str) -> str:
        """The tasks of a run: state and tries."""
        return self.sql(f"SELECT task_id, state, try_number FROM task_instance WHERE dag_id = '{dag}' AND run_id = '{run}'")

    def logs(self, dag: str, run: str, task: str = "", limit: int = 100_000) -> str:
        """What the tasks of a run have said, the end of each log."""
        home, said = self.work / "home/logs", []
        for file in sorted(home.glob(f"dag_id={dag}/run_id={run}/task_id={task or '*'}/*.log")):
            lines = [event_of(line) for line in file.read_text().splitlines()]
            said.append(f"== {file.parent.name} {file.name}\n" + "\n".join(lines)[-limit:])
        return "\n".join(said)
