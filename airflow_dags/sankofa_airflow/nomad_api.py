"""Nomad's HTTP API: the seven calls that the operator needs, and what their answers mean.

In:    an address and an ACL token (namespace capabilities list-jobs, dispatch-job, read-job, read-logs,
       and submit-job or deregister-job to stop a child).
Out:   plain dictionaries, as Nomad 2.0 sends them; `fate`, which reads them.
Holds: what may get better (no leader, 429, no connection) is tried again for PATIENCE_SECONDS; a refusal
       is told with the capability it lacks. Facts: ../../shared data of recordings, see docs/airflow.md.
Not here: what is dispatched (`nomad`).
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

PATIENCE_SECONDS = 180
CONNECT_SECONDS = 5
READ_SECONDS = 30
"""A client agent without servers answers never (15c): more than a blocking query's 5.3 s is enough."""


class NomadError(Exception):
    """An answer that is no success, or none: `status` 0."""

    def __init__(self, status: int, text: str, what: str) -> None:
        super().__init__(f"cannot {what}: {text.strip()[:300]} ({status or 'no answer'})")
        self.status = status
        self.text = text

    @property
    def is_passing(self) -> bool:
        """Whether a later try may go better."""
        passing = ("No cluster leader", "rpc error", "EOF", "connection refused", "No path to node")
        return self.status in (0, 429, 502, 503, 504) or (
            self.status == 500 and any(word in self.text for word in passing) and "Permission denied" not in self.text
        )


CAPABILITY = {
    "list jobs": "list-jobs",
    "dispatch": "dispatch-job",
    "read allocations": "read-job",
    "read evaluations": "read-job",
    "read logs": "read-logs",
    "stop": "submit-job or deregister-job",
}


class Nomad:
    """One cluster, as one token sees it."""

    def __init__(self, address: str, token: str = "", extra: dict[str, Any] | None = None) -> None:
        extra = extra or {}
        self.address = address.rstrip("/")
        self.session = requests.Session()
        if token:
            self.session.headers["X-Nomad-Token"] = token
        self.session.verify = extra.get("ca_cert") or True
        self.session.params = {key: extra[key] for key in ("namespace", "region") if extra.get(key)}

    def children(self, parent: str, prefix: str) -> list[dict[str, Any]]:
        """Return the dispatched children of `parent` whose id goes on with `prefix`."""
        found: list[dict[str, Any]] = self.json(
            "list jobs", "GET", "/v1/jobs", {"prefix": f"{parent}/dispatch-{prefix}"}
        )
        return found

    def dispatch(self, parent: str, token: str, body: dict[str, Any]) -> str:
        """Dispatch a child; a repeat with the same token gives the same child. Returns its id."""
        path = f"/v1/job/{quote(parent, safe='')}/dispatch"
        answer = self.json("dispatch", "POST", path, {"idempotency_token": token}, body)
        return str(answer["DispatchedJobID"])

    def allocations(self, child: str, index: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Return a child's allocations and the index to wait from; waits up to 5 s where `index` is given.

        The index of an empty cluster is 0, which does not wait: the caller paces itself.
        """
        query = {"index": str(index), "wait": "5s"} if index else {}
        answer = self.call("read allocations", "GET", self.path_of(child, "/allocations"), query)
        return answer.json() or [], int(answer.headers.get("X-Nomad-Index") or 0)

    def evaluations(self, child: str) -> list[dict[str, Any]]:
        """Return a child's evaluations: why it is not placed."""
        found: list[dict[str, Any]] = self.json("read evaluations", "GET", self.path_of(child, "/evaluations"), {})
        return found or []

    def logs(self, allocation: str, task: str, stream: str, offset: int, origin: str = "start") -> bytes:
        """Return a task's log from byte `offset`; nothing where there is none yet or no more."""
        query = {"task": task, "type": stream, "origin": origin, "offset": str(offset), "plain": "true"}
        try:
            return self.call("read logs", "GET", f"/v1/client/fs/logs/{allocation}", query).content
        except NomadError as error:
            if error.status == 404 or error.is_passing:
                return b""
            raise

    def stop(self, child: str) -> None:
        """Deregister a child: it is sent its kill_signal; it stays readable until Nomad collects it."""
        self.json("stop", "DELETE", self.path_of(child, ""), {"purge": "false"})

    @staticmethod
    def path_of(child: str, rest: str) -> str:
        """Return the path of a child: its id has a slash."""
        return f"/v1/job/{quote(child, safe='')}{rest}"

    def json(self, what: str, method: str, path: str, query: dict[str, str], body: Any = None) -> Any:
        """As `call`, for an answer in JSON."""
        return self.call(what, method, path, query, body).json()

    def call(self, what: str, method: str, path: str, query: dict[str, str], body: Any = None) -> requests.Response:
        """Ask; ask again while the refusal may pass. Raises NomadError."""
        last, wait = time.monotonic() + PATIENCE_SECONDS, 0.25
        while True:
            try:
                return self.once(what, method, path, query, body)
            except NomadError as error:
                if not error.is_passing or what == "read logs" or time.monotonic() + wait > last:
                    raise
                time.sleep(wait)
                wait = min(wait * 2, 5)

    def once(self, what: str, method: str, path: str, query: dict[str, str], body: Any) -> requests.Response:
        """Ask once."""
        limits = (CONNECT_SECONDS, READ_SECONDS)
        try:
            answer = self.session.request(method, self.address + path, params=query, json=body, timeout=limits)
        except requests.RequestException as error:
            raise NomadError(0, type(error).__name__, f"{what} at Nomad") from None
        if answer.status_code == 403:
            raise NomadError(403, f"{answer.text}; the token needs {CAPABILITY[what]}", f"{what} at Nomad")
        if answer.status_code != 200:
            raise NomadError(answer.status_code, answer.text, f"{what} at Nomad")
        return answer


def payload(text: str) -> str:
    """Return `text` as a dispatch wants it."""
    return base64.b64encode(text.encode()).decode()


@dataclass(frozen=True)
class Fate:
    """What the allocations of a child say of its task."""

    is_over: bool = False
    status: int | None = None
    cause: str = ""
    allocation: str = ""


def fate(allocations: list[dict[str, Any]], task: str) -> Fate:
    """Read the state of a child's task out of its allocations.

    `complete` is no success: only a Terminated event with exit code 0 is, of an allocation that was to
    run. Allocations are sorted by id, so the newest is that of the largest CreateIndex.
    """
    if not allocations:
        return Fate()
    newest = max(allocations, key=lambda one: one["CreateIndex"])
    state = (newest.get("TaskStates") or {}).get(task) or {}
    status = newest["ClientStatus"]
    if any(one["ClientStatus"] == "lost" for one in allocations):
        return Fate(True, None, "lost: its node does not answer", newest["ID"])
    is_out_of_time = "max_run_duration" in str(newest.get("ClientDescription"))  # told while the task still ends
    if status not in ("complete", "failed") or (state.get("State", "dead") != "dead" and not is_out_of_time):
        return Fate(allocation=newest["ID"])
    return ended(newest, state)


def ended(allocation: dict[str, Any], state: dict[str, Any]) -> Fate:
    """Read how a task ended."""
    events = state.get("Events") or []
    last = next((event for event in reversed(events) if event["Type"] == "Terminated"), None)
    cause = stopped_by(allocation)
    if last is None:
        told = [str(event.get("DisplayMessage") or event["Type"]) for event in events if event["Type"] not in QUIET]
        return Fate(True, None, cause or "; ".join(["never started", *told[-3:]]), allocation["ID"])
    details = last.get("Details") or {}
    status = int(details.get("exit_code", last.get("ExitCode", -1)))
    if details.get("oom_killed") == "true":
        cause = "OOM killed"
    if status == -1:
        cause = cause or "lost: its node was away when it ended"
    return Fate(True, status, cause, allocation["ID"])


QUIET = ("Received", "Task Setup", "Downloading Artifacts", "Building Task Directory", "Not Restarting")


def stopped_by(allocation: dict[str, Any]) -> str:
    """Return what ended an allocation from outside; nothing where it ended by itself."""
    if "max_run_duration" in str(allocation.get("ClientDescription")):
        return "stopped: max_run_duration of the parent job"
    if allocation.get("DesiredStatus") == "run":
        return ""
    described = str(allocation.get("DesiredDescription") or "")
    if "migrated" in described:
        return "drained: its node was emptied"
    return f"stopped: {described or allocation.get('DesiredStatus')}"


def blocked(evaluations: list[dict[str, Any]]) -> str:
    """Say why no allocation was placed, from the evaluations."""
    for one in evaluations:
        for group in (one.get("FailedTGAllocs") or {}).values():
            reasons = {**(group.get("ConstraintFiltered") or {}), **(group.get("DimensionExhausted") or {})}
            if reasons:
                return ", ".join(sorted(reasons))
            return f"{group.get('NodesEvaluated', 0)} nodes fit" if group.get("NodesEvaluated") else "no node is ready"
    return "no evaluation says why"
