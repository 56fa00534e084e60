"""A real cluster with the real image in it, as docs/grants/kubernetes.yaml sets it up; `[sankofa]` for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
WORK, BED, CHECKOUT = (Path(os.environ[f"SANKOFA_{name}"]) for name in ("WORK", "TESTBED", "CHECKOUT"))
PROGRAM = BED / "kubernetes/node"
IMAGE = "sankofa:test"


@pytest.fixture(scope="session")
def node() -> Any:
    """A node with the real image; in CI what needs it cannot be skipped."""
    if os.getuid() != 0 or not PROGRAM.exists():
        text = "a kubelet needs root" if os.getuid() != 0 else f"cannot find {PROGRAM}: run `make test-kubernetes`"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(f"!!! NOT TESTED: Kubernetes. {text}")
    from cluster import prepare
    from node import Node

    subprocess.run([str(CHECKOUT / "tests/testbed/image.sh"), str(WORK / "image.tar")], check=True, stdout=subprocess.DEVNULL)
    one = Node(WORK / "kubernetes", PROGRAM)
    try:
        one.ctr("images", "import", str(WORK / "image.tar"))
        prepare(one)
        yield one
    finally:
        one.stop()


@pytest.fixture
def on_kubernetes(settings: Any, node: Any, school: Any, door: Any, monkeypatch: Any) -> Any:
    """`[sankofa]` for the node, under Airflow's own account; afterwards no pod may be left."""
    from cluster import pods

    extra = json.dumps({"kube_config_path": node.at("airflow.kubeconfig")})
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    rows = "postgres://sankofa_rows:not-a-secret-test@127.0.0.1"
    more = {
        "AIRFLOW_CONN_GATE_DB": f"{rows}:{door.port}/service_desk?connect_timeout=120",
        "AIRFLOW_CONN_ABSENT_DB": f"{rows}:1/service_desk",
    }
    settings(
        launcher="kubernetes", image=IMAGE, kubernetes_config_map="sankofa",
        kubernetes_environment={**school.connections(), **more},
    )  # fmt: skip
    door.is_open.set()
    yield node
    left = [one.metadata.name for one in pods(node) if one.metadata.deletion_timestamp is None]
    for name in left:
        node.client().delete_namespaced_pod(name, "sankofa", grace_period_seconds=1)
    node.until("no pod is left", lambda: not pods(node))
    assert left == []
