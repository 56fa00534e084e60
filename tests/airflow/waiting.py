"""Waiting for something to be so.

In:    a condition. Out: what it gave, or a failure that names what has not come to pass.
Holds: all tests of Airflow and of the platform wait here, so that none waits for ever and none fails without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(
    what: str,
    condition: Callable[[], Found],
    seconds: float = 180,
    *,
    spares: tuple[type[Exception], ...] = (),
    tells: Callable[[], str] = str,
) -> Found:
    """Wait until `condition` holds; return what it returns. What it raises ends the wait, unless `spares` has it.

    A failure names `what`, with what was spared last and what `tells` returns.
    """
    last, spared = time.monotonic() + seconds, ""
    while time.monotonic() < last:
        try:
            found = condition()
        except spares as error:  # not yet
            found, spared = None, f": {error!r}"
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"it has not come to pass within {seconds:.0f} s: {what}{spared}\n{tells()}".rstrip())
