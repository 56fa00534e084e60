"""One pod, as the API server tells of it: made, followed, read, deleted.

In:    a client of the API server, a namespace, a name.
Out:   log lines, how the pod ended.
Holds: a line of the log is written once, whatever was cut in between; an API server that is away is
       waited for, `API_SECONDS`; a pod that cannot start has ended too, and the reason is told.
Not here: which pod (`kubernetes`); what status means what (`contract`).
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kubernetes.client import ApiException
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError, ReadTimeoutError

from sankofa_airflow.compat import AirflowException, AirflowFailException
from sankofa_airflow.contract import End, result_of
from sankofa_airflow.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTAINER = "base"
API_SECONDS = 120  # how long an API server may be away: a restart of it is no failure of the run
START_SECONDS = 900  # how long a pod may wait for a node and its image
GONE_SECONDS = 60  # how long a pod that is being deleted is waited for
WATCH_SECONDS = 30
CLOSED_SECONDS = 5  # how long after its log closed a container that has not ended is asked for more
QUIET_SECONDS = 300  # how long a log may be silent before it is asked for anew
REQUEST_SECONDS = 30
UNREACHABLE = (ApiException, HTTPError, OSError)

NEVER_STARTS = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
"""Why a container waits for what will not come by itself soon: the next try is the retry."""

CAUSES = {
    "OOMKilled": "OOM killed",
    "ContainerCannotRun": "the container could not be started",
    "StartError": "the container could not be started",
}
REFUSED = {400: 78, 401: 77, 403: 77, 404: 78, 422: 78}
"""What no retry mends, of what the API server answers when a pod is made or looked for."""


class Away(AirflowException):
    """The API server does not answer: how the pod fares is not known."""


class Pod:
    """One pod, there or not."""

    def __init__(self, client: Any, namespace: str, name: str, log: Any) -> None:
        self.client, self.namespace, self.name, self.log = client, namespace, name, log
        self.written = ""
        """Time of the last line of the log that was written, as the API server writes it."""

    def read(self) -> Any | None:
        """Return the pod, None where there is none."""
        try:
            return self.client.read_namespaced_pod(self.name, self.namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    def create(self, body: Any) -> bool:
        """Make it; return whether it was not there yet."""
        try:
            self.client.create_namespaced_pod(self.namespace, body, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 409:
                raise
            return False
        return True

    def delete(self, grace_seconds: int = 0) -> None:
        """Delete it; one that is gone already is no failure."""
        try:
            self.client.delete_namespaced_pod(
                self.name, self.namespace, grace_period_seconds=grace_seconds, _request_timeout=REQUEST_SECONDS
            )
        except UNREACHABLE as error:
            if getattr(error, "status", None) != 404:
                self.log.warning("cannot delete pod %s: %s; a later task or its deadline will", self.name, said(error))

    def is_gone(self) -> bool:
        """Wait until it is gone, GONE_SECONDS at most; return whether it is."""
        last = time.monotonic() + GONE_SECONDS
        while self.read() is not None:
            if time.monotonic() > last:
                return False
            time.sleep(0.2)
        return True

    def follow(self) -> End:
        """Stream the log until the pod has ended; return how.

        Raises Away where the API server stays away.
        """
        begun = answered = time.monotonic()
        while True:
            try:
                seen = self.until(has_started, WATCH_SECONDS)
                answered = time.monotonic()
                if not isinstance(seen, End) and has_started(seen):
                    self.stream()
                    seen = self.until(lambda _: False, CLOSED_SECONDS, seen)
                if isinstance(seen, End):
                    self.stream()  # what came after a cut, or while nobody looked
                    return seen
                if not has_started(seen) and time.monotonic() - begun > START_SECONDS:
                    return End(f"pod {self.name}", None, cause=f"not started after {START_SECONDS // 60} min")
            except UNREACHABLE as error:
                if time.monotonic() - answered > API_SECONDS:
                    text = f"the API server does not answer ({said(error)}); a next try adopts what still runs"
                    raise Away(text) from None
                self.log.warning("the API server does not answer (%s): waiting", said(error))
                time.sleep(1)

    def until(self, is_enough: Callable[[Any], bool], seconds: int, known: Any = None) -> Any:
        """Return how the pod ended; the pod itself where `is_enough` of it or `seconds` are over.

        One that is gone may have ended since it was `known`: the changes since then tell how.
        """
        pod = self.read() or known
        for event, found in self.changes(pod, seconds) if pod is not None else ():
            pod = found
            end = end_of(pod) or never_starts(pod)
            if end is not None:
                return end
            if event == "DELETED":
                pod = None
                break
            if is_enough(pod):
                return pod
        return pod or End(f"pod {self.name}", None, cause="lost: somebody has deleted it")

    def changes(self, pod: Any, seconds: int) -> Iterator[tuple[str, Any]]:
        """Yield the pod as it is, then each change of it, for so long."""
        yield "", pod
        watched = Watch().stream(
            self.client.list_namespaced_pod,
            self.namespace,
            field_selector=f"metadata.name={self.name}",
            resource_version=pod.metadata.resource_version,
            timeout_seconds=seconds,
            _request_timeout=(REQUEST_SECONDS, seconds + REQUEST_SECONDS),
        )
        for event in watched:
            if event["object"].metadata.uid == pod.metadata.uid:
                yield event["type"], event["object"]

    def stream(self) -> None:
        """Write the log's lines until it closes, none twice."""
        lines, rest, before = Lines(self.log), b"", self.written
        try:
            answer = self.client.read_namespaced_pod_log(
                self.name, self.namespace, container=CONTAINER, follow=True, timestamps=True, _preload_content=False,
                _request_timeout=(REQUEST_SECONDS, QUIET_SECONDS), **since(self.written),
            )  # fmt: skip
        except ApiException as error:
            if error.status in (400, 404):  # it never started, or is gone
                return
            raise
        try:
            for piece in answer.stream(amt=None, decode_content=False):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    self.write(lines, line, before)
            self.write(lines, rest, before)
        except ReadTimeoutError:
            pass  # nothing was said for QUIET_SECONDS: it is asked for anew
        finally:
            answer.close()

    def write(self, lines: Lines, line: bytes, before: str) -> None:
        """Write one line, unless it is from `before` this stream began."""
        at, _, text = line.decode(errors="replace").partition(" ")
        if at > before:
            self.written = at
            lines.write(text)


def since(written: str) -> dict[str, int]:
    """Return how far back the log is asked for: to a minute before what was `written`, clocks differing."""
    if not written:
        return {}
    zone = "+00:00" if written.endswith("Z") else written[-6:]
    age = time.time() - datetime.fromisoformat(written[:19] + zone).timestamp()
    return {"since_seconds": max(0, int(age)) + 60}


def state_of(pod: Any) -> Any | None:
    """Return the state of the container, None where there is none yet."""
    statuses = pod.status.container_statuses or []
    return next((one.state for one in statuses if one.name == CONTAINER), None)


def has_started(pod: Any) -> bool:
    """Whether the container runs, or has run: there is a log."""
    state = state_of(pod)
    return state is not None and bool(state.running or state.terminated)


def never_starts(pod: Any) -> End | None:
    """Return the reason for which the container will not start, where there is one."""
    state = state_of(pod)
    waiting = state.waiting if state is not None else None
    if waiting is None or waiting.reason not in NEVER_STARTS:
        return None
    return End(f"pod {pod.metadata.name}", None, cause=f"{waiting.reason}: {waiting.message}")


def end_of(pod: Any) -> End | None:
    """Return how a pod ended; None for one that has not."""
    where, reason, state = f"pod {pod.metadata.name}", str(pod.status.reason or ""), state_of(pod)
    ended = state.terminated if state is not None else None
    if ended is not None:
        cause = CAUSES.get(str(ended.reason or ""), "")
        return End(where, int(ended.exit_code), result_of(ended.message), cause or reason)
    if pod.status.phase not in ("Failed", "Succeeded") or (state is not None and state.running):
        return None  # a deadline is told before the container has ended
    return End(where, None, cause=reason or "ended without a status")


def said(error: BaseException) -> str:
    """Return what the API server said, in one line: neither headers nor a body of any length."""
    if not isinstance(error, ApiException):
        return type(error).__name__
    try:
        text = str(json.loads(error.body or "{}").get("message") or error.reason)
    except (ValueError, AttributeError):
        text = str(error.reason)
    return f"{error.status} {text}"[:300]


def refused(error: BaseException, name: str) -> Exception:
    """Return what Airflow is told where the API server did not take a pod: no retry for what none mends."""
    status = getattr(error, "status", None)
    meaning = REFUSED.get(status or 0)
    if meaning is None or "exceeded quota" in said(error):
        return AirflowException(f"cannot start pod {name}: {said(error)}")
    return AirflowFailException(
        f"cannot start pod {name}: {said(error)} ({meaning}). docs/airflow.md lists what the cluster must have and"
        " what Airflow's account must be allowed."
    )
