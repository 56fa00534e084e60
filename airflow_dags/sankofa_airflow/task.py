"""One way to write a task, whichever launcher the operator has chosen.

In:    arguments that all three operators share. Out: a task.
Holds: only the operator in use is imported; the DAG does not change with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sankofa_airflow import settings as all_settings

OPERATORS = {
    "docker": ("sankofa_airflow.docker", "SankofaDockerOperator"),
    "nomad": ("sankofa_airflow.nomad", "SankofaNomadOperator"),
    "kubernetes": ("sankofa_airflow.kubernetes", "SankofaKubernetesOperator"),
}


def operator_class() -> type[Any]:
    """Return the operator of `[sankofa] launcher`."""
    module, name = OPERATORS[all_settings.read().launcher]
    found: type[Any] = getattr(import_module(module), name)
    return found


def sankofa_task(task_id: str, command: str, subject: str | None = None, **arguments: Any) -> Any:
    """Return the task that runs `sankofa <command> <subject>` once.

    `arguments`: `lock`, `table`, `window` (from, to), `options` (further flags), `timeout` (timedelta),
    and those of any Airflow operator. Raises OrderError for a command that no DAG may start.
    """
    return operator_class()(task_id=task_id, command=command, subject=subject, **arguments)


def sankofa_mapped(
    task_id: str, command: str, subject: str | None = None, *, over: dict[str, Any], **arguments: Any
) -> Any:
    """Return the task mapped over `{"table": [...]}` or `{"window": [(from, to), ...]}`.

    The copies must differ in what they read; each is a run of its own, and their lock lets one write at
    a time, so set `max_active_tis_per_dagrun=1` unless their pipelines differ.
    """
    mapped = operator_class().partial(task_id=task_id, command=command, subject=subject, **arguments)
    return mapped.expand(**over)
