"""What the three operators share: constructor, order, assets, conclusion.

In:    the arguments of a task. Out: a mixin for the operators of `docker`, `nomad`, `kubernetes`.
Holds: one DAG runs unchanged on all three: they take the same arguments; whatever is refused before a
       start fails without a retry; an asset is emitted only where rows changed.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sankofa_airflow import order as orders
from sankofa_airflow import settings as all_settings
from sankofa_airflow.compat import AirflowFailException, Asset, AssetAlias
from sankofa_airflow.contract import End, conclude
from sankofa_airflow.lock import LockError

if TYPE_CHECKING:
    from sankofa_airflow.compat import Context

MARGIN = timedelta(seconds=90)
"""How long after its own --deadline a run is ended from outside: pulls, placement and goodbyes."""


class Launch:
    """Mixin: what is started, and what is made of its end."""

    step_fields = ("table", "window", "options")
    log: Any
    outlets: Any

    def set_step(self, own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
        """Take the arguments of `STEP_ARGUMENTS` in `own`; return `base` with what Airflow is told."""
        self.settings = all_settings.read()
        self.privilege = orders.privilege(own["command"])
        self.step_command = own["command"]
        self.subject = own["subject"]
        self.lock = str(own["lock"]) if own["lock"] else None
        self.table = own["table"]
        self.window = own["window"]
        self.options = own["options"]
        self.asset = own["asset"]
        self.asset_tables = own["asset_tables"]
        timeout = own["timeout"] or timedelta(minutes=self.settings.timeout_minutes)
        self.timeout_seconds = int(timeout.total_seconds())
        outlets = [AssetAlias(alias_of(self.asset))] if self.asset else []
        return {"execution_timeout": timeout + MARGIN, "pool": self.settings.pool, **base, "outlets": outlets}

    def make_order(self, context: Context) -> orders.Order:
        """Return what this task instance asks for. Raises AirflowFailException: 78, never retried."""
        step = orders.Step(
            command=self.step_command,
            subject=self.subject,
            lock=Path(self.lock) if self.lock else None,
            table=self.table or None,
            window=tuple(self.window) if self.window else None,
            options=tuple(self.options or ()),
            timeout_seconds=self.timeout_seconds,
        )
        try:
            order = orders.make(step, self.settings, context)
        except (orders.OrderError, LockError) as error:
            raise AirflowFailException(f"{error} (78)") from None
        self.log.info("sankofa %s", " ".join(order.arguments))
        return order

    def finish(self, context: Context, end: End) -> dict[str, Any]:
        """Tell Airflow how it ended: return the result, or raise."""
        result = conclude(context, end)
        if self.asset:
            emit(context, self.asset, self.asset_tables, result)
        return result


def alias_of(asset: str) -> str:
    """Return the name under which a task may emit `asset`: an alias, since not every run changes rows."""
    return asset.removeprefix("sankofa://")


def changed(table: dict[str, Any]) -> int:
    """Rows of the warehouse that a run has changed in one table."""
    return sum(int(table.get(key) or 0) for key in ("inserted", "updated", "deleted"))


def emit(context: Context, asset: str, tables: dict[str, str], result: dict[str, Any]) -> None:
    """Emit `asset` with its figures where the run changed rows; nothing where it did not.

    `tables` are assets of single tables, by target. A run that was done before emits nothing. Where the
    result had no room for all tables, and none of those it names changed, rows that were moved count.
    """
    if result.get("status") != "ok":
        return
    found = {str(one.get("target")): one for one in result.get("tables") or []}
    total = sum(changed(one) for one in found.values())
    if total == 0 and not (result.get("tables_left_out") and result.get("rows")):
        return
    keys = ("run_id", "pipeline", "rows", "bytes", "duration_ms", "full_refresh", "started_at")
    event = context["outlet_events"][AssetAlias(alias_of(asset))]
    event.add(Asset(asset), extra={**{key: result.get(key) for key in keys}, "changed": total})
    for target, uri in tables.items():
        figures = found.get(target) or {}
        if changed(figures):
            keep = ("inserted", "updated", "deleted", "unchanged", "read")
            event.add(Asset(uri), extra={"run_id": result.get("run_id"), **{key: figures.get(key) for key in keep}})
