"""A pipeline of 300 tables, with what analysts write for each, starts on all three launchers.

An environment's string ends at 128 KiB and so does what exec takes: the pipeline goes packed. Docker and Nomad's
stand-in start the real binary; for Kubernetes it is started with the words and variables of the pod asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import BINARY, WORK
from sankofa_airflow.lock import ENVIRONMENT_BYTES, read_pipeline
from sankofa_airflow.task import sankofa_task
from test_nomad import JOB, nomad  # noqa: F401 (a fixture)

TABLES = 300


def word(*about: object) -> str:
    """A name that no packing can guess."""
    return "c" + hashlib.sha256(repr(about).encode()).hexdigest()[:19]


def yaml_of(table: str) -> str:
    """What an analyst writes of one table."""
    one, two, three, four = (word(table, n) for n in range(4))
    return (
        f"  public.{table}:\n    mode: incremental\n    replication_key: changed_{one}\n    lookback: 10m\n"
        f"    mask: {{{one}: hmac, {two}: redact}}\n    columns: {{exclude: [{three}]}}\n"
        f"    deletes: {{mode: soft, every: 1d, at_most: 10%}}\n"
        f"    checks: {{rows: {{min: 1, max_change: 30%}}, null_rate: {{{four}: 10%}}, freshness: {{changed_{one}: 36h}}, unique: [[id, {four}]]}}\n"
    )


def sql_of(table: str) -> str:
    """The table itself, and a row."""
    columns = ", ".join(f"{word(table, n)} text DEFAULT 'x'" for n in range(4))
    stamp = f"changed_{word(table, 0)} timestamptz NOT NULL DEFAULT now()"
    return f"CREATE TABLE {table} (id int PRIMARY KEY, {columns}, {stamp}); INSERT INTO {table} (id) VALUES (1);"


@pytest.fixture(scope="module")
def large(school: Any) -> Path:
    """The lock of a pipeline of 300 tables that are there."""
    tables = [f"{word('table', n)}_{n}" for n in range(TABLES)]
    school.psql("postgres", sql="CREATE DATABASE large")
    grants = "GRANT USAGE ON SCHEMA public TO sankofa_rows; GRANT SELECT ON ALL TABLES IN SCHEMA public TO sankofa_rows"
    file = WORK / "large.sql"
    file.write_text("\n".join(map(sql_of, tables)) + grants)
    school.psql("large", "-1", "-f", str(file))
    home = WORK / "large"
    (home / "pipelines").mkdir(parents=True)
    (home / "pipelines/large.yaml").write_text(
        "source: large_db\nschema: large\ntimeout: 20m\ntables:\n" + "".join(map(yaml_of, tables))
    )
    (home / "sankofa.yaml").write_text("version: 1\nwarehouse: {connection: warehouse}\n")
    subprocess.run([str(BINARY), "-q", "--project", str(home), "config", "compile"], check=True, stdout=subprocess.DEVNULL)
    lock = home / "locks/large.lock.json"
    packed = len(read_pipeline(lock, "").packed())
    print(f"\n300 tables: {lock.stat().st_size} bytes of lock, {packed} packed, an environment holds {ENVIRONMENT_BYTES}")
    assert len(json.dumps(read_pipeline(lock, "").fields["pipeline"])) > ENVIRONMENT_BYTES > packed
    return lock


@pytest.fixture
def variables(school: Any) -> dict[str, str]:
    """The connections of a run."""
    connections = school.connections()
    return {**connections, "AIRFLOW_CONN_LARGE_DB": connections["AIRFLOW_CONN_HR_DB"].removesuffix("/hr") + "/large"}


def is_loaded(school: Any, result: dict[str, Any], run: str) -> None:
    """Hold a run to 300 tables that were published together."""
    assert (result["status"], result["run_id"]) == ("ok", f"dag/{run}")
    published = f"SELECT count(*) FROM sankofa.tables WHERE run_id = 'dag/{run}' AND status = 'published' AND live_rows = 1"
    assert school.psql("warehouse", sql=published) == str(TABLES)


def test_300_tables_start_in_docker(on_docker, large, context, school, variables, settings):
    settings(docker_environment=variables)
    is_loaded(school, sankofa_task("t", "sync", "large", lock=large).execute(context(run="docker")), "docker")
    assert on_docker.containers() == []


def test_300_tables_start_on_nomad(nomad, large, context, school, variables, settings, tmp_path):  # noqa: F811
    project = tmp_path / "sankofa.yaml"
    project.write_text("version: 1\nwarehouse: {connection: warehouse}\n")
    own = {
        "SANKOFA_CONFIG": str(project), "SANKOFA_ARGUMENTS": "${NOMAD_META_args}", "SANKOFA_RESULT_LINE": "1",
        "SANKOFA_PIPELINE": "${NOMAD_META_pipeline}", **variables,
    }  # fmt: skip
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in own.items())
    shell = 'config { command = "/bin/sh" args = ["-c", %s] }'
    job = JOB.replace(shell, f'config {{ command = "{BINARY}" }}\nenv {{\n{lines}\n}}')
    nomad.control_register(job.replace('"sankofa-rows"', '"sankofa-large-rows"'))
    settings(nomad_job="sankofa-large-{class}")
    operator = sankofa_task("t", "sync", "large", lock=large)
    is_loaded(school, operator.execute(context(run="nomad")), "nomad")


def test_300_tables_start_in_kubernetes(large, context, school, variables, settings, monkeypatch, tmp_path):
    from kubernetes.client import ApiClient

    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", "kubernetes://")
    settings(launcher="kubernetes", image="sankofa:test", kubernetes_environment=variables)
    operator = sankofa_task("t", "sync", "large", lock=large)
    operator.fill(operator.make_order(context(run="kubernetes")))
    pod = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(context=None, dry_run=True))
    container = pod["spec"]["containers"][0]
    asked = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    message = tmp_path / "message"
    (tmp_path / "sankofa.yaml").write_text("version: 1\nwarehouse: {connection: warehouse}\n")
    environment = {**asked, "SANKOFA_RESULT_FILE": str(message), "SANKOFA_CONFIG": str(tmp_path / "sankofa.yaml")}
    done = subprocess.run([str(BINARY), *container["args"]], env={"PATH": os.environ["PATH"], **environment},
                          capture_output=True, text=True, check=False, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(message.read_bytes()) <= 4096  # what a termination message holds
    assert len(json.dumps(pod)) < 1 << 20  # what an API server takes in one object, 1.5 MiB at most
    is_loaded(school, json.loads(message.read_text()), "kubernetes")
