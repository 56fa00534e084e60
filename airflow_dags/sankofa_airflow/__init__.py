"""Starts Sankofa from Airflow 2.11 and 3.x: in Docker, on Nomad, in Kubernetes.

In:    locks (``sankofa config compile``) and the operator's ``[sankofa]`` section of airflow.cfg.
Out:   DAGs whose tasks start one container each, follow it, and tell Airflow how it ended.
Holds: no work, no network and no secret while a DAG file is parsed; importing this package imports
       nothing else, and only the launcher in use is ever imported.

The way of a task: `factory` (lock -> DAG) -> `task` (launcher) -> `order` (what is asked for) ->
`docker` | `nomad` | `kubernetes` (start, follow, stop) -> `contract` (how it ended, to Airflow).
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow's provider manager reads: connection type `nomad`, section `[sankofa]`, a command."""
    from sankofa_airflow.provider import INFO

    return INFO
