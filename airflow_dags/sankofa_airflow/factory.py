"""Locks -> DAGs. All that a DAG file calls.

In:    a directory of `*.lock.json`; `[sankofa]`. Out: DAGs, by id, for the file's `globals()`.
Holds: one bad lock makes one red DAG that says why, and leaves the others as they were; nothing but the
       locks is read, nothing is asked of anybody. 200 pipelines parse in half a second.
"""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sankofa_airflow import lock as locks
from sankofa_airflow import settings as all_settings
from sankofa_airflow.compat import DAG, AirflowFailException, BaseOperator, Param, interval_timetable
from sankofa_airflow.task import sankofa_task

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
LONGEST_DELAY = timedelta(hours=1)
BROKEN_RUNS = "0 */6 * * *"
SUFFIX = ".lock.json"

PARAMS = {
    "full_refresh": ("boolean", False, "Read every row again, whatever the mode."),
    "reload": ("string", "", "Any word: takes a new run id, so that what this run has loaded already is loaded again."),
    "accept": ("string", "", "Checks to publish although they are missed, this run alone: one a line, as the error names them."),
    "set_aside": ("string", "", "Tables to leave as they are while the others are published, this run alone: one a line."),
    "by": ("string", "", "Who takes that on; kept in the ledger."),
    "reason": ("string", "", "Why; kept in the ledger."),
}


def build_dags(file: str) -> dict[str, DAG]:
    """Return the DAGs of the locks beside the DAG file `file` (`../locks`), or where `[sankofa] locks` says.

    Never raises for a lock: a DAG that cannot be made is made as `broken`.
    """
    with all_settings.held() as settings:
        home = Path(settings.locks) if settings.locks else Path(file).resolve().parent.parent / "locks"
        dags: dict[str, DAG] = {}
        for path in sorted(home.glob(f"*{SUFFIX}")):
            if path.name != f"backups{SUFFIX}":
                name = path.name.removesuffix(SUFFIX)
                dags[f"sankofa_{name}"] = or_broken(f"sankofa_{name}", pipeline_dag, path, settings)
        if settings.backups:
            dags["sankofa_backups"] = or_broken("sankofa_backups", backups_dag, Path(settings.backups), settings)
        return dags


def or_broken(dag_id: str, make: Any, path: Path, settings: all_settings.Settings) -> DAG:
    """Return the DAG that `make` makes of the lock at `path`, or one that only says why it cannot."""
    try:
        made: DAG = make(path, settings)
        return made
    except locks.LockError as error:
        return broken(dag_id, str(error))
    except Exception as error:  # noqa: BLE001 (one lock must not take the other DAGs with it)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return broken(
            dag_id,
            f"cannot make this DAG: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}",
        )


class BrokenLock(BaseOperator):
    """The one task of a DAG whose lock cannot be used: it fails, and says why."""

    ui_color = "#f4c7c3"
    template_fields = ()

    def __init__(self, *, error: str, **base: Any) -> None:
        super().__init__(**base)
        self.error = error

    def execute(self, context: Any) -> None:
        """Fail with 78: no retry mends a lock."""
        raise AirflowFailException(f"{self.error} (78)")


def broken(dag_id: str, error: str) -> DAG:
    """Return the red DAG of a lock: tagged `broken`, its error in its title and docs.

    It runs, and fails, four times a day: a lock that is torn must not be a silence.
    """
    dag = DAG(
        dag_id,
        schedule=interval_timetable(BROKEN_RUNS, "UTC"),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        description=f"BROKEN: {error}"[:250],
        doc_md=f"**This DAG does not run.**\n\n```\n{error}\n```\n\nIts history stays; mend the lock, and it is what it was.",
        tags=["sankofa", "broken"],
        on_failure_callback=notifiers(all_settings.read()),
    )
    BrokenLock(task_id="lock", error=error, retries=0, dag=dag)
    return dag


def pipeline_dag(path: Path, settings: all_settings.Settings) -> DAG:
    """Return the DAG of one pipeline: `extract >> validate >> load`, or `sync` where it says so."""
    section = locks.read_pipeline(path, settings.environment)
    fields = section.fields
    schedule = fields.get("schedule")
    timeout = timedelta(seconds=fields.get("timeout_seconds") or settings.timeout_minutes * 60)
    dag = DAG(
        f"sankofa_{section.name}",
        schedule=interval_timetable(schedule["cron"], schedule["timezone"]) if schedule else None,
        catchup=bool(schedule and schedule["catchup"]),
        start_date=START,
        max_active_runs=1,
        description=f"{fields['source']} -> warehouse schema {fields['warehouse_schema']}",
        doc_md=document(section),
        tags=["sankofa", "rows", *([settings.environment] if settings.environment else [])],
        params={key: Param(value, type=kind, description=text) for key, (kind, value, text) in PARAMS.items()},
        on_failure_callback=notifiers(settings),
        default_args=task_defaults(fields, settings),
        **late(settings),
    )
    uri = f"sankofa://{settings.warehouse}/{fields['warehouse_schema']}"
    tables = [one["target"] for one in section.tables] if fields.get("assets") == "tables" else []
    ends = {"asset": uri, "asset_tables": {f"{fields['warehouse_schema']}.{one}": f"{uri}/{one}" for one in tables}}
    commands = ["sync"] if fields.get("run_as") == "sync" else ["extract", "validate", "load"]
    before = None
    for command in commands:
        own = ends if command == commands[-1] else {}
        task = sankofa_task(command, command, section.name, lock=path, timeout=timeout, dag=dag, **own)
        if before is not None:
            before >> task
        before = task
    return dag


def backups_dag(path: Path, settings: all_settings.Settings) -> DAG:
    """Return the DAG of the backups that Airflow starts: one task a database; then what no backup covers, then what is late.

    `status` asks the stores alone: its class may not read the warehouse.
    """
    databases = locks.read_backups(path)
    dag = DAG(
        "sankofa_backups",
        schedule=interval_timetable(settings.backups_schedule, "UTC"),
        catchup=False,
        start_date=START,
        max_active_runs=1,
        description=f"Backups of {len(databases)} databases, and a look for what no backup covers",
        tags=["sankofa", "backup"],
        on_failure_callback=notifiers(settings),
        default_args=task_defaults({}, settings),
        **late(settings),
    )
    watch = {"trigger_rule": "all_done", "timeout": timedelta(minutes=30), "dag": dag}
    coverage = sankofa_task("coverage", "backups coverage", **watch)
    coverage >> sankofa_task("status", "status", options=("--for", "backup"), **watch)
    after = [coverage, EveryBackup(task_id="every_backup", retries=0, dag=dag)]
    for database in databases:
        limit = timedelta(seconds=min(database.expected_every_seconds, settings.timeout_minutes * 60))
        sankofa_task(f"backup_{database.name}", "backup", database.name, timeout=limit, dag=dag) >> after
    return dag


class EveryBackup(BaseOperator):
    """Does nothing, after every backup has gone well: a run's state is that of its last tasks, and the others look anyway."""

    ui_color = "#dfe8d8"
    template_fields = ()

    def execute(self, context: Any) -> None:
        """Nothing: that it is run says all."""


def task_defaults(fields: dict[str, Any], settings: all_settings.Settings) -> dict[str, Any]:
    """Return what holds for every task of a DAG."""
    retries, delay = fields.get("retries"), fields.get("retry_delay_seconds")
    return {
        "owner": fields.get("owner") or "sankofa",
        "retries": settings.retries if retries is None else retries,
        "retry_delay": timedelta(seconds=delay or settings.retry_delay_seconds),
        "retry_exponential_backoff": True,
        "max_retry_delay": LONGEST_DELAY,
    }


def document(section: locks.Section) -> str:
    """Return the page that Airflow shows with a DAG."""
    rows = "\n".join(f"| `{one['name']}` | `{one['target']}` | {one['mode']} |" for one in section.tables[:50])
    more = f"\n\n... and {len(section.tables) - 50} more" if len(section.tables) > 50 else ""
    return (
        f"**{section.name}**: connection `{section.fields['source']}` -> warehouse schema"
        f" `{section.fields['warehouse_schema']}`.\n\n| table | in the warehouse | mode |\n|---|---|---|\n{rows}{more}\n\n"
        "Rerun: always safe, a run that is loaded already changes nothing. To load it once more, trigger with"
        f" `reload`. Configuration `{section.fields['config_hash'][:12]}`."
    )


def notifiers(settings: all_settings.Settings) -> list[Any] | None:
    """Return who is told when a run fails: at DAG level, so that a killed task is told too."""
    if not settings.notify:
        return None
    from sankofa_airflow.notify import SankofaNotifier

    return [SankofaNotifier(conn_id=conn_id) for conn_id in settings.notify]


def late(settings: all_settings.Settings) -> dict[str, Any]:
    """Return the deadline of a run, where Airflow has deadlines (3.1+) and the operator wants one."""
    if not settings.late_after_minutes or not settings.notify:
        return {}
    try:
        from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
    except ImportError:
        return {}
    callback = AsyncCallback("sankofa_airflow.notify.tell_late", kwargs={"conn_ids": list(settings.notify)})
    interval = timedelta(minutes=settings.late_after_minutes)
    return {"deadline": [DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, interval=interval, callback=callback)]}
