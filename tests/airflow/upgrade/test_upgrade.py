"""An Airflow of 2.11 becomes one of 3.3: the same metadata database, the same DAG file, the same locks.

Run: make test-upgrade. What is done in between are the commands of docs/airflow.md, read from there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flow import Airflow
from postgres import PASSWORD, Cluster
from waiting import until

BED, CHECKOUT, WORK = (Path(os.environ[f"SANKOFA_{name}"]) for name in ("TESTBED", "CHECKOUT", "WORK"))
DAGS = ("sankofa_hr", "sankofa_records", "sankofa_service_desk")
CHAPTER = "## 6. From Airflow 2.11 to 3.x\n"
ASSETS = "SELECT id, uri FROM {} WHERE uri LIKE 'sankofa://%' ORDER BY id"
EVENTS = "SELECT count(*) FROM {0}_event e JOIN {0} a ON a.id = e.{0}_id WHERE a.uri = 'sankofa://warehouse/{1}'"
PUBLISHED = "SELECT run_id FROM sankofa.runs WHERE status = 'published' ORDER BY 1"
COUNTS = "SELECT count(*) FROM {schema}.{table}"
TABLES = {"hr": ("employee", "payslip"), "records": ("student", "mark"), "service_desk": ("ticket", "ticket_event")}


@pytest.fixture
def airflow(on_docker: Any, door: Any, settings: Any, inbox: Any, monkeypatch: Any) -> Any:
    """An Airflow 2.11 with the DAG file and the locks of this repository, on a PostgreSQL server of its own; hr behind the door."""
    home = WORK / "upgrade"
    shutil.copytree(CHECKOUT / "airflow_dags/dags", home / "repository/dags")
    shutil.copytree(CHECKOUT / "airflow_dags/locks", home / "repository/locks")
    hr = f"postgres://sankofa_rows:{PASSWORD}@127.0.0.1:{door.port}/hr?connect_timeout=300"
    connections = json.loads(os.environ["AIRFLOW__SANKOFA__DOCKER_ENVIRONMENT"]) | {"AIRFLOW_CONN_HR_DB": hr}
    settings(notify="alerts", locks=str(home / "repository/locks"), docker_environment=connections)
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", f"http://127.0.0.1:{inbox.port}/http")
    cluster = Cluster(home / "metadata", BED)
    try:
        one = Airflow(home, cluster, {}, version=2)
        try:
            one.start_all()
            yield one
        finally:
            one.stop()
    finally:
        cluster.stop()


def as_documented(airflow: Airflow, block: int) -> str:
    """Run one block of commands of the chapter, as an operator does on a host of Airflow; returns what it said."""
    chapter = (CHECKOUT / "docs/airflow.md").read_text().split(CHAPTER)[1].split("\n## ")[0]
    commands = re.findall(r"^```\n(.*?)^```$", chapter, re.DOTALL | re.MULTILINE)[block]
    server = {"PGHOST": "127.0.0.1", "PGPORT": str(airflow.cluster.port), "PGUSER": "postgres", "PGPASSWORD": PASSWORD}
    path = f"{BED / 'clients/18/bin'}:{airflow.environment['PATH']}"
    done = subprocess.run(["bash", "-euxc", commands], env={**airflow.environment, **server, "PATH": path}, cwd=airflow.work,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def seen(airflow: Airflow, school: Any, kind: str) -> Any:
    """What must be the same before and after: assets with their ids, rows of the warehouse, runs of its ledger."""
    rows = {f"{schema}.{table}": school.psql("warehouse", sql=COUNTS.format(schema=schema, table=table))
            for schema, tables in TABLES.items() for table in tables}  # fmt: skip
    return SimpleNamespace(
        assets=airflow.sql(ASSETS.format(kind)),
        events={schema: int(airflow.sql(EVENTS.format(kind, schema))) for schema in TABLES},
        rows=rows,
        published=school.psql("warehouse", sql=PUBLISHED).splitlines(),
    )


def live(airflow: Airflow) -> dict[str, str]:
    """Let 2.11 make a run of every DAG; return them."""
    until("the DAGs are there", lambda: airflow.dags() == sorted(DAGS))
    airflow.unpause(*DAGS)
    runs = {dag: until(f"{dag} has a run", lambda dag=dag: airflow.first_run(dag)) for dag in DAGS}
    for dag, run in runs.items():
        airflow.ends(dag, run)
    return runs


def leave_half_way(airflow: Airflow, door: Any, dag: str, run: str) -> None:
    """Pause the DAGs, as documented, while a run is in its first task; let that end, and stop 2.11."""
    door.is_open.clear()
    airflow.trigger(dag, run)
    until("it is in its first task", lambda: airflow.task(dag, run, "extract")[0] == "running")
    as_documented(airflow, 0)
    door.is_open.set()
    until("that ends", lambda: airflow.task(dag, run, "extract")[0] == "success")
    airflow.stop()
    assert airflow.state(dag, run) == "running"
    assert airflow.task(dag, run, "validate")[0] in ("", "scheduled")


def go_over(airflow: Airflow) -> None:
    """Make it a 3.3, as documented."""
    airflow.be(3)
    as_documented(airflow, 1)
    airflow.start_all()
    until("the DAGs are there", lambda: airflow.dags() == sorted(DAGS) and airflow.sql("SELECT count(*) FROM dag_version") == "3")


def clear(airflow: Airflow, dag: str, run: str, *tasks: str) -> None:
    """Clear tasks of a run, all if none is named."""
    body = {"dry_run": False, "dag_run_id": run, "only_failed": False, "reset_dag_runs": True}
    airflow.api("POST", f"dags/{dag}/clearTaskInstances", body | ({"task_ids": tasks} if tasks else {}))
    assert airflow.state(dag, run) != "success"


def test_the_same_dags_go_on_under_3_where_2_11_left_off_and_nothing_is_loaded_twice(airflow, school, door, inbox):
    first = live(airflow)
    leave_half_way(airflow, door, "sankofa_hr", "across")
    before = seen(airflow, school, "dataset")
    assert set(before.events.values()) == {1}
    go_over(airflow)
    clear(airflow, "sankofa_hr", "across", "validate", "load")  # else one of them may stay queued: it has no DAG version
    as_documented(airflow, 2)
    airflow.ends("sankofa_hr", "across")
    assert airflow.task("sankofa_hr", "across", "extract") == ("success", 1)
    # The next run reads what is new: one row of one source. The runs of 2.11, cleared, are known to be loaded.
    school.psql("records", sql="UPDATE student SET standing = 'left', updated_at = now() WHERE id = 1")
    for dag in DAGS:
        airflow.trigger(dag, "under_3")
    for dag in DAGS:
        airflow.ends(dag, "under_3")
    for dag, run in first.items():
        clear(airflow, dag, run)
    for dag, run in first.items():
        airflow.ends(dag, run)
        assert "already_done" in airflow.logs(dag, run), airflow.logs(dag, run)

    after = seen(airflow, school, "asset")
    assert (after.assets, after.rows) == (before.assets, before.rows)
    assert airflow.sql("SELECT name FROM asset WHERE name <> uri") == ""
    assert after.events == {**before.events, "records": 2}
    runs = {f"{dag}/{run}" for dag, run in (*first.items(), *((dag, "under_3") for dag in DAGS), ("sankofa_hr", "across"))}
    assert runs <= set(after.published) and len(after.published) == len(set(after.published))
    twice = "SELECT dag_id FROM dag_run WHERE run_type = 'scheduled' GROUP BY dag_id, data_interval_start HAVING count(*) > 1"
    assert airflow.sql(twice) == ""
    assert inbox.got == []
