"""DAG delivery on Airflow 3: real git repositories, the real bundle; scheduler, DAG processor and API server as processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

pytest.importorskip("airflow.dag_processing.bundles", reason="Airflow 2.11 has no bundles: tests/nomad/test_jobs.py, DagSync")
from sankofa_airflow.bundle import DeployedBundle  # noqa: E402
from sankofa_airflow.compat import AirflowException  # noqa: E402
from waiting import until  # noqa: E402

DAG = """
import time
from contextlib import suppress
from pathlib import Path

from airflow.sdk import DAG, task

HERE, LOCK = Path("%s"), Path(__file__).parent.parent / "locks/probe.lock.json"

with DAG("probe", schedule=None, catchup=False):

    def tell(name, run_id):
        with (HERE / run_id).open("a") as file:
            print(name, "%s", LOCK.read_text().strip(), file=file)

    @task
    def first(run_id=None):
        tell("first", run_id)
        last = time.monotonic() + 120
        while not (HERE / f"go-{run_id}").exists() and time.monotonic() < last:
            time.sleep(0.1)

    @task
    def second(run_id=None):
        tell("second", run_id)

    first() >> second()
"""


class Repository:
    """The analysts' repository: a folder that is the remote, and one in which they work."""

    def __init__(self, home: Path) -> None:
        self.home, self.remote, self.work = home, home / "remote.git", home / "work"
        home.mkdir()
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.remote)], check=True)
        subprocess.run(["git", "clone", "-q", str(self.remote), str(self.work)], check=True, capture_output=True)

    def git(self, *words: str) -> str:
        """Run git where they work."""
        name = ["-c", "user.name=x", "-c", "user.email=x@school.example"]
        done = subprocess.run(["git", *name, *words], cwd=self.work, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def deploy(self, version: str, *force: str) -> str:
        """Commit a DAG and its lock that say `version`, move the ref `deployed` there; return the commit."""
        for name, text in (("dags/probe.py", DAG % (self.home, version)), ("locks/probe.lock.json", version)):
            file = self.work / "airflow_dags" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", version)
        self.git("push", "-q", *force, "origin", "HEAD:deployed")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository of its own."""
    return Repository(tmp_path / "git")


@pytest.fixture
def bundle(repository: Repository, tmp_path: Path, monkeypatch: Any) -> Any:
    """Make the bundle as a process does, of a version or of what is deployed now."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))

    def make(version: str | None = None) -> Any:
        one = DeployedBundle(name="sankofa", version=version, **words_of(repository))
        one.initialize()
        return one

    return make


def words_of(repository: Repository) -> dict[str, Any]:
    """What nomad/jobs/airflow.nomad.hcl says of the bundle, but for the place of the repository."""
    return {"tracking_ref": "deployed", "subdir": "airflow_dags", "repo_url": str(repository.remote)}


def lock(bundle: Any) -> str:
    """What the lock of a bundle says."""
    return str((bundle.path / "locks/probe.lock.json").read_text())


def test_the_ref_is_followed_and_a_version_that_a_run_began_with_stays(repository, bundle):
    one = repository.deploy("one")
    followed = bundle()
    assert lock(followed) == "one"
    two = repository.deploy("two")
    assert lock(followed) == "one"
    followed.refresh()
    assert lock(followed) == "two"
    assert (lock(bundle(one)), lock(bundle(two))) == ("one", "two")


def test_a_forced_push_is_followed_and_a_run_of_the_version_it_dropped_still_ends(repository, bundle):
    repository.deploy("one")
    dropped = repository.deploy("two")
    followed = bundle()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.deploy("three", "--force")
    followed.refresh()
    assert lock(followed) == "three"
    assert lock(bundle(dropped)) == "two"


def test_a_remote_that_is_away_leaves_what_was_fetched_last_to_old_and_new_processes(repository, bundle):
    one = repository.deploy("one")
    followed = bundle()
    away = shutil.move(repository.remote, repository.home / "away")
    followed.refresh()
    assert lock(followed) == "one"
    assert lock(bundle()) == "one"  # a DAG processor that starts now
    assert lock(bundle(one)) == "one"  # a worker that has not run this version yet
    with pytest.raises(AirflowException, match=f"version {'0' * 40} is not here"):
        bundle("0" * 40)
    assert lock(bundle(one)) == "one"  # and that has not cost us our copy
    shutil.move(away, repository.remote)
    repository.deploy("two")
    followed.refresh()
    assert lock(followed) == "two"


class Platform:
    """Airflow as it runs: API server, scheduler with LocalExecutor, DAG processor; SQLite behind them."""

    def __init__(self, home: Path, repository: Repository) -> None:
        from school import free_port

        self.home, self.port = home, free_port()
        home.mkdir()
        self.url = f"http://127.0.0.1:{self.port}"
        bundles = [{"name": "sankofa", "classpath": "sankofa_airflow.bundle.DeployedBundle",
                    "kwargs": {**words_of(repository), "refresh_interval": 1}}]  # fmt: skip
        self.environment = {
            **os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2", "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__API__PORT": str(self.port), "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": "not-a-secret-for-tests-0123456789abcdef0123456789abcdef0123456789",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        }  # fmt: skip
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `airflow WORDS`."""
        with (self.home / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(
                ["airflow", *words], env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """Start all of it."""
        assert self.run("db", "migrate").wait(120) == 0, (self.home / "db.log").read_text()[-2000:]
        for words in (("api-server",), ("scheduler",), ("dag-processor",)):
            self.processes.append(self.run(*words))
        self.until("the API server answers", lambda: requests.get(f"{self.url}/api/v2/version", timeout=5).ok)
        token = requests.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}

    def until(self, what: str, condition: Any) -> Any:
        """Wait for something to be so; a failure tells the ends of all logs."""
        return until(what, condition, spares=(requests.RequestException,), tells=self.logs)

    def logs(self) -> str:
        """The end of what each process has said."""
        return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in self.home.glob("*.log"))

    def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Ask the API server."""
        answer = requests.request(
            method, f"{self.url}/api/v2/dags/probe{path}", json=body or None, headers=self.headers, timeout=30
        )
        answer.raise_for_status()
        return dict(answer.json())

    def delivered(self, version: str) -> None:
        """Wait until runs that begin now are of this version."""
        self.until(f"{version} is parsed", lambda: self.ask("GET", "")["bundle_version"] == version)

    def trigger(self, run: str) -> None:
        """Begin a run."""
        self.ask("POST", "/dagRuns", dag_run_id=run, logical_date=None)

    def ended(self, run: str) -> str:
        """Wait for a run's end; return its state."""
        state = lambda: self.ask("GET", f"/dagRuns/{run}")["state"]  # noqa: E731
        self.until(f"{run} has ended", lambda: state() in ("success", "failed"))
        return str(state())

    def stop(self) -> None:
        """End all of it, with the tasks that it has started."""
        for process in self.processes:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


def test_a_push_in_mid_run_is_of_the_next_run_and_none_stops_for_a_remote_that_is_away(repository, tmp_path):
    one = repository.deploy("one")
    platform = Platform(tmp_path / "airflow", repository)
    said = lambda run: (repository.home / run).read_text().splitlines()  # noqa: E731
    try:
        platform.start()
        platform.delivered(one)
        platform.trigger("r1")
        platform.until("r1 is in its first task", lambda: (repository.home / "r1").exists())
        two = repository.deploy("two")
        platform.delivered(two)
        (repository.home / "go-r1").touch()
        assert platform.ended("r1") == "success"
        assert said("r1") == ["first one one", "second one one"]
        shutil.move(repository.remote, repository.home / "away")
        (repository.home / "go-r2").touch()
        platform.trigger("r2")
        assert platform.ended("r2") == "success"
        assert said("r2") == ["first two two", "second two two"]
    finally:
        platform.stop()
