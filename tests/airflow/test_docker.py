"""SankofaDockerOperator against a real Docker engine, the real binary and real servers."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from sankofa_airflow.task import sankofa_task
from waiting import until


def task(command: str, pipeline: str, locks: Any, **more: Any) -> Any:
    return sankofa_task(command, command, pipeline, lock=locks / f"{pipeline}.lock.json", **more)


def running(engine: Any) -> list[str]:
    return [one["Id"] for one in engine.api.containers()]


def test_extract_validate_load_moves_rows_and_emits_the_asset_once(on_docker, locks, context, school, said):
    uri = "sankofa://warehouse/hr"
    for command in ("extract", "validate", "load"):
        own = context(command, run="green")
        result = task(command, "hr", locks, asset=uri if command == "load" else None).execute(own)
        assert (result["status"], result["command"], result["run_id"]) == ("ok", command, "dag/green")
    assert int(school.psql("warehouse", sql="SELECT count(*) FROM hr.employee")) > 100
    assert own["outlet_events"].emitted[uri]["changed"] > 100
    assert "sankofa load hr --run dag/green" in said() and "published" in said(), said()

    again = context("load", run="green")
    assert task("load", "hr", locks, asset=uri).execute(again)["status"] == "already_done"
    assert again["outlet_events"].emitted == {}
    nothing_new = context("sync", run="other")
    assert (
        task("sync", "records", locks, asset="sankofa://warehouse/records").execute(context("sync", run="a"))["status"]
        == "ok"
    )
    assert task("sync", "records", locks, asset="sankofa://warehouse/records").execute(nothing_new)["status"] == "ok"
    assert nothing_new["outlet_events"].emitted == {}


def test_nothing_to_do_is_skipped_and_its_result_is_there(on_docker, locks, context):
    task("sync", "gate", locks).execute(context(run="first"))
    own = context(run="second")
    with pytest.raises(AirflowSkipException):
        task("sync", "gate", locks, options=("--skip-if-empty",)).execute(own)
    assert own["ti"].pushed["sankofa_result"]["status"] == "skipped"


def test_refused_data_is_never_retried_and_an_absent_server_is(on_docker, locks, context):
    own = context()
    with pytest.raises(AirflowFailException, match="65 .data refused.: cannot"):
        task("sync", "strict", locks).execute(own)
    assert own["ti"].pushed["sankofa_result"]["error"]["exit"] == 65
    own = context("down")
    with pytest.raises(AirflowException, match="75 .temporary.") as failed:
        task("sync", "absent", locks).execute(own)
    assert not isinstance(failed.value, AirflowFailException)
    assert own["ti"].pushed["sankofa_result"]["exit"] == 75


def test_a_bad_flag_and_a_missing_image_are_told_apart(on_docker, locks, context, settings):
    with pytest.raises(AirflowFailException, match="bad flag"):
        task("sync", "gate", locks, options=("--no-such-flag",)).execute(context())


def killed_at_work(engine: Any, operator: Any, own: Any) -> str:
    """Run the task in a process of its own and kill that when the container runs; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            operator.execute(own)
        finally:
            os._exit(0)
    container = until("its container runs", lambda: running(engine), 60)[0]
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert running(engine) == [container]
    return container


def test_what_a_killed_try_left_running_is_adopted(on_docker, locks, context, door, said):
    door.is_open.clear()
    container = killed_at_work(on_docker, task("sync", "gate", locks), context(run="adopt"))
    threading.Timer(1, door.is_open.set).start()
    result = task("sync", "gate", locks).execute(context(run="adopt", attempt=2))
    assert (result["status"], result["run_id"]) == ("ok", "dag/adopt")
    assert f"container {container[:12]} of try 1 runs: adopted" in said()


def test_what_ended_after_its_try_was_killed_is_harvested_and_not_run_again(on_docker, locks, context, door, school):
    door.is_open.clear()
    container = killed_at_work(on_docker, task("sync", "gate", locks), context(run="harvest"))
    door.is_open.set()
    until("its container ends", lambda: not running(on_docker), 60)
    runs = "SELECT count(*) FROM sankofa.runs"
    before, events = school.psql("warehouse", sql=runs), time.time()
    result = task("sync", "gate", locks).execute(context(run="harvest", attempt=2))
    assert (result["status"], result["run_id"]) == ("ok", "dag/harvest")
    assert school.psql("warehouse", sql=runs) == before
    born = on_docker.api.events(since=int(events), until=int(time.time()) + 1, filters={"event": "create"}, decode=True)
    assert [one for one in born if one.get("Type") == "container"] == []
    assert container


def test_what_failed_for_a_time_after_its_try_was_killed_is_run_anew_by_the_next(on_docker, locks, context, door):
    door.is_open.clear()
    killed_at_work(on_docker, task("sync", "gate", locks), context(run="anew"))
    on_docker.api.kill(running(on_docker)[0])
    until("its container ends", lambda: not running(on_docker), 60)
    door.is_open.set()
    assert task("sync", "gate", locks).execute(context(run="anew", attempt=2))["status"] == "ok"


def test_a_timeout_leaves_nothing_running(on_docker, locks, context, door):
    door.is_open.clear()
    operator = task("sync", "gate", locks)

    class Timeout(BaseException):
        pass

    def ring(*_: Any) -> None:
        raise Timeout

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 3)
    with pytest.raises(Timeout):
        operator.execute(context(run="timeout"))
    assert on_docker.containers() == []


def test_mark_failed_ends_the_container(on_docker, locks, context, door):
    door.is_open.clear()
    operator = task("sync", "gate", locks)
    child = os.fork()
    if child == 0:  # as Airflow's task runner does
        signal.signal(signal.SIGTERM, lambda *_: (operator.on_kill(), os._exit(0)))
        operator.execute(context(run="kill"))
    until("its container runs", lambda: running(on_docker), 60)
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    assert on_docker.containers() == []


def test_its_own_deadline_ends_an_orphan(on_docker, locks, context, door):
    door.is_open.clear()
    with pytest.raises(AirflowException, match="75 .temporary."):
        task("sync", "gate", locks, timeout=timedelta(seconds=2)).execute(context(run="deadline"))


def test_no_secret_and_no_privilege_is_in_the_container(on_docker, locks, context, door):
    door.is_open.clear()
    operator = task("sync", "gate", locks)
    killed_at_work(on_docker, operator, context(run="look"))
    found = on_docker.api.inspect_container(running(on_docker)[0])
    assert found["HostConfig"]["ReadonlyRootfs"] and found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert found["Config"]["User"] == "65534:65534"
    operator.container = {"Id": found["Id"]}
    assert operator.cli
    operator.on_kill()


def test_reap_ends_what_is_past_its_time_and_leaves_the_rest(on_docker, locks, context, door):
    from sankofa_airflow.reap import reap_docker

    door.is_open.clear()
    killed_at_work(on_docker, task("sync", "gate", locks), context(run="young"))
    assert list(reap_docker(on_docker.api, "airflow")) == []
    late = -400  # past its deadline by more than the margin
    killed = on_docker.api.create_container(
        "sankofa:test",
        ["--version"],
        labels={"sankofa.instance": "airflow", "sankofa.until": str(int(time.time()) + late)},
    )
    assert on_docker.api.inspect_container(killed["Id"])["State"]["Status"] == "created"
    assert len(list(reap_docker(on_docker.api, "airflow", keep_seconds=60))) == 1
    assert list(reap_docker(on_docker.api, "another", keep_seconds=0)) == []
    on_docker.api.remove_container(running(on_docker)[0], force=True, v=True)
