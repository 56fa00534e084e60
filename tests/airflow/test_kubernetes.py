"""SankofaKubernetesOperator without a cluster: the pod it asks for, and what it makes of pods that ended.

What needs a cluster (adoption, deletion, OOM) is run on a real one-node cluster elsewhere.
"""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
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
    assert operator.log_pod_spec_on_failure is False and operator.on_finish_action.value == "keep_pod"


def pod(status: int | None, message: str = "", reason: str = "", of_pod: str = "") -> Any:
    terminated = SimpleNamespace(exit_code=status, message=message, reason=reason) if status is not None else None
    base = SimpleNamespace(name="base", state=SimpleNamespace(terminated=terminated))
    phase = "Running" if status is None and not of_pod else "Succeeded" if status == 0 else "Failed"
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
        (pod(128, "", "ContainerCannotRun"), AirflowException, "could not be started"),
        (pod(None, of_pod="Evicted"), AirflowException, "evicted"),
        (pod(143, RESULT, of_pod="DeadlineExceeded"), AirflowException, "DeadlineExceeded"),
    ],
)
def test_each_end_of_a_pod_is_told_to_airflow_and_the_pod_is_deleted(operator, context, monkeypatch, ended, kind, word):
    deleted: list[str] = []
    monkeypatch.setattr(operator, "delete", lambda one: deleted.append(one.metadata.name))
    own = context()
    with pytest.raises(kind, match=word) as raised:
        operator.cleanup(ended, ended, context=own)
    assert type(raised.value) is kind and deleted == ["p"] and "sankofa_result" in own["ti"].pushed


def test_a_pod_that_went_well_gives_its_termination_message_as_result(operator, context, monkeypatch):
    monkeypatch.setattr(operator, "delete", lambda one: None)
    operator.cleanup(pod(0, RESULT), pod(0, RESULT), context=context())
    assert operator.finished == {"schema": 1, "status": "ok", "rows": 3}


def test_a_pod_that_has_not_ended_is_left_to_what_was_raised(operator, context, monkeypatch):
    monkeypatch.setattr(operator, "delete", lambda one: pytest.fail("it runs"))
    operator.cleanup(pod(None), pod(None), context=context())
    assert operator.finished is None
