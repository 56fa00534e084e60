"""SankofaKubernetesOperator without a cluster: the pod it asks for, and what it makes of pods that ended.

What needs a cluster (adoption, deletion, OOM) is run on a real one: cluster/test_pods.py.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from sankofa_airflow.kubernetes_pod import Pod, end_of, never_starts, refused
from sankofa_airflow.task import sankofa_task

RESULT = json.dumps({"schema": 1, "status": "ok", "rows": 3})


@pytest.fixture
def operator(settings: Any, locks: Any, monkeypatch: Any) -> Any:
    from kubernetes.client import ApiClient  # noqa: F401  (the extra is installed)

    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", "kubernetes://")
    settings(launcher="kubernetes", image="registry/sankofa@sha256:0", kubernetes_pull_secrets="pull")
    settings(kubernetes_environment={"VAULT_ADDR": "https://vault"}, kubernetes_config_map="sankofa")
    return sankofa_task("t", "sync", "hr", lock=locks / "hr.lock.json", timeout=timedelta(hours=2))


def test_the_pod_is_of_its_class_without_privileges_sidecar_or_secret(operator, context):
    from kubernetes.client import ApiClient

    operator.fill(operator.make_order(context()))
    pod = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(context=None, dry_run=True))
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert [one["name"] for one in spec["containers"]] == ["base"]
    assert container["args"][:6] == ["sync", "hr", "--run", "dag/r1", "--deadline", "7200s"]
    assert spec["serviceAccountName"] == "sankofa-rows" and spec["automountServiceAccountToken"] is False
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["activeDeadlineSeconds"] == 7290
    assert container["securityContext"]["readOnlyRootFilesystem"] and container["securityContext"]["capabilities"][
        "drop"
    ] == ["ALL"]
    assert container["resources"]["limits"] == {"cpu": "1.0", "memory": str(512 << 20)}
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["SANKOFA_LAUNCHER"] == "airflow"  # which alerts itself: the binary's `notify:` is silent
    assert variables["SANKOFA_RESULT_FILE"] == "/dev/termination-log" and variables["VAULT_ADDR"] == "https://vault"
    token = next(one for one in spec["volumes"] if one["name"] == "token")["projected"]["sources"][0][
        "serviceAccountToken"
    ]
    assert token["audience"] == "vault"
    assert pod["metadata"]["name"] == f"sankofa-{operator.make_order(context()).key}"  # one pod a name: no two tries at once


def pod(status: int | None, message: str = "", reason: str = "", of_pod: str = "", waits: str = "") -> Any:
    terminated = SimpleNamespace(exit_code=status, message=message, reason=reason) if status is not None else None
    waiting = SimpleNamespace(reason=waits, message="no such image") if waits else None
    running = terminated is None and waiting is None and not of_pod
    base = SimpleNamespace(
        name="base", state=SimpleNamespace(terminated=terminated, waiting=waiting, running=running or None)
    )
    phase = "Pending" if waits else "Running" if running else "Succeeded" if status == 0 else "Failed"
    return SimpleNamespace(
        metadata=SimpleNamespace(name="p", namespace="n"),
        status=SimpleNamespace(container_statuses=[base], phase=phase, reason=of_pod),
    )


@pytest.mark.parametrize(
    ("ended", "kind", "word"),
    [
        (pod(99, RESULT), AirflowSkipException, "nothing to do"),
        (pod(65, RESULT), AirflowFailException, "65"),
        (pod(75, RESULT), AirflowException, "75"),
        (pod(137, "", "OOMKilled"), AirflowException, "OOM killed"),
        (pod(128, "", "StartError"), AirflowException, "could not be started"),
        (pod(None, of_pod="Evicted"), AirflowException, "Evicted"),
        (pod(143, RESULT, of_pod="DeadlineExceeded"), AirflowException, "DeadlineExceeded"),
    ],
)
def test_each_end_of_a_pod_is_told_to_airflow(operator, context, ended, kind, word):
    own = context()
    with pytest.raises(kind, match=word) as raised:
        operator.finish(own, end_of(ended))
    assert type(raised.value) is kind and "sankofa_result" in own["ti"].pushed


def test_a_pod_that_went_well_gives_its_termination_message_as_result(operator, context):
    assert operator.finish(context(), end_of(pod(0, RESULT))) == {"schema": 1, "status": "ok", "rows": 3}


def test_a_pod_that_runs_or_waits_has_not_ended_but_one_that_will_never_start_has():
    assert end_of(pod(None)) is None and never_starts(pod(None)) is None
    assert never_starts(pod(None, waits="ContainerCreating")) is None
    assert never_starts(pod(None, waits="ImagePullBackOff")).cause == "ImagePullBackOff: no such image"
    late = pod(None)  # its deadline is told before its container has ended
    late.status.phase, late.status.reason = "Failed", "DeadlineExceeded"
    assert end_of(late) is None


def test_a_line_of_the_log_is_written_once_whatever_was_cut():
    told: list[str] = []
    log = SimpleNamespace(info=lambda _, line: told.append(line))
    pieces = [[b"2026-01-01T00:00:00.1+01:00 one\n2026-01-01T00:00:00.1+01:00 tw", b"o\n2026-01-01T00:00:00.2+01:00 three\n"],
              [b"2026-01-01T00:00:00.1+01:00 one\n2026-01-01T00:00:00.2+01:00 three\n2026-01-01T00:00:00.3+01:00 four"]]  # fmt: skip
    asked: list[Any] = []

    def read(*_: Any, **words: Any) -> Any:
        asked.append(words.get("since_seconds"))
        return SimpleNamespace(stream=lambda **_: iter(pieces[len(asked) - 1]), close=lambda: None)

    one = Pod(SimpleNamespace(read_namespaced_pod_log=read), "n", "p", log)
    one.stream()
    one.stream()
    assert told == ["one", "two", "three", "four"]
    of_zone = datetime(2025, 12, 31, 23, tzinfo=timezone.utc).timestamp()
    assert asked[0] is None and abs(asked[1] - 60 - (time.time() - of_zone)) < 30


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "serviceaccount not found", AirflowFailException),
        (403, "exceeded quota: pods", AirflowException),
        (422, "Invalid value", AirflowFailException),
        (500, "etcdserver: leader changed", AirflowException),
    ],
)
def test_what_the_api_server_refuses_is_never_retried_but_what_passes_is(status, message, kind):
    from kubernetes.client import ApiException

    error = ApiException(status=status, reason="x")
    error.body = json.dumps({"message": message})
    assert type(refused(error, "p")) is kind and message in str(refused(error, "p"))


def test_a_pod_that_is_gone_before_anybody_looks_again_is_told_by_the_changes_since():
    class Gone(Pod):
        closed = False

        def read(self) -> Any:
            return None if self.closed else pod(None)

        def stream(self) -> None:
            self.closed = True

        def changes(self, pod_seen: Any, seconds: int) -> Any:
            yield "", pod_seen
            if self.closed:
                yield "MODIFIED", pod(143, RESULT)
                yield "DELETED", pod(143, RESULT)

    end = Gone(None, "n", "p", None).follow()
    assert (end.status, end.result) == (143, json.loads(RESULT))
