"""What is measured, and how it is told.

Out:   [`Sizes`] from the environment, [`Figure`]s, markdown.
Holds: a ratio is that of two runs side by side in the same round; the median of the rounds counts.
"""

import math
import os
import statistics
import time


class Sizes:
    """How much is measured. BENCH_SMALL, BENCH_FULL and one variable for each size."""

    def __init__(self):
        small, full = (os.environ.get(name) == "1" for name in ("BENCH_SMALL", "BENCH_FULL"))

        def size(name, usual, little):
            return int(os.environ.get(name) or (little if small else usual))

        self.small = small
        self.rounds = size("BENCH_ROUNDS", 3, 2)
        self.rows = size("BENCH_ROWS", 10_000_000, 100_000)
        self.wide_rows = size("BENCH_WIDE_ROWS", 1_000_000, 10_000)
        self.archive_rows = size("BENCH_ARCHIVE_ROWS", 10_000_000, 100_000)
        self.nights = size("BENCH_NIGHTS", 7, 2)
        self.tables = size("BENCH_TABLES", 300, 20)
        self.blobs = size("BENCH_BLOBS", 300, 20)
        self.large_mib = size("BENCH_LARGE_MIB", 100, 10)
        self.slow_rows = size("BENCH_SLOW_ROWS", 2_000_000, 50_000)
        grown = (1, 3, 10, 30, 50) if full else (1, 3, 10)
        self.growth = [million * (10_000 if small else 1_000_000) for million in grown]


class Figure:
    """One line of the result: measured values against a bound."""

    def __init__(self, what, values, unit, bound=None, note=""):
        self.what, self.values, self.unit, self.bound, self.note = what, values, unit, bound, note

    @property
    def median(self):
        """The middle one."""
        return statistics.median(self.values)

    def verdict(self):
        """Whether the bound is kept, in a word."""
        if self.bound is None:
            return ""
        return "kept" if self.median <= self.bound else "**missed**"

    def row(self):
        """One row of a markdown table."""
        spread = f"{min(self.values):.2f} .. {max(self.values):.2f}" if len(self.values) > 1 else ""
        bound = "" if self.bound is None else f"{self.bound:g}{self.unit}"
        cells = (self.what, f"{self.median:.2f}{self.unit}", spread, bound, self.verdict(), self.note)
        return "| " + " | ".join(cells) + " |"


HEAD = "| what | median | min .. max | bound | | |\n|---|---|---|---|---|---|"


def timed(job, *args):
    """Seconds that `job` takes."""
    started = time.monotonic()
    job(*args)
    return time.monotonic() - started


def ratios(ours, floors):
    """Ratios of the rounds, one by one."""
    return [mine / floor for mine, floor in zip(ours, floors)]


def seconds(values):
    """Median of seconds, for a note."""
    return f"{statistics.median(values):.2f} s"


def exponent(sizes, times):
    """Slope of the line through (log size, log time): 1.0 is linear growth."""
    return statistics.linear_regression(*([math.log(value) for value in values] for values in (sizes, times))).slope
