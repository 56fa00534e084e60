"""Names that differ between Airflow 2.11 and 3.x, from one place.

In:    `airflow.providers.common.compat.sdk`, which bridges both without deprecation warnings.
Out:   the names below. Nothing else in this package imports Airflow by any other path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    Asset,
    AssetAlias,
    BaseHook,
    BaseNotifier,
    BaseOperator,
    Connection,
    Param,
    conf,
)

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    Context = MutableMapping[str, Any]

__all__ = [
    "DAG",
    "AirflowException",
    "AirflowFailException",
    "AirflowSkipException",
    "Asset",
    "AssetAlias",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "Connection",
    "Param",
    "conf",
    "interval_timetable",
]


def interval_timetable(cron: str, timezone: str) -> Any:
    """Return the timetable that runs at `cron` and gives each run the interval since the last one.

    Asked for by name, since Airflow 3 reads a bare cron text as points in time with empty intervals,
    and a backfill needs intervals.
    """
    try:
        from airflow.sdk import CronDataIntervalTimetable
    except ImportError:  # 2.11, and 3.0 to 3.1
        from airflow.timetables.interval import CronDataIntervalTimetable
    return CronDataIntervalTimetable(cron, timezone=timezone)
