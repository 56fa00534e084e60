"""What one task asks for -> the exact words, variables and labels of one container.

In:    a `Step` (written in the DAG), Airflow's context, the lock.
Out:   an `Order`.
Holds: the run's id is `dag_id/run_id`, the same in extract, validate and load, so that a cleared task is
       the same run; only a backfill passes its interval; two mapped tasks never share an id; what the
       binary would refuse with 78 for the DAG's sake is refused here, before anything is started.
Not here: how it is started (`docker`, `nomad`, `kubernetes`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sankofa_airflow import lock as locks
from sankofa_airflow.contract import RESULT_FILE

if TYPE_CHECKING:
    from sankofa_airflow.compat import Context
    from sankofa_airflow.settings import Settings

CLASSES = {
    "extract": "rows",
    "validate": "rows",
    "load": "rows",
    "sync": "rows",
    "plan": "rows",
    "reconcile": "rows",
    "backup": "backup",
    "status": "backup",
    "backups coverage": "backup",
    "backups verify": "backup",
}
"""Privilege class of each command a DAG may start. Drill and restore hold identities: never from here."""

KEYED = ("extract", "validate", "load", "sync", "backup")
"""Commands that are keyed by a run's id."""

READING = ("extract", "sync")
"""Commands that read a source, and so take a table or a window."""

RUNNING = ("extract", "validate", "load", "sync")
"""Commands of a pipeline's run: what somebody takes on for it goes to each."""

RUN_ID_BYTES = 250


class OrderError(ValueError):
    """The DAG asks for what cannot be run: 78, never retried."""


@dataclass(frozen=True)
class Step:
    """What a task was written to start."""

    command: str
    subject: str | None = None
    lock: Path | None = None
    table: str | None = None
    window: tuple[str, str] | None = None
    options: tuple[str, ...] = ()
    timeout_seconds: int = 0


@dataclass(frozen=True)
class Order:
    """One container to start."""

    key: str
    """The task instance without its try: what a next try finds it by. 20 hex digits."""
    try_number: int
    arguments: list[str]
    environment: dict[str, str]
    privilege: str
    timeout_seconds: int
    labels: dict[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory_bytes: int | None = None


def privilege(command: str) -> str:
    """Return the class that may start `command`. Raises OrderError for one no DAG may start."""
    try:
        return CLASSES[command]
    except KeyError:
        known = ", ".join(sorted(CLASSES))
        raise OrderError(f"cannot start {command} from a DAG: it is none of {known}") from None


def make(step: Step, settings: Settings, context: Context) -> Order:
    """Return what `step` comes to in the run of `context`.

    Raises OrderError or LockError: both are 78. Costs one small file.
    """
    ti = context["ti"]
    section = locks.read_pipeline(step.lock, settings.environment) if step.lock else None
    window = step.window or backfilled(step, section, context)
    arguments = [*step.command.split(), *([step.subject] if step.subject else [])]
    if step.command in KEYED:
        arguments += ["--run", run_id(step, context)]
        if step.timeout_seconds:
            arguments += ["--deadline", f"{step.timeout_seconds}s"]
    if step.command in READING:
        arguments += chosen(step, window, context)
    if step.command in RUNNING:
        arguments += taken_on(context)
    if settings.environment:
        arguments += ["--env", settings.environment]
    arguments += step.options
    resources = (section.fields.get("resources") if section else None) or {}
    return Order(
        key=key(settings.instance, ti),
        try_number=int(ti.try_number),
        arguments=arguments,
        environment=variables(section),
        privilege=privilege(step.command),
        timeout_seconds=step.timeout_seconds,
        labels=labels(ti, context),
        cpu=resources.get("cpu"),
        memory_bytes=resources.get("memory_bytes"),
    )


def variables(section: locks.Section | None) -> dict[str, str]:
    """Return the variables every container gets: where the result goes, who alerts, and the pipeline itself."""
    found = {"SANKOFA_RESULT_FILE": RESULT_FILE, "SANKOFA_LAUNCHER": "airflow"}
    return {**found, "SANKOFA_PIPELINE": section.packed()} if section else found


def chosen(step: Step, window: tuple[str, str] | None, context: Context) -> list[str]:
    """Return the flags that say what is read, where it is not simply what is new."""
    flags = ["--table", step.table] if step.table else []
    if window:
        return [*flags, "--from", window[0], "--to", window[1]]
    return [*flags, "--full-refresh"] if parameter(context, "full_refresh") is True else flags


def taken_on(context: Context) -> list[str]:
    """Return the flags of what somebody takes on for this run: checks accepted, tables set aside, who and why."""
    flags: list[str] = []
    for name, flag in (("accept", "--accept"), ("set_aside", "--set-aside")):
        lines = str(parameter(context, name) or "").splitlines()
        flags += [word for line in lines if line.strip() for word in (flag, line.strip())]
    for name in ("by", "reason"):
        if flags and parameter(context, name):
            flags += [f"--{name}", str(parameter(context, name))]
    return flags


def run_id(step: Step, context: Context) -> str:
    """Return the run's id: `dag_id/run_id`, what a mapped task is about, and the word of a reload."""
    ti = context["ti"]
    parts = [ti.dag_id, context["run_id"]]
    if ti.map_index is not None and ti.map_index >= 0:
        about = [step.table] if step.table else []
        about += ["..".join(step.window)] if step.window else []
        if not about:
            raise OrderError(
                "cannot map this task: its copies differ in neither table nor window, and would be one run"
            )
        parts += about
    reload = parameter(context, "reload")
    if reload:
        parts.append(f"reload {reload}")
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "_", "/".join(parts))
    return shortened(text)


def shortened(text: str) -> str:
    """Return `text`, or its start and the hash of the whole where it is longer than an id may be."""
    raw = text.encode()
    if len(raw) <= RUN_ID_BYTES:
        return text
    tail = "~" + hashlib.sha256(raw).hexdigest()[:16]
    return raw[: RUN_ID_BYTES - len(tail)].decode(errors="ignore") + tail


def backfilled(step: Step, section: locks.Section | None, context: Context) -> tuple[str, str] | None:
    """Return the interval of a backfill run, None for any other run.

    Raises OrderError where a table cannot be read by an interval.
    """
    run = context["dag_run"]
    kind = getattr(run.run_type, "value", run.run_type)
    if kind != "backfill" or step.command not in READING or section is None:
        return None
    tables = [one for one in section.tables if step.table in (None, one["name"], one["target"])]
    unfit = [f"{one['name']} ({one['mode']})" for one in tables if one["mode"] != "incremental"]
    if unfit:
        raise OrderError(
            f"cannot backfill {section.name}: {', '.join(unfit)} cannot be read by an interval."
            " Map the task over its incremental tables, or trigger the DAG with `full_refresh`."
        )
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is None or end is None or start >= end:
        raise OrderError(f"cannot backfill {section.name}: this run has no interval. Its DAG needs a cron schedule.")
    return start.isoformat(), end.isoformat()


def parameter(context: Context, name: str) -> Any:
    """Return a parameter of the run, None where the DAG has none of that name."""
    params = context.get("params")
    return params[name] if params is not None and name in params else None


def key(instance: str, ti: Any) -> str:
    """Return what a task instance is found by, whichever try started it."""
    index = -1 if ti.map_index is None else ti.map_index
    text = "\0".join([instance, ti.dag_id, ti.task_id, ti.run_id, str(index)])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def labels(ti: Any, context: Context) -> dict[str, str]:
    """Return what a person sees in `docker ps`: whose container this is."""
    return {
        "sankofa.dag": ti.dag_id,
        "sankofa.task": ti.task_id,
        "sankofa.run": context["run_id"],
        "sankofa.map": str(-1 if ti.map_index is None else ti.map_index),
        "sankofa.try": str(ti.try_number),
    }
