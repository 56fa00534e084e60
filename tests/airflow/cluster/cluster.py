"""What an operator sets up in a cluster once, and what the tests look at there.

In:    a running `Node`, docs/grants/kubernetes.yaml. Out: accounts, sankofa.yaml, pods and their processes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from node import read

GRANTS = Path(os.environ["SANKOFA_CHECKOUT"]) / "docs/grants/kubernetes.yaml"

PROJECT = """version: 1
secrets: [environment]
warehouse: {connection: warehouse, reader_role: metabase, after_role: marts}
guard: {never: ["*.*.*.national_id"], mask: {"*.*.*.birth_date": nullify}}
"""


def prepare(node: Any) -> None:
    """Do what an operator does once: the shipped grants, sankofa.yaml, the accounts of Airflow and Vault."""
    from kubernetes import utils

    api = node.client()
    for name in ("airflow", "vault"):
        api.create_namespace({"metadata": {"name": name}})
        api.create_namespaced_service_account(name, {"metadata": {"name": name}})
    for one in yaml.safe_load_all(GRANTS.read_text()):
        utils.create_from_dict(api.api_client, one)
    configure(node, "sankofa", PROJECT)
    node.kubeconfig("airflow", {"token": token_of(node, "airflow", "airflow")})


def configure(node: Any, name: str, project: str) -> None:
    """Make a ConfigMap with `project` as sankofa.yaml."""
    node.client().create_namespaced_config_map("sankofa", {"metadata": {"name": name}, "data": {"sankofa.yaml": project}})


def token_of(node: Any, namespace: str, account: str, audience: str | None = None) -> str:
    """Ask the API server for a token of a service account, for an hour."""
    spec = {"expirationSeconds": 3600, "audiences": [audience] if audience else []}
    made = node.client().create_namespaced_service_account_token(account, namespace, {"spec": spec})
    return str(made.status.token)


def pods(node: Any) -> list[Any]:
    """What `kubectl get pods` lists."""
    return list(node.client().list_namespaced_pod("sankofa").items)


def running(node: Any) -> list[Any]:
    """Pods whose container runs."""
    states = [(one, one.status.container_statuses or []) for one in pods(node)]
    return [one for one, statuses in states if any(status.state.running for status in statuses)]


def process_of(pod: Any) -> int:
    """The process of a pod's container, on this machine."""
    run_id = pod.spec.containers[0].args[3]
    for file in Path("/proc").glob("[0-9]*/environ"):
        words = read(file.parent / "cmdline").split("\0")
        if run_id in words and "KUBERNETES_SERVICE_HOST=" in read(file):
            return int(file.parent.name)
    raise AssertionError(f"no process of run {run_id}")
