"""How a run ended -> what Airflow makes of it.

In:    an `End`: exit status, result object, what the launcher saw.
Out:   the result (XCom), or AirflowSkipException, AirflowFailException (no retry), AirflowException
       (retry).
Holds: DESIGN.md section 1 "Exit status" is `OUTCOMES`; a result is pushed on every end (`return_value`
       on success, `sankofa_result` otherwise); text that goes out is at most `TEXT_LIMIT` long.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from sankofa_airflow.lock import ORDER_OF_UPGRADE

if TYPE_CHECKING:
    from sankofa_airflow.compat import Context

RESULT_SCHEMA = 1
RESULT_BYTES = 64 * 1024
RESULT_PREFIX = "SANKOFA_RESULT "
RESULT_FILE = "/run/sankofa/result.json"
TEXT_LIMIT = 900

SKIPPED = 99
NEVER_RETRY = {2: "bad flag", 64: "bad flag", 65: "data refused", 77: "no permission", 78: "configuration"}
RETRY = {
    1: "unclassified failure",
    75: "temporary",
    125: "the container could not be started",
    126: "the program could not be started",
    127: "the program was not found",
    130: "interrupted",
    137: "killed",
    143: "terminated",
    -1: "lost",
}


@dataclass(frozen=True)
class End:
    """How one container, allocation or pod ended."""

    where: str
    """What ended, such as `container 1f2e3d4c5b6a`."""
    status: int | None
    """Exit status; None where none is known."""
    result: dict[str, Any] | None = None
    """The result object, where one was written."""
    cause: str = ""
    """What the launcher saw where the status does not say it, such as `lost`, `drained`, `OOM killed`."""

    @property
    def is_final(self) -> bool:
        """Whether a next try has nothing to do again: it was done, skipped, or will never go better."""
        return not self.cause and (self.status in (0, SKIPPED) or self.status in NEVER_RETRY)


def result_of(text: str | bytes | None) -> dict[str, Any] | None:
    """Return the result object that `text` is, or None where it is torn, missing or too long."""
    if not text or len(text) > RESULT_BYTES:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def result_line(text: str) -> dict[str, Any] | None:
    """Return the result of the last line in `text` that begins with SANKOFA_RESULT and is whole."""
    lines = [line for line in text.splitlines() if line.startswith(RESULT_PREFIX)]
    for line in reversed(lines):
        found = result_of(line.removeprefix(RESULT_PREFIX))
        if found is not None:
            return found
    return None


def conclude(context: Context, end: End) -> dict[str, Any]:
    """Return the result of a run that went well; raise what Airflow understands for any other.

    Raises AirflowSkipException for 99; AirflowFailException for what no retry can mend;
    AirflowException for the rest. The result is in XCom `sankofa_result` before anything is raised.
    """
    newer = (end.result or {}).get("schema", RESULT_SCHEMA)
    if newer != RESULT_SCHEMA:
        raise AirflowFailException(
            f"cannot read the result: it is of schema {newer}, this package reads {RESULT_SCHEMA}. {ORDER_OF_UPGRADE}"
        )
    if end.status == 0 and not end.cause:
        return end.result or {"schema": RESULT_SCHEMA, "status": "ok", "error": None}
    result = end.result or {"schema": RESULT_SCHEMA, "status": "lost", "error": {"message": words(end)}}
    context["ti"].xcom_push(key="sankofa_result", value={**result, "exit": end.status, "cause": end.cause})
    if end.status == SKIPPED and not end.cause:
        raise AirflowSkipException("nothing to do")
    if end.is_final:
        raise AirflowFailException(words(end))
    raise AirflowException(words(end))


def missed(result: dict[str, Any]) -> list[str]:
    """Say of each check that refused the rows since when, and which rows by key."""
    found = []
    for one in result.get("missed") or []:
        if one.get("severity") != "fail" or one.get("accepted_by"):
            continue
        rows = "; ".join(one.get("rows") or [])
        since = f" since {one['since']} (run {one.get('since_run')})" if one.get("since") else ""
        found.append(f"{one.get('table')}: {one.get('check')}{since}{f', rows {rows}' if rows else ''}")
    return found


def words(end: End) -> str:
    """Say how it ended, in one line: status, cause, and what the binary said of it."""
    error = (end.result or {}).get("error") or {}
    status = "without a status" if end.status is None else f"with {end.status}"
    meaning = "" if end.status is None else NEVER_RETRY.get(end.status) or RETRY.get(end.status, "")
    reasons = ", ".join(word for word in (end.cause, meaning) if word)
    parts = [error.get("message"), *missed(end.result or {}), error.get("hint")]
    told = ". ".join(str(part) for part in parts if part)
    text = f"{end.where} ended {status}{f' ({reasons})' if reasons else ''}{f': {told}' if told else ''}"
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 3] + "..."
