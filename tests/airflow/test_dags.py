"""The DAG file on a real Airflow: import, parse time, torn locks, and whole runs by `airflow dags test`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sankofa_airflow.compat import AirflowFailException

WORK = Path(os.environ["SANKOFA_WORK"])
CHECKOUT = Path(os.environ["SANKOFA_CHECKOUT"])
DAG_FILE = CHECKOUT / "airflow_dags/dags/sankofa.py"
DATABASE = WORK / "home/airflow.db"


@pytest.fixture(scope="module")
def metadata() -> None:
    """The metadata database: SQLite, migrated."""
    subprocess.run(["airflow", "db", "migrate"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def dags_of(locks: Path, settings: Any) -> dict[str, Any]:
    from sankofa_airflow.factory import build_dags

    settings(locks=str(locks))
    return build_dags(str(DAG_FILE))


def test_the_dag_file_gives_a_dag_for_each_lock_and_no_import_error(locks, settings):
    from airflow.models import DagBag

    settings(locks=str(locks))
    bag = DagBag(str(DAG_FILE.parent))
    assert bag.import_errors == {}
    assert {"sankofa_hr", "sankofa_records", "sankofa_service_desk"} <= set(bag.dags)
    hr = bag.dags["sankofa_hr"]
    assert [task.task_id for task in hr.topological_sort()] == ["extract", "validate", "load"]
    assert [task.task_id for task in bag.dags["sankofa_service_desk"].tasks] == ["sync"]
    assert (hr.catchup, hr.max_active_runs, hr.tasks[0].owner, hr.tasks[0].retries) == (False, 1, "data-office", 2)
    assert "Africa/Accra" in repr(hr.timetable) + repr(vars(hr.timetable))


def test_an_environment_is_a_section_of_the_lock(locks, settings):
    settings(environment="dev")
    assert dags_of(locks, settings)["sankofa_hr"].tasks[0].retries == 0


def test_how_long_a_task_waits_before_it_is_tried_again_is_the_pipelines_word_or_else_the_operators(locks, settings):
    settings(retry_delay_seconds="40")
    assert dags_of(locks, settings)["sankofa_hr"].tasks[0].retry_delay == timedelta(seconds=40)


def test_the_same_dags_are_made_for_each_launcher_and_only_that_is_imported(locks, settings):
    words = """
import os, sys
import sankofa_airflow.factory as f
for launcher in ("nomad", "docker", "kubernetes"):
    os.environ["AIRFLOW__SANKOFA__LAUNCHER"] = launcher
    dags = f.build_dags(sys.argv[1])
    broken = [one for one in dags if "broken" in dags[one].tags]
    loaded = [name for name in ("nomad", "docker", "kubernetes") if "sankofa_airflow." + name in sys.modules]
    print("FOUND", type(dags["sankofa_hr"].tasks[0]).__name__, broken, loaded)
"""
    settings(locks=str(locks))
    done = subprocess.run([sys.executable, "-c", words, str(DAG_FILE)], capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert found == [
        "FOUND SankofaNomadOperator [] ['nomad']",
        "FOUND SankofaDockerOperator [] ['nomad', 'docker']",
        "FOUND SankofaKubernetesOperator [] ['nomad', 'docker', 'kubernetes']",
    ], done.stderr[-2000:]


def test_a_torn_lock_is_one_red_dag_with_its_error_and_the_others_are_as_they_were(locks, settings, tmp_path):
    whole = dags_of(locks, settings)
    shutil.copytree(locks, tmp_path / "locks")
    lock = tmp_path / "locks/hr.lock.json"
    for text in (
        lock.read_text()[:700],
        lock.read_text().replace('"tables"', '"tabels"'),
        "<<<<<<< HEAD\n" + lock.read_text(),
    ):
        lock.write_text(text)
        torn = dags_of(tmp_path / "locks", settings)
        assert set(torn) == set(whole)
        assert [one for one in torn if "broken" in torn[one].tags] == ["sankofa_hr"]
        assert "cannot" in torn["sankofa_hr"].doc_md and "config compile" in torn["sankofa_hr"].doc_md
        with pytest.raises(AirflowFailException, match="cannot.*config compile"):
            torn["sankofa_hr"].tasks[0].execute({})
        assert torn["sankofa_records"].task_ids == whole["sankofa_records"].task_ids
        shutil.copy(locks / "hr.lock.json", lock)


def test_a_lock_that_is_sound_json_and_nonsense_takes_no_other_dag_with_it(locks, settings, tmp_path):
    shutil.copytree(locks, tmp_path / "locks")
    lock = tmp_path / "locks/hr.lock.json"
    found = json.loads(lock.read_text())
    for fields in (
        {"schedule": {"cron": "often", "timezone": "UTC", "catchup": False}},
        {"tables": 7},
        {"retries": "many"},
    ):
        broken = json.loads(json.dumps(found))
        broken["environments"]["default"].update(fields)
        lock.write_text(json.dumps(broken))
        dags = dags_of(tmp_path / "locks", settings)
        assert len(dags) == len(list(locks.glob("*.lock.json"))) and "broken" not in dags["sankofa_records"].tags


@pytest.mark.parametrize("launcher", ["docker", "nomad"])
def test_a_task_is_mapped_over_tables_or_windows_on_any_launcher(launcher, locks, settings):
    from datetime import datetime, timezone

    from sankofa_airflow.compat import DAG
    from sankofa_airflow.task import sankofa_mapped

    settings(launcher=launcher)
    with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        over = {"table": ["public.employee", "public.contract"]}
        task = sankofa_mapped(
            "t", "sync", "hr", lock=str(locks / "hr.lock.json"), over=over, max_active_tis_per_dagrun=1
        )
        windows = {"window": [("2026-01-01", "2026-01-02")]}
        assert task.partial_kwargs["command"] == "sync" and sankofa_mapped("w", "sync", "hr", over=windows)


def test_a_deadline_of_a_run_is_set_where_airflow_has_them(locks, settings):
    from airflow import __version__

    settings(notify="alerts", late_after_minutes="90")
    dag = dags_of(locks, settings)["sankofa_hr"]
    assert "broken" not in dag.tags and dag.on_failure_callback
    assert bool(getattr(dag, "deadline", None)) is (not __version__.startswith("2."))


def test_nothing_is_asked_of_anybody_while_a_dag_file_is_parsed(locks, settings, monkeypatch):
    import socket

    from sankofa_airflow.compat import BaseHook

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked while parsing")

    settings(notify="alerts", vault_conn_id="vault", backups=str(WORK / "backups.lock.json"))
    backups = {
        "schema": 1,
        "kind": "backups",
        "fits": {},
        "databases": [{"name": "hr", "expected_every_seconds": 93600}],
    }
    (WORK / "backups.lock.json").write_text(json.dumps(backups))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(BaseHook, "get_connection", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    dags = dags_of(locks, settings)
    assert [one for one in dags if "broken" in dags[one].tags] == []
    assert sorted(dags["sankofa_backups"].task_ids) == ["backup_hr", "coverage", "every_backup", "status"]
    # `status` tells what coverage found; a run whose backup failed has a last task that was not run, so it has failed.
    coverage, every = (dags["sankofa_backups"].get_task(name) for name in ("coverage", "every_backup"))
    assert (coverage.upstream_task_ids, coverage.downstream_task_ids) == ({"backup_hr"}, {"status"})
    assert tuple(dags["sankofa_backups"].get_task("status").options) == ("--for", "backup")
    assert (every.upstream_task_ids, every.downstream_task_ids, every.trigger_rule) == ({"backup_hr"}, set(), "all_success")


def test_no_pipeline_and_no_secret_is_in_a_serialized_dag(locks, settings, metadata):
    settings(docker_environment={"AIRFLOW_CONN_X": "postgres://u:planted-secret@h/d"})
    dag = dags_of(locks, settings)["sankofa_hr"]
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialized

        text = json.dumps(Serialized.serialize_dag(dag), default=str)
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG

        text = json.dumps(SerializedDAG.to_dict(dag), default=str)
    assert "planted-secret" not in text and "replication_key" not in text and "H4sI" not in text


def test_200_pipelines_parse_in_a_bearable_time(locks, settings, tmp_path):
    """The bound of the benchmark is 0.5 s on a quiet machine; here only that it is not of another order."""
    (tmp_path / "locks").mkdir()
    found = json.loads((locks / "hr.lock.json").read_text())
    for number in range(200):
        (tmp_path / f"locks/p{number}.lock.json").write_text(json.dumps({**found, "name": f"p{number}"}))
    dags_of(locks, settings)
    start = time.process_time()
    dags = dags_of(tmp_path / "locks", settings)
    print(f"200 pipelines x 3 tasks: {time.process_time() - start:.2f} s of processor")
    assert len(dags) == 200 and sum(len(dag.tasks) for dag in dags.values()) == 600


def test_doctor_names_what_is_missing(settings, locks, capsys):
    from sankofa_airflow.cli import main

    settings(launcher="docker", docker_url="unix:///nowhere.sock", locks=str(locks), notify="")
    assert main(["doctor"]) == 78
    told = capsys.readouterr().out
    assert "WRONG  docker: DockerException" in told and "told of failures: nobody" in told
    assert "ok     lock hr.lock.json" in told


def test_airflow_knows_the_provider_its_connection_type_and_its_settings():
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    manager.initialize_providers_configuration()
    assert manager.providers["sankofa-airflow"].version == "0.1.0"
    assert "nomad" in dict(manager.hooks)
    assert conf.get("sankofa", "nomad_conn_id") == "nomad_default"


def airflow(*words: str, **popen: Any) -> subprocess.Popen[bytes]:
    log = (WORK / f"{words[-1]}-{time.monotonic()}.log").open("wb")
    one = subprocess.Popen(["airflow", *words], stdout=log, stderr=log, start_new_session=True, **popen)
    one.log = log.name  # type: ignore[attr-defined]
    return one


def is_old() -> bool:
    from airflow import __version__

    return __version__.startswith("2.")


def asked(sql: str) -> list[Any]:
    with sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True) as database:
        return database.execute(sql).fetchall()


def ended(one: subprocess.Popen[bytes]) -> int:
    try:
        return one.wait(240)
    finally:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)


def test_a_run_of_the_dag_is_green_from_source_to_warehouse(on_docker, metadata, locks, settings, school):
    settings(locks=str(locks))
    shutil.copy(DAG_FILE, WORK / "dags/sankofa.py")
    if is_old():  # its `dags test` does not write the aliases down, as its scheduler does
        subprocess.run(
            ["airflow", "dags", "reserialize"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    school.psql("warehouse", sql="DROP SCHEMA IF EXISTS records, sankofa CASCADE")  # other tests have filled it
    run = airflow("dags", "test", "sankofa_records", "2026-01-02")
    assert ended(run) == 0, Path(run.log).read_text()[-4000:]
    states = dict(asked("SELECT task_id, state FROM task_instance WHERE dag_id = 'sankofa_records'"))
    assert states == {"extract": "success", "validate": "success", "load": "success"}
    xcom = asked("SELECT task_id, value FROM xcom WHERE dag_id = 'sankofa_records' AND key = 'return_value'")
    results = {task: json.loads(value) for task, value in xcom}
    results = {task: json.loads(value) if isinstance(value, str) else value for task, value in results.items()}
    assert results["load"]["status"] in ("ok", "already_done") and results["load"]["rows"] > 0
    assert int(school.psql("warehouse", sql="SELECT count(*) FROM records.student")) > 0
    kind = "asset" if asked("SELECT 1 FROM sqlite_master WHERE name = 'asset_event'") else "dataset"
    events = dict(asked(f"SELECT a.uri, e.extra FROM {kind}_event e JOIN {kind} a ON a.id = e.{kind}_id"))
    assert "sankofa://warehouse/records" in events and "sankofa://warehouse/records/student" in events, events
    assert json.loads(events["sankofa://warehouse/records"])["changed"] > 0
    assert "not-a-secret-test" not in Path(run.log).read_text()


FAULTS = """
from datetime import datetime, timedelta, timezone
from sankofa_airflow.compat import DAG
from sankofa_airflow.notify import SankofaNotifier
from sankofa_airflow.task import sankofa_task

told = [SankofaNotifier(conn_id="alerts")]
with DAG("faults", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), on_failure_callback=told) as dag:
    again = {"retries": 1, "retry_delay": timedelta(seconds=0)}
    refused = sankofa_task("refused", "sync", "strict", lock="%(locks)s/strict.lock.json", **again)
    away = sankofa_task("away", "sync", "absent", lock="%(locks)s/absent.lock.json", **again)
    hung = sankofa_task("hung", "sync", "gate", lock="%(locks)s/gate.lock.json", execution_timeout=timedelta(seconds=%(hung)s))
"""


def test_refused_and_away_and_hung_tasks_end_as_they_should_and_leave_nothing(
    on_docker, metadata, locks, settings, door, inbox, monkeypatch
):
    """2.11's `dags test` dies of a timeout as a whole, so there the timeout is left to test_docker."""
    if is_old():
        door.is_open.set()
    else:
        door.is_open.clear()
    alerts = {"conn_type": "http", "host": "127.0.0.1", "schema": "http", "port": inbox.port}
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", json.dumps(alerts))
    (WORK / "dags/faults.py").write_text(FAULTS % {"locks": locks, "hung": 300 if is_old() else 5})
    run = airflow("dags", "test", "faults", "2026-01-02")
    assert ended(run) != 0
    states = {task: (state, tries) for task, state, tries in
              asked("SELECT task_id, state, try_number FROM task_instance WHERE dag_id = 'faults'")}  # fmt: skip
    assert states["refused"] == ("failed", 1), Path(run.log).read_text()[-4000:]
    assert states["away"][0] == "failed" and states["away"][1] == 2
    assert states["hung"][0] == ("success" if is_old() else "failed")
    told = {task for (task,) in asked("SELECT task_id FROM xcom WHERE dag_id = 'faults' AND key = 'sankofa_result'")}
    assert {"refused", "away"} <= told
    assert [(body["event"], body["dag_id"]) for _, _, body in inbox.got] == [("failure", "faults")]


def test_the_locks_that_are_shipped_are_those_of_their_pipelines():
    words = [
        os.environ["SANKOFA_BINARY"],
        "--project",
        str(CHECKOUT / "airflow_dags"),
        "config",
        "compile",
        "--check",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
