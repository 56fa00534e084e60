"""A stream of bytes -> log lines.

In:    pieces that may end anywhere, in the middle of a character too. Out: one log record a line.
Holds: nothing is lost, doubled or held back for long: what has no end yet is written at `flush`.
"""

from __future__ import annotations

import codecs
from typing import Any

from sankofa_airflow.contract import RESULT_PREFIX

LINE_LIMIT = 16 * 1024


class Lines:
    """Log lines out of pieces of one stream."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self.rest = ""

    def add(self, piece: bytes) -> None:
        """Take a piece; write the lines that it ends."""
        *lines, self.rest = (self.rest + self.decode(piece)).split("\n")
        for line in lines:
            self.write(line)
        if len(self.rest) > LINE_LIMIT:
            self.write(self.rest)
            self.rest = ""

    def flush(self) -> None:
        """Write what had no end."""
        if self.rest:
            self.write(self.rest)
        self.rest = ""

    def write(self, line: str) -> None:
        """Write one line; results are read elsewhere."""
        if line.strip() and not line.startswith(RESULT_PREFIX):
            self.log.info("%s", line.rstrip())
