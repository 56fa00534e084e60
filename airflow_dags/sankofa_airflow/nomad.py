"""Nomad: one task, one dispatched child of the class's parent job, followed to its end.

In:    a task of a DAG; connection `nomad_conn_id`; parent jobs `sankofa-rows`, `sankofa-backup`.
Out:   the result, or what `contract` raises; the child deregistered.
Holds: a child's id carries the task instance's key, so a next try finds it, adopts it while it runs, and
       harvests it once when it has ended; a child that was deregistered counts as taken. Whatever ends
       the task deregisters the child: SIGTERM, then the parent's kill_timeout.
Not here: the API and what its states mean (`nomad_api`).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sankofa_airflow.compat import AirflowException, AirflowFailException, BaseOperator
from sankofa_airflow.contract import RESULT_BYTES, End, result_line, words
from sankofa_airflow.launch import Launch
from sankofa_airflow.lines import Lines
from sankofa_airflow.nomad_api import Fate, NomadError, blocked, fate
from sankofa_airflow.nomad_hook import NomadHook

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from sankofa_airflow.compat import Context
    from sankofa_airflow.nomad_api import Nomad
    from sankofa_airflow.order import Order

PACE_SECONDS = 0.2
STREAMS = ("stderr", "stdout")


class SankofaNomadOperator(Launch, BaseOperator):
    """Run one `sankofa` command as a dispatched child of the parent job of its class.

    XCom: the command's result object, a dict. Exit 99 skips the task; 2, 65, 77 and 78 fail it without
    retry; any other status, a lost node and a drained one are retried. No credential passes through here:
    the child has its workload identity.
    """

    template_fields = (*Launch.step_fields,)
    ui_color = "#d8e8e0"

    def __init__(
        self,
        *,
        command: str,
        subject: str | None = None,
        lock: str | Path | None = None,
        table: str | None = None,
        window: tuple[str, str] | None = None,
        options: tuple[str, ...] = (),
        asset: str | None = None,
        asset_tables: dict[str, str] | None = None,
        timeout: timedelta | None = None,
        **base: Any,
    ) -> None:
        own = {
            "command": command, "subject": subject, "lock": lock, "table": table, "window": window,
            "options": options, "asset": asset, "asset_tables": asset_tables or {}, "timeout": timeout,
        }  # fmt: skip
        super().__init__(**self.set_step(own, base))
        self.child: str | None = None
        self.nomad_client: Nomad | None = None

    @property
    def nomad(self) -> Nomad:
        """The cluster; opened at the first use, which is in `execute`."""
        if self.nomad_client is None:
            self.nomad_client = NomadHook(self.settings.nomad_conn_id).get_conn()
        return self.nomad_client

    def execute(self, context: Context) -> dict[str, Any]:
        """Dispatch or find the child, follow it, deregister it, and say how it ended."""
        order = self.make_order(context)
        parent = self.settings.of_class(self.settings.nomad_job, self.privilege)
        try:
            end = self.harvested(order, parent) or self.follow(self.running(order, parent) or self.start(order, parent))
        except NomadError as error:
            self.on_kill()
            raise (AirflowException if error.is_passing else AirflowFailException)(str(error)) from None
        except BaseException:  # AirflowTaskTimeout is one in 2.11
            self.on_kill()
            raise
        self.on_kill()
        return self.finish(context, end)

    def left(self, order: Order, parent: str) -> list[dict[str, Any]]:
        """Return the children of earlier tries that nobody has taken yet, the oldest first."""
        found = self.nomad.children(parent, f"{order.key}-")
        return sorted((one for one in found if not one.get("Stop")), key=lambda one: one["CreateIndex"])

    def harvested(self, order: Order, parent: str) -> End | None:
        """Return how the child of an earlier try ended, where that is final; deregister any other."""
        for one in self.left(order, parent):
            found = fate(self.nomad.allocations(one["ID"])[0], self.settings.nomad_task)
            if not found.is_over:
                continue
            self.child = one["ID"]
            end = self.end(one["ID"], found)
            self.log.info("an earlier try left a child, which has ended: %s", words(end))
            if end.is_final:
                return end
            self.on_kill()
        return None

    def running(self, order: Order, parent: str) -> str | None:
        """Return the child of an earlier try that still runs or waits: it is adopted."""
        self.child = self.only_one(order, parent)
        if self.child:
            self.log.info("child %s of an earlier try: adopted", self.child)
        return self.child

    def only_one(self, order: Order, parent: str) -> str | None:
        """Return the oldest child that nobody has taken; end the others: a token is not atomic within 20 ms."""
        left = self.left(order, parent)
        for one in left[1:]:
            self.nomad.stop(one["ID"])
        return str(left[0]["ID"]) if left else None

    def start(self, order: Order, parent: str) -> str:
        """Dispatch; a cut request that was carried out gives the same child again."""
        token = f"{order.key}-{order.try_number}-{self.had(order, parent)}"
        self.child = self.nomad.dispatch(parent, token, dispatch_body(order))
        self.child = self.only_one(order, parent) or self.child
        self.log.info("child %s dispatched", self.child)
        return self.child

    def had(self, order: Order, parent: str) -> int:
        """Return how many children this task instance has had: a token of a taken one is not used again."""
        return len(self.nomad.children(parent, f"{order.key}-"))

    def follow(self, child: str) -> End:
        """Stream the logs until the task has ended; return how. Costs a query every 5 s at rest."""
        index, asked = 0, time.monotonic()
        reader = LogReader(self)
        while True:
            allocations, index = self.nomad.allocations(child, index)
            found = fate(allocations, self.settings.nomad_task)
            if found.allocation:
                reader.read(found.allocation)
            if found.is_over:
                reader.finish()
                return self.end(child, found)
            if not allocations:
                self.check_placement(child, time.monotonic() - asked)
            time.sleep(PACE_SECONDS if index else 1)

    def check_placement(self, child: str, waited: float) -> None:
        """Give up a child that finds no place. Raises AirflowException (retry), which says why."""
        if waited < self.settings.nomad_placement_minutes * 60:
            return
        raise AirflowException(f"{child} found no place in time: {blocked(self.nomad.evaluations(child))}")

    def end(self, child: str, found: Fate) -> End:
        """Return how a child ended; its result is the last such line on stdout, wherever rotation has put it."""
        tail = b""
        if found.allocation:
            tail = self.nomad.logs(found.allocation, self.settings.nomad_task, "stdout", RESULT_BYTES, origin="end")
        result = result_line(tail.decode(errors="replace"))
        return End(f"child {child}", found.status, result, found.cause)

    def on_kill(self) -> None:
        """Deregister the child: it is sent SIGTERM, and counts as taken."""
        if self.child is None:
            return
        try:
            self.nomad.stop(self.child)
        except NomadError as error:
            self.log.warning("%s; its own deadline ends %s", error, self.child)


def dispatch_body(order: Order) -> dict[str, Any]:
    """Return the dispatch of `order`: see nomad/ for the parent jobs that take it.

    `args` is the JSON list of words after `sankofa`; `pipeline` is packed, so that it holds no `${`, which
    Nomad would replace.
    """
    meta = {"args": json.dumps(order.arguments), "pipeline": order.environment.get("SANKOFA_PIPELINE", "")}
    return {"Meta": meta, "IdPrefixTemplate": f"{order.key}-{order.try_number}"}


class LogReader:
    """The logs of the allocation that runs, both streams, by byte offset."""

    def __init__(self, operator: SankofaNomadOperator) -> None:
        self.operator = operator
        self.allocation = ""
        self.offsets = dict.fromkeys(STREAMS, 0)
        self.lines = {stream: Lines(operator.log) for stream in STREAMS}

    def read(self, allocation: str) -> None:
        """Write what is new; of a new allocation everything."""
        if allocation != self.allocation:
            self.finish()
            self.allocation = allocation
            self.offsets = dict.fromkeys(STREAMS, 0)
        for stream in STREAMS:
            piece = self.operator.nomad.logs(
                allocation, self.operator.settings.nomad_task, stream, self.offsets[stream]
            )
            self.offsets[stream] += len(piece)
            self.lines[stream].add(piece)

    def finish(self) -> None:
        """Write what had no end."""
        for lines in self.lines.values():
            lines.flush()
