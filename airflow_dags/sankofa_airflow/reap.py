"""Ends and removes what tasks have left: `sankofa_airflow reap`, and each Docker task before it starts.

In:    the launcher's own list of what this Airflow started. Out: names of what was removed.
Holds: what runs is ended only after its own deadline and a margin; what has ended is kept for a next
       try to harvest until `KEEP_SECONDS` after that deadline. Never touches another Airflow's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MARGIN_SECONDS = 300
KEEP_SECONDS = 6 * 3600


def reap_docker(cli: Any, instance: str, keep_seconds: int = KEEP_SECONDS) -> Iterator[str]:
    """End and remove containers past their time; yield their names."""
    for one in cli.containers(all=True, filters={"label": [f"sankofa.instance={instance}", "sankofa.until"]}):
        late = time.time() - int(one["Labels"]["sankofa.until"])
        is_running = one["State"] in ("running", "paused", "restarting")
        if late < (MARGIN_SECONDS if is_running else keep_seconds):
            continue
        if is_running:
            cli.stop(one["Id"], timeout=10)
        cli.remove_container(one["Id"], v=True, force=True)
        yield one["Names"][0].lstrip("/")


def reap_nomad(nomad: Any, parent: str, older_than_seconds: float) -> Iterator[str]:
    """Deregister children of `parent` that are past their time and that nobody has taken.

    A child does not say which Airflow dispatched it: Airflows that share a cluster have parents of
    their own (`[sankofa] nomad_job`).
    """
    for child in nomad.children(parent, ""):
        age = time.time() - child["SubmitTime"] / 1e9
        if age > older_than_seconds and not child.get("Stop"):
            nomad.stop(child["ID"])
            yield child["ID"]


def reap_pods(client: Any, namespace: str, instance: str, keep_seconds: int = KEEP_SECONDS) -> Iterator[str]:
    """Delete pods past their time; yield their names.

    A running one ends by its own activeDeadlineSeconds, which does not count while no node has taken it.
    """
    for pod in client.list_namespaced_pod(namespace, label_selector=f"sankofa-instance={instance}").items:
        age = time.time() - pod.metadata.creation_timestamp.timestamp()
        late = age - (pod.spec.active_deadline_seconds or 0)
        if pod.status.phase != "Running" and late > (MARGIN_SECONDS if pod.status.phase == "Pending" else keep_seconds):
            client.delete_namespaced_pod(pod.metadata.name, namespace)
            yield pod.metadata.name
