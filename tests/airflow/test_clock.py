"""Runs over both changes of the clock: each day once, each hour of the intervals once; no container, no server."""

from __future__ import annotations

import pendulum
import pytest
from airflow.timetables.base import TimeRestriction
from sankofa_airflow.compat import interval_timetable

SPRING, AUTUMN = "2025-03-29", "2025-10-25"
ZONE = "Europe/Berlin"


def core(cron):
    """Return what the scheduler makes of our timetable."""
    table = interval_timetable(cron, ZONE)
    if hasattr(table, "next_dagrun_info"):
        return table
    from airflow.serialization.encoders import coerce_to_core_timetable  # 3.2 and later

    return coerce_to_core_timetable(table)


def intervals(cron, start, count, *, catchup=True):
    """Return the first `count` intervals from midnight of `start` on."""
    table, found = core(cron), []
    since = TimeRestriction(earliest=pendulum.parse(start, tz=ZONE), latest=None, catchup=catchup)
    for _ in range(count):
        run = table.next_dagrun_info(last_automated_data_interval=found[-1] if found else None, restriction=since)
        assert run.run_after == run.data_interval.end
        found.append(run.data_interval)
    return found


def moments(cron, start, count=3):
    return [str(one.end.in_timezone("UTC"))[:16].replace("T", " ") for one in intervals(cron, start, count)]


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@pytest.mark.parametrize("cron", ["0 3 * * *", "30 2 * * *", "0 2 * * *", "30 1 * * *", "0 * * * *", "*/15 * * * *"])
def test_intervals_chain_over_a_change_so_that_a_backfill_reads_each_moment_once(cron, start):
    is_nightly = cron.split()[1] != "*"
    found = intervals(cron, start, 4 if is_nightly else 200)
    for one, other in zip(found, found[1:]):
        assert one.end == other.start and one.start < one.end
    days = [one.end.in_timezone(ZONE).date() for one in found]
    assert not is_nightly or len(set(days)) == len(days), "a day has two runs"


def test_a_nightly_run_in_the_hour_that_is_left_out_comes_after_it_and_in_the_hour_that_comes_twice_once():
    assert moments("30 2 * * *", SPRING) == ["2025-03-30 01:30", "2025-03-31 00:30", "2025-04-01 00:30"]
    assert moments("30 2 * * *", AUTUMN) == ["2025-10-26 01:30", "2025-10-27 01:30", "2025-10-28 01:30"]
    assert moments("0 3 * * *", SPRING) == ["2025-03-30 01:00", "2025-03-31 01:00", "2025-04-01 01:00"]
    assert moments("0 3 * * *", AUTUMN) == ["2025-10-26 02:00", "2025-10-27 02:00", "2025-10-28 02:00"]


def test_an_hourly_run_comes_every_hour_that_passes_whatever_the_clock_says():
    for start, hours in ((SPRING, 23), (AUTUMN, 25)):
        day = pendulum.parse(start, tz=ZONE).add(days=1).date()
        found = intervals("0 * * * *", start, 60)
        assert {(one.end - one.start).total_seconds() for one in found} == {3600}
        assert sum(one.end.in_timezone(ZONE).date() == day for one in found) == hours


def test_without_catchup_only_the_newest_interval_is_made_up_for():
    table = core("30 2 * * *")
    since = TimeRestriction(earliest=pendulum.parse("2020-01-01", tz=ZONE), latest=None, catchup=False)
    first = table.next_dagrun_info(last_automated_data_interval=None, restriction=since)
    assert first.data_interval.end > pendulum.now("UTC").subtract(days=2)
    since = TimeRestriction(earliest=pendulum.parse("2020-02-28", tz=ZONE), latest=None, catchup=True)
    first = table.next_dagrun_info(last_automated_data_interval=None, restriction=since)
    assert str(first.data_interval.end.in_timezone(ZONE))[:10] == "2020-02-29"  # a leap day is a day
