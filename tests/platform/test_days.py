"""Five days of the platform, from the first unpause, with something broken on each of the last four.

Run: make test-platform. Each test is a day and goes on from the one before; the last looks at what all of
them have left. Runs are told apart by their ids: the first day's are Airflow's own, the others are triggered.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from flow import OURS
from parts import Redis
from postgres import PASSWORD
from waiting import until
from whole import PIPELINES

ROWS = OURS[:3]
BACKUPS = "sankofa_backups"


def all_green(platform: Any, run: str, dags: tuple[str, ...] = OURS) -> None:
    """Wait for a day's runs, and hold the warehouse against the sources."""
    for dag in dags:
        platform.airflow.ends(dag, run)
    assert platform.differing() == []


def day(platform: Any, number: int) -> str:
    """Let production live on; the id of the day's runs."""
    platform.advance(number)
    return f"day_{number + 1}"


def test_day_1_from_unpause_to_rows_in_the_warehouse_and_a_proven_backup(platform):
    airflow = platform.airflow
    until("the DAGs are there", lambda: airflow.dags() == sorted(OURS))
    assert "broken" not in airflow.sql("SELECT string_agg(name, ' ') FROM dag_tag")
    airflow.unpause(*OURS)
    runs = {dag: until(f"{dag} has a run", lambda dag=dag: airflow.first_run(dag)) for dag in OURS}
    for dag in ROWS:
        airflow.ends(dag, runs[dag])
    # Backups are there, and nobody has yet seen one come back: `status` says so, and that is told.
    airflow.ends(BACKUPS, runs[BACKUPS], "failed")
    assert airflow.task(BACKUPS, runs[BACKUPS], "status") == ("failed", 1), airflow.logs(BACKUPS, runs[BACKUPS], "status")
    assert "it has never been drilled" in airflow.logs(BACKUPS, runs[BACKUPS], "status")
    assert airflow.task(BACKUPS, runs[BACKUPS], "coverage")[0] == "success"
    for name in PIPELINES:
        assert platform.by_hand("drill", "drill", name)["status"] == "ok"
    airflow.clear(BACKUPS, runs[BACKUPS])
    until("it runs again", lambda: airflow.state(BACKUPS, runs[BACKUPS]) != "failed")
    airflow.ends(BACKUPS, runs[BACKUPS])
    assert platform.differing() == []


def test_day_2_a_killed_container_is_tried_again_and_a_killed_workers_container_is_adopted(platform):
    airflow, engine = platform.airflow, platform.engine
    run = day(platform, 1)
    with platform.closed_door():
        airflow.trigger("sankofa_hr", run)
        airflow.trigger("sankofa_records", run)
        engine.docker("kill", platform.container("sankofa_hr", run, "extract"))
        left = platform.container("sankofa_records", run, "extract")
        platform.kill_worker("sankofa_records", run, "extract")
        adopted = f"container {left[:12]} of try 1 runs: adopted"
        until("the next try adopts it", lambda: adopted in airflow.logs("sankofa_records", run), 300)
    airflow.trigger("sankofa_service_desk", run)
    airflow.trigger(BACKUPS, run)
    all_green(platform, run)
    assert airflow.task("sankofa_hr", run, "extract") == ("success", 2)
    assert platform.started("sankofa_hr", run, "extract") == 2
    assert platform.started("sankofa_records", run, "extract") == 1


def test_day_3_a_killed_dockerd_and_a_killed_scheduler_are_survived(platform):
    airflow, engine = platform.airflow, platform.engine
    run = day(platform, 2)
    with platform.closed_door():
        airflow.trigger(BACKUPS, run)
        airflow.trigger("sankofa_hr", run)
        platform.container(BACKUPS, run, "backup_hr")
        engine.kill()
    airflow.ends("sankofa_hr", run)
    with platform.closed_door():
        airflow.trigger("sankofa_records", run)
        platform.container("sankofa_records", run, "extract")
        airflow.kill("scheduler")
        airflow.start("scheduler")
        airflow.trigger("sankofa_service_desk", run)
        platform.container("sankofa_service_desk", run, "sync")  # by the new scheduler
    all_green(platform, run)
    # Airflow takes the old scheduler's task from its worker, which ends its container, and gives it to a new try.
    assert platform.started("sankofa_records", run, "extract") <= 2


def test_day_4_a_full_disk_and_a_restarted_warehouse_are_waited_out_and_refused_data_is_not(platform):
    airflow = platform.airflow
    run = day(platform, 3)
    # An analyst forgets a state; the check refuses the data, at once, and tells once.
    text = platform.pipeline("service_desk")
    platform.change("service_desk", text.replace("Resolved, ", ""))
    airflow.trigger("sankofa_service_desk", run)
    with platform.full_disk():
        airflow.trigger("sankofa_records", run)
        until("the disk is full", lambda: "75 (temporary)" in airflow.logs("sankofa_records", run))
    airflow.trigger("sankofa_hr", run)
    with platform.frozen("sankofa_hr", run, "load"):
        platform.warehouse.stop()
    until("a try fails", lambda: airflow.task("sankofa_hr", run, "load")[0] == "up_for_retry")
    platform.warehouse.start()
    airflow.trigger(BACKUPS, run)
    airflow.ends("sankofa_service_desk", run, "failed")
    assert airflow.task("sankofa_service_desk", run, "sync") == ("failed", 1)
    platform.change("service_desk", text)
    airflow.clear("sankofa_service_desk", run)
    until("it runs again", lambda: airflow.state("sankofa_service_desk", run) != "failed")
    all_green(platform, run)


def test_day_5_a_vault_that_is_sealed_for_a_minute_is_waited_for(platform):
    airflow = platform.airflow
    platform.vault.seal()
    unsealed = time.monotonic() + 60
    run = day(platform, 4)
    time.sleep(max(0.0, unsealed - 25 - time.monotonic()))
    for dag in OURS:
        airflow.trigger(dag, run)
    until("a try fails", lambda: "Vault answers 503" in airflow.logs("sankofa_hr", run))
    time.sleep(max(0.0, unsealed - time.monotonic()))
    platform.vault.unseal()
    all_green(platform, run)


def test_celery_and_its_redis_do_the_same_and_a_killed_workers_container_is_adopted(platform):
    airflow = platform.airflow
    airflow.use_celery(platform.end(Redis(platform.work)).url)
    run = day(platform, 5)
    with platform.closed_door():
        airflow.trigger("sankofa_service_desk", run)
        left = platform.container("sankofa_service_desk", run, "sync")
        airflow.kill_tree("celery worker")
        airflow.start("celery worker")
        adopted = f"container {left[:12]} of try 1 runs: adopted"
        until("the next try adopts it", lambda: adopted in airflow.logs("sankofa_service_desk", run), 300)
    for dag in ("sankofa_hr", "sankofa_records"):
        airflow.trigger(dag, run)
    all_green(platform, run, ROWS)
    assert platform.started("sankofa_service_desk", run, "sync") == 1


def test_at_the_end_nothing_is_left_over_and_every_alert_went_out_once(platform):
    airflow, warehouse = platform.airflow, platform.warehouse
    assert platform.differing() == []
    # Runs: each that Airflow knows is published, once; nobody is at work or holds a lock.
    known = f"SELECT dag_id || '/' || run_id FROM dag_run WHERE dag_id <> '{BACKUPS}'"
    published = "SELECT run_id FROM sankofa.runs WHERE status = 'published'"
    assert sorted(warehouse.psql("warehouse", sql=published).splitlines()) == sorted(airflow.sql(known).splitlines())
    assert warehouse.psql("warehouse", sql="SELECT * FROM sankofa.runs WHERE status <> 'published'") == ""
    sessions = "SELECT pid, usename, state, query FROM pg_stat_activity WHERE usename LIKE 'sankofa%'"
    for server in (platform.sources, warehouse):
        ours = functools.partial(server.psql, "postgres", sql=sessions)
        until("nobody of ours is there", lambda ours=ours: not ours(), 60, tells=ours)
        assert server.psql("postgres", sql="SELECT * FROM pg_locks WHERE locktype = 'advisory'") == ""
    # Containers, volumes, tasks.
    assert platform.engine.containers() == []
    assert set(platform.engine.volumes()) - platform.volumes == set()
    assert airflow.sql("SELECT dag_id, run_id, state FROM dag_run WHERE state <> 'success'") == ""
    open_tasks = "SELECT dag_id, run_id, task_id, state FROM task_instance WHERE state IS DISTINCT FROM 'success'"
    assert airflow.sql(open_tasks) == ""
    # Backups: five days of three databases, each whole.
    listed = platform.by_hand("backup", "backups", "list")
    assert platform.good(listed) == {name: 5 for name in PIPELINES}
    for name in PIPELINES:
        assert platform.by_hand("drill", "drill", name)["status"] == "ok"
    # Alerts: the backup that was never drilled, the data that was refused. What was tried again told nobody.
    assert platform.inbox.told() == [("failure", BACKUPS), ("failure", "sankofa_service_desk")]
    assert "never been drilled" not in airflow.logs(BACKUPS, "day_5")
    for file in (platform.work / "home/logs").rglob("*.log"):
        assert PASSWORD not in file.read_text(errors="replace"), file
