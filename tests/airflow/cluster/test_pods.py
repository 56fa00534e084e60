"""SankofaKubernetesOperator on a real cluster: pods of the real image, real servers, Airflow's own account."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster import pods, process_of, running, token_of
from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from sankofa_airflow.task import sankofa_task

BINARY = Path(os.environ["SANKOFA_CHECKOUT"]) / "target/debug/sankofa"


def task(command: str, pipeline: str, locks: Any, **more: Any) -> Any:
    """A task whose pod reaches servers on loopback."""
    return sankofa_task(command, command, pipeline, lock=locks / f"{pipeline}.lock.json", hostnetwork=True, **more)


def test_a_sync_moves_rows_and_its_result_and_log_reach_airflow(on_kubernetes, locks, context, school, said):
    own = context("sync", run="green")
    result = task("sync", "hr", locks, asset="sankofa://warehouse/hr").execute(own)
    assert (result["status"], result["command"], result["run_id"]) == ("ok", "sync", "dag/green")
    assert int(school.psql("warehouse", sql="SELECT count(*) FROM hr.employee")) > 100
    assert own["outlet_events"].emitted["sankofa://warehouse/hr"]["changed"] > 100
    assert "started from sankofa:test" in said() and said().count("published") >= 1, said()
    assert pods(on_kubernetes) == []
    assert task("sync", "hr", locks).execute(context("sync", run="green"))["status"] == "already_done"


def test_a_pipeline_of_300_tables_starts_and_its_result_has_room_in_a_termination_message(
    on_kubernetes, locks, context, school, settings
):
    names = [f"a_table_with_a_rather_long_name_{number:03}" for number in range(300)]
    school.psql("postgres", sql="CREATE DATABASE wide")
    made = (f"CREATE TABLE {name} AS SELECT 1 AS id; ALTER TABLE {name} ADD PRIMARY KEY (id);" for name in names)
    school.psql("wide", sql="".join(made) + "GRANT SELECT ON ALL TABLES IN SCHEMA public TO sankofa_rows")
    tables = ", ".join(f"public.{name}: {{mode: full_refresh}}" for name in names)
    (locks.parent / "pipelines/wide.yaml").write_text(f"source: wide_db\nschema: wide\ntables: {{{tables}}}\n")
    subprocess.run([str(BINARY), "-q", "--project", str(locks.parent), "config", "compile"], check=True, stdout=subprocess.DEVNULL)
    uri = school.connections()["AIRFLOW_CONN_HR_DB"].removesuffix("hr") + "wide"
    settings(kubernetes_environment={**school.connections(), "AIRFLOW_CONN_WIDE_DB": uri})
    own = context(run="wide")
    result = task("sync", "wide", locks, asset="sankofa://warehouse/wide").execute(own)
    assert (result["status"], result["rows"]) == ("ok", 300)
    assert len(result["tables"]) + result["tables_left_out"] == 300 and result["tables"]
    assert own["outlet_events"].emitted["sankofa://warehouse/wide"]["run_id"] == "dag/wide"


def test_each_exit_status_is_told_to_airflow(on_kubernetes, locks, context):
    task("sync", "gate", locks).execute(context(run="first"))
    for pipeline, options, kind, text, status in (
        ("gate", ("--skip-if-empty",), AirflowSkipException, "nothing to do", 99),
        ("strict", (), AirflowFailException, "65 .data refused.: cannot", 65),
        ("absent", (), AirflowException, "75 .temporary.: cannot", 75),
        ("gate", ("--no-such-flag",), AirflowFailException, "2 .bad flag.", 2),
    ):
        own = context(run=f"{pipeline}{status}")
        with pytest.raises(kind, match=text) as raised:
            task("sync", pipeline, locks, options=options).execute(own)
        assert type(raised.value) is kind
        assert own["ti"].pushed["sankofa_result"]["exit"] == status


def test_the_pod_that_runs_has_its_class_its_pull_secrets_and_no_right_it_needs_not(
    on_kubernetes, locks, context, door, settings
):
    settings(kubernetes_pull_secrets="registry")
    door.is_open.clear()
    killed_at_work(on_kubernetes, lambda: task("sync", "gate", locks), context(run="look"))
    found = running(on_kubernetes)[0]
    spec, container = found.spec, found.spec.containers[0]
    assert spec.service_account_name == "sankofa-rows" and [one.name for one in spec.image_pull_secrets] == ["registry"]
    assert container.security_context.read_only_root_filesystem and spec.security_context.run_as_non_root
    sources = [one for volume in spec.volumes if volume.projected for one in volume.projected.sources]
    assert [one.service_account_token.audience for one in sources] == ["vault"]  # and no token for the API server
    on_kubernetes.client().delete_namespaced_pod(found.metadata.name, "sankofa", grace_period_seconds=1)


def killed_at_work(node: Any, make: Any, own: Any) -> Any:
    """Run a task in a process of its own and kill that when the container runs; returns the pod."""
    child = os.fork()
    if child == 0:
        try:
            make().execute(own)
        finally:
            os._exit(0)
    pod = node.until("the container runs", lambda: running(node))[0]
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert [one.metadata.uid for one in running(node)] == [pod.metadata.uid]
    return pod


def test_what_a_killed_worker_left_running_is_adopted(on_kubernetes, locks, context, door, said):
    door.is_open.clear()
    pod = killed_at_work(on_kubernetes, lambda: task("sync", "gate", locks), context(run="adopt"))
    seen = [pod.metadata.uid]
    watcher = threading.Timer(1, lambda: (seen.extend(one.metadata.uid for one in pods(on_kubernetes)), door.is_open.set()))
    watcher.start()
    result = task("sync", "gate", locks).execute(context(run="adopt", attempt=2))
    assert (result["status"], result["run_id"]) == ("ok", "dag/adopt")
    assert f"pod {pod.metadata.name} of try 1 runs: adopted" in said()
    assert set(seen) == {pod.metadata.uid}


def test_what_ended_after_its_worker_was_killed_is_harvested_and_not_run_again(
    on_kubernetes, locks, context, door, school, said
):
    door.is_open.clear()
    killed_at_work(on_kubernetes, lambda: task("sync", "gate", locks), context(run="harvest"))
    door.is_open.set()
    on_kubernetes.until("the pod has ended", lambda: pods(on_kubernetes)[0].status.phase == "Succeeded")
    runs = "SELECT count(*) FROM sankofa.runs"
    before = school.psql("warehouse", sql=runs)
    operator = task("sync", "gate", locks)
    operator.build_pod_request_obj = lambda *_: pytest.fail("it would start another pod")
    result = operator.execute(context(run="harvest", attempt=2))
    assert (result["status"], result["run_id"]) == ("ok", "dag/harvest")
    assert school.psql("warehouse", sql=runs) == before
    assert "try 1 left a pod, which has ended" in said() and "published" in said()  # its log, too


def test_what_failed_for_a_time_after_its_worker_was_killed_is_run_anew_by_the_next(on_kubernetes, locks, context, door):
    door.is_open.clear()
    pod = killed_at_work(on_kubernetes, lambda: task("sync", "gate", locks), context(run="anew"))
    os.kill(process_of(pod), signal.SIGKILL)
    on_kubernetes.until("the pod has failed", lambda: pods(on_kubernetes)[0].status.phase == "Failed")
    door.is_open.set()
    assert task("sync", "gate", locks).execute(context(run="anew", attempt=2))["status"] == "ok"


def in_a_child(operator: Any, own: Any) -> int:
    """Run a task as Airflow's task runner does: SIGTERM calls its on_kill."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, lambda *_: (operator.on_kill(), os._exit(0)))
        operator.execute(own)
        os._exit(0)
    return child


def test_mark_failed_ends_the_pod(on_kubernetes, locks, context, door):
    door.is_open.clear()
    child = in_a_child(task("sync", "gate", locks), context(run="kill"))
    pod = on_kubernetes.until("the container runs", lambda: running(on_kubernetes))[0]
    process = process_of(pod)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    on_kubernetes.until("the pod is gone", lambda: not pods(on_kubernetes), 20)
    assert not os.path.exists(f"/proc/{process}")


def test_a_timeout_leaves_nothing_running_and_the_next_try_waits_for_its_end(on_kubernetes, locks, context, door):
    door.is_open.clear()

    class Timeout(BaseException):
        pass

    def ring(*_: Any) -> None:
        raise Timeout

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 5)
    with pytest.raises(Timeout):
        task("sync", "gate", locks).execute(context(run="timeout"))
    door.is_open.set()
    assert task("sync", "gate", locks).execute(context(run="timeout", attempt=2))["status"] == "ok"


def test_a_pod_that_somebody_deletes_is_retried(on_kubernetes, locks, context, door):
    door.is_open.clear()
    api = on_kubernetes.client()

    def drain() -> None:
        pod = on_kubernetes.until("the container runs", lambda: running(on_kubernetes))[0]
        api.delete_namespaced_pod(pod.metadata.name, "sankofa")

    threading.Thread(target=drain).start()
    own = context(run="drained")
    with pytest.raises(AirflowException, match="143 .terminated.") as raised:
        task("sync", "gate", locks).execute(own)
    assert type(raised.value) is AirflowException
    assert own["ti"].pushed["sankofa_result"]["status"] == "cancelled"


def test_a_pod_that_takes_too_much_memory_is_told_as_that_and_retried(on_kubernetes, locks, context):
    operator = task("sync", "hr", locks, cmds=["/bin/sh", "-c", "tail /dev/zero; exit $?"])
    with pytest.raises(AirflowException, match="137 .OOM killed, killed.") as raised:
        operator.execute(context(run="oom"))
    assert type(raised.value) is AirflowException


def test_an_image_that_is_not_there_is_told_with_its_name_and_its_pod_deleted(on_kubernetes, locks, context, settings):
    settings(image="registry.invalid/no-such:1")
    with pytest.raises(AirflowException, match="ImagePullBackOff: .*registry.invalid/no-such:1") as raised:
        task("sync", "gate", locks).execute(context(run="image"))
    assert type(raised.value) is AirflowException and pods(on_kubernetes) == []


def test_an_account_that_is_not_there_and_one_that_may_not_are_never_retried(on_kubernetes, locks, context, settings):
    settings(kubernetes_service_account="absent-{class}")
    with pytest.raises(AirflowFailException, match='403 .*serviceaccount "absent-rows" not found .77.'):
        task("sync", "gate", locks).execute(context(run="account"))
    settings(kubernetes_service_account="sankofa-{class}", kubernetes_namespace="default")
    with pytest.raises(AirflowFailException, match="cannot start pod .*403 .*forbidden.* .77."):
        task("sync", "gate", locks).execute(context(run="namespace"))


def test_its_own_deadline_comes_first_and_the_clusters_ends_an_orphan(on_kubernetes, locks, context, door):
    door.is_open.clear()
    with pytest.raises(AirflowException, match="75 .temporary."):
        task("sync", "gate", locks, timeout=timedelta(seconds=2)).execute(context(run="deadline"))

    def short() -> Any:
        operator = task("sync", "gate", locks)
        operator.active_deadline_seconds = 4
        return operator

    pod = killed_at_work(on_kubernetes, short, context(run="orphan"))
    process = process_of(pod)
    on_kubernetes.until("its deadline ended it", lambda: pods(on_kubernetes)[0].status.phase == "Failed")
    on_kubernetes.until("its process is gone", lambda: not os.path.exists(f"/proc/{process}"))
    with pytest.raises(AirflowException, match="DeadlineExceeded"):
        short().execute(context(run="orphan", attempt=2))


def test_a_log_that_is_silent_for_long_is_asked_for_anew_and_no_line_written_twice(
    on_kubernetes, locks, context, door, said, monkeypatch
):
    monkeypatch.setattr("sankofa_airflow.kubernetes_pod.QUIET_SECONDS", 1)
    monkeypatch.setattr("sankofa_airflow.kubernetes_pod.CLOSED_SECONDS", 1)
    lines: list[str] = []
    monkeypatch.setattr("sankofa_airflow.lines.Lines.write", lambda _, line: lines.append(line))
    door.is_open.clear()
    threading.Timer(6, door.is_open.set).start()
    assert task("sync", "gate", locks).execute(context(run="silent"))["status"] == "ok"
    assert len([one for one in lines if " published " in one]) == 1
    assert "does not answer" not in said()


def test_an_api_server_that_is_killed_and_comes_back_is_no_failure_of_the_run(on_kubernetes, locks, context, door, said):
    door.is_open.clear()

    def restart() -> None:
        on_kubernetes.until("the container runs", lambda: running(on_kubernetes))
        server = on_kubernetes.processes["kube-apiserver"]
        server.kill()
        server.wait()
        time.sleep(1)
        on_kubernetes.start_api()
        on_kubernetes.until("it answers", lambda: on_kubernetes.client().list_namespace())
        door.is_open.set()

    threading.Thread(target=restart).start()
    assert task("sync", "gate", locks).execute(context(run="api"))["status"] == "ok"
    assert "the API server does not answer" in said()


def test_doctor_says_which_right_and_which_account_is_missing(on_kubernetes, settings, monkeypatch):
    from sankofa_airflow import settings as all_settings
    from sankofa_airflow.doctor import kubernetes

    assert [one.what for one in kubernetes(all_settings.read()) if not one.is_ok] == []
    settings(kubernetes_service_account="absent-{class}")
    wrong = [one.what for one in kubernetes(all_settings.read()) if not one.is_ok]
    assert wrong == ["service account absent-rows", "service account absent-backup"]
    stranger = on_kubernetes.kubeconfig("vault", {"token": token_of(on_kubernetes, "vault", "vault")})
    extra = json.dumps({"kube_config_path": stranger})
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    wrong = [one.what.removeprefix("namespace sankofa: may ") for one in kubernetes(all_settings.read()) if not one.is_ok]
    assert wrong == [*(f"{verb} pods" for verb in ("create", "get", "list", "watch", "delete")), "get pods/log", "list serviceaccounts"]


def test_reap_deletes_what_nobody_comes_back_for_and_nothing_of_another_airflow(on_kubernetes, locks, context, door):
    from sankofa_airflow.reap import reap_pods

    door.is_open.clear()
    pod = killed_at_work(on_kubernetes, lambda: task("sync", "gate", locks), context(run="reap"))
    api = on_kubernetes.client()
    assert list(reap_pods(api, "sankofa", "airflow", keep_seconds=-100_000)) == []  # it runs
    os.kill(process_of(pod), signal.SIGKILL)
    on_kubernetes.until("the pod has failed", lambda: pods(on_kubernetes)[0].status.phase == "Failed")
    assert list(reap_pods(api, "sankofa", "another", keep_seconds=-100_000)) == []
    assert list(reap_pods(api, "sankofa", "airflow")) == []  # a next try may come
    assert list(reap_pods(api, "sankofa", "airflow", keep_seconds=-100_000)) == [pod.metadata.name]
