"""What the tests share: paths, an engine, a school, a task's context. Real parts only."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
WORK = Path(os.environ["SANKOFA_WORK"])
BED = Path(os.environ["SANKOFA_TESTBED"])
CHECKOUT = Path(os.environ["SANKOFA_CHECKOUT"])
BINARY = Path(os.environ["SANKOFA_BINARY"])

PROJECT = """version: 1
secrets: [environment]
warehouse: {connection: warehouse, reader_role: metabase, after_role: marts}
stores: {stage: {directory: /stage}}
stage: {store: stage}
guard: {never: ["*.*.*.national_id"], mask: {"*.*.*.birth_date": nullify}}
"""


@pytest.fixture(scope="session")
def school() -> Any:
    """Three sources and a warehouse."""
    from school import School

    one = School(WORK, BED, CHECKOUT)
    yield one
    one.stop()


@pytest.fixture(scope="session")
def door(school: Any) -> Any:
    """A door in front of the school's server."""
    from school import Door

    return Door(school.port)


@pytest.fixture(scope="session")
def engine() -> Any:
    """A Docker engine with the image; what needs it cannot be skipped in CI."""
    if os.getuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("cannot start a Docker engine: it needs root")
        pytest.skip("!!! NOT TESTED: containers. A Docker engine needs root")
    from engine import Engine

    one = Engine(WORK)
    one.load(BINARY, PROJECT)
    yield one
    one.stop()


@pytest.fixture(scope="session")
def locks() -> Path:
    """The locks of the demo's pipelines, and of `gate`, whose source is behind the door."""
    home = WORK / "project"
    subprocess.run(["cp", "-r", str(CHECKOUT / "airflow_dags"), str(home)], check=True)
    gate = "source: gate_db\nschema: gate\ntables: {public.agent: {mode: full_refresh}}\n"
    (home / "pipelines/gate.yaml").write_text(gate)
    (home / "pipelines/absent.yaml").write_text(
        gate.replace("gate_db", "absent_db").replace("schema: gate", "schema: absent")
    )
    (home / "pipelines/strict.yaml").write_text(
        "source: service_desk_db\nschema: strict\n"
        "tables: {public.agent: {mode: full_refresh, checks: {rows: {min: 100000}}}}\n"
    )
    subprocess.run(
        [str(BINARY), "-q", "--project", str(home), "config", "compile"], check=True, stdout=subprocess.DEVNULL
    )
    return home / "locks"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set keys of `[sankofa]`."""

    def put(**keys: Any) -> None:
        for key, value in keys.items():
            text = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"AIRFLOW__SANKOFA__{key.upper()}", text)

    return put


@pytest.fixture
def on_docker(settings: Any, engine: Any, school: Any, door: Any) -> Any:
    """`[sankofa]` for the engine; afterwards nothing may be left there."""
    stage = WORK / "stage"
    stage.mkdir(exist_ok=True)
    os.chown(stage, 65534, 65534)
    rows = f"postgres://sankofa_rows:{'not-a-secret-test'}@127.0.0.1"
    more = {
        "AIRFLOW_CONN_GATE_DB": f"{rows}:{door.port}/service_desk?connect_timeout=120",
        "AIRFLOW_CONN_ABSENT_DB": f"{rows}:1/service_desk",
    }
    settings(
        launcher="docker", image="sankofa:test", docker_url=engine.url, docker_network="host",
        docker_environment={**school.connections(), **more},
        docker_mounts=[{"Type": "bind", "Source": str(stage), "Target": "/stage"}],
    )  # fmt: skip
    door.is_open.set()
    yield engine
    left = engine.containers()
    for one in engine.api.containers(all=True):
        engine.api.remove_container(one["Id"], force=True, v=True)
    assert left == []
    assert (engine.api.volumes()["Volumes"] or []) == []


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Any:
    """What has been logged so far: Airflow 3 prints it, 2.11 hands it to `logging`."""
    caplog.set_level("INFO")
    told: list[str] = []

    def text() -> str:
        found = capsys.readouterr()
        told.extend([found.out, found.err])
        return "".join(told) + caplog.text

    return text


@pytest.fixture
def inbox() -> Any:
    """A web server that keeps what is posted to it."""
    got: list[Any] = []

    class Inbox(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inbox)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(got=got, port=server.server_address[1])
    server.shutdown()


class Events(defaultdict):  # type: ignore[type-arg]
    """Stands for `outlet_events`: what was emitted, by asset."""

    def __init__(self) -> None:
        super().__init__(lambda: SimpleNamespace(add=self.take))
        self.emitted: dict[str, Any] = {}

    def take(self, asset: Any, extra: Any = None) -> None:
        self.emitted[asset.uri] = extra


@pytest.fixture
def context() -> Any:
    """Make the context of a task instance, as far as the operators look at it."""

    def make(task: str = "t", run: str = "r1", attempt: int = 1, **more: Any) -> dict[str, Any]:
        pushed: dict[str, Any] = {}
        ti = SimpleNamespace(
            dag_id="dag", task_id=task, run_id=run, map_index=more.pop("map_index", -1), try_number=attempt,
            xcom_push=lambda key, value: pushed.__setitem__(key, value), pushed=pushed,
        )  # fmt: skip
        kind = more.pop("run_type", "scheduled")
        start, end = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 1, 2, tzinfo=timezone.utc)
        return {
            "ti": ti, "task_instance": ti, "run_id": run, "dag": SimpleNamespace(dag_id="dag"), "dag_run": SimpleNamespace(run_type=kind, dag_id="dag", run_id=run),
            "params": {}, "data_interval_start": start, "data_interval_end": end, "outlet_events": Events(), **more,
        }  # fmt: skip

    return make
