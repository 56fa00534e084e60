"""What ends mean, what is asked for, what a lock may be: no container, no server."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from sankofa_airflow import lock, order
from sankofa_airflow import settings as all_settings
from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from sankofa_airflow.contract import End, conclude, result_line, result_of
from sankofa_airflow.notify import shape_of, shaped


def step(command="sync", locks=None, **more):
    return order.Step(command, "hr", locks / "hr.lock.json" if locks else None, **more)


def made(context, locks=None, command="sync", **more):
    return order.make(step(command, locks, **more), all_settings.read(), context).arguments


@pytest.mark.parametrize("status", [0, 99, 1, 2, 64, 65, 75, 77, 78, 125, 126, 127, 130, 137, 143, -1, None])
def test_each_status_is_success_skip_retry_or_fail_for_good(context, status):
    own = context()
    result = {"schema": 1, "status": "x"}
    if status == 0:
        assert conclude(own, End("c", 0, result)) == result
        assert own["ti"].pushed == {}
        return
    kind = {99: AirflowSkipException, **dict.fromkeys((2, 64, 65, 77, 78), AirflowFailException)}
    with pytest.raises(kind.get(status, AirflowException)) as raised:
        conclude(own, End("c", status, result))
    assert type(raised.value) is kind.get(status, AirflowException)
    assert own["ti"].pushed["sankofa_result"] == {**result, "exit": status, "cause": ""}


def test_a_status_with_a_cause_from_outside_is_retried_and_named(context):
    for status, cause in ((0, "drained"), (65, "OOM killed"), (None, "lost")):
        with pytest.raises(AirflowException, match=cause) as raised:
            conclude(context(), End("c", status, None, cause))
        assert type(raised.value) is AirflowException


def test_a_refused_check_is_told_with_since_when_and_rows_by_key_in_log_and_alert(context):
    one = {"table": "public.t", "check": "unique(n)", "severity": "fail", "since": "2026-11-21T03:00:00Z", "since_run": "sat"}
    error = {"message": "cannot publish: public.t: unique(n) is 1", "hint": "Mend it."}
    told = {**one, "rows": ["id=1", "id=2"]}
    result = {"schema": 1, "status": "failed", "error": error, "missed": [told, {**one, "accepted_by": "Ama"}]}
    with pytest.raises(AirflowFailException) as raised:
        conclude(context(), End("c", 65, result))
    said = "unique(n) is 1. public.t: unique(n) since 2026-11-21T03:00:00Z (run sat), rows id=1; id=2. Mend it."
    assert str(raised.value).endswith(said)


def test_a_result_of_a_newer_image_is_78_with_the_order_to_upgrade_in(context):
    with pytest.raises(AirflowFailException, match="Upgrade sankofa-airflow first, then the image, then compile"):
        conclude(context(), End("c", 0, {"schema": 2}))


def test_a_result_is_whole_or_none():
    assert result_of('{"a": 1}') == {"a": 1}
    for text in ('{"a": ', "[]", "", None, '{"a": "' + "x" * 70_000 + '"}'):
        assert result_of(text) is None
    text = 'a\nSANKOFA_RESULT {"n": 1}\nSANKOFA_RESULT {"n": 2}\nb\nSANKOFA_RESULT {"n": 3'
    assert result_line(text) == {"n": 2}


def test_the_three_steps_of_a_run_share_its_id_and_other_runs_do_not(context, locks):
    ids = {made(context(one, run="r"), locks, one)[3] for one in ("extract", "validate", "load")}
    assert ids == {"dag/r"}
    assert made(context(run="r", params={"reload": "2"}), locks)[3] == "dag/r/reload 2"
    assert made(context(run="r"), locks, timeout_seconds=7200)[4:6] == ["--deadline", "7200s"]


def test_what_somebody_takes_on_for_a_run_goes_to_every_step_of_it_with_name_and_reason(context, locks):
    taken = {"accept": "public.t: unique(n)\n\n rows.min ", "set_aside": "public.u", "by": "Ama", "reason": "late forms"}
    words = ["--accept", "public.t: unique(n)", "--accept", "rows.min", "--set-aside", "public.u"]
    for one in ("sync", "extract", "validate", "load"):
        assert made(context(params=taken), locks, one)[-10:] == [*words, "--by", "Ama", "--reason", "late forms"]
    assert "--by" not in made(context(params={"by": "Ama", "reason": "x"}), locks)


def test_an_id_that_is_too_long_keeps_its_start_and_stays_different(context):
    long = [order.shortened("ɛ" * 200 + end) for end in ("a", "b")]
    assert all(len(one.encode()) <= 250 for one in long) and long[0] != long[1]
    assert order.shortened("x" * 250) == "x" * 250


def test_copies_of_a_mapped_task_differ_by_table_or_window_or_are_refused(context, locks):
    one = made(context(map_index=0), locks, table="public.employee")
    two = made(context(map_index=1), locks, window=("2026-01-01", "2026-01-02"))
    assert one[3] == "dag/r1/public.employee" and "--table" in one
    assert two[3] == "dag/r1/2026-01-01..2026-01-02" and two[4:] == ["--from", "2026-01-01", "--to", "2026-01-02"]
    with pytest.raises(order.OrderError, match="neither table nor window"):
        made(context(map_index=0), locks)


def test_only_a_backfill_passes_its_interval(context, locks):
    assert "--from" not in made(context(), locks)
    own = context(run_type="backfill")
    words = made(own, locks, table="public.employee")
    assert words[-4:] == ["--from", "2026-01-01T00:00:00+00:00", "--to", "2026-01-02T00:00:00+00:00"]
    assert "--from" not in made(own, locks, "load")


def test_a_backfill_of_tables_without_an_interval_is_refused_before_a_start(context, locks):
    with pytest.raises(order.OrderError, match=r"public.department \(full_refresh\), public.payslip \(append\)"):
        made(context(run_type="backfill"), locks)
    with pytest.raises(order.OrderError, match="this run has no interval"):
        made(context(run_type="backfill", data_interval_start=None), locks, table="public.employee")


def test_drill_and_restore_cannot_be_started_from_a_dag():
    from sankofa_airflow.task import sankofa_task

    for command in ("drill", "restore", "keygen", "config show"):
        with pytest.raises(order.OrderError, match="from a DAG"):
            sankofa_task("t", command)


def test_the_environment_is_the_operators(context, locks, settings):
    settings(environment="dev")
    assert made(context(), locks)[-2:] == ["--env", "dev"]
    assert lock.read_pipeline(locks / "hr.lock.json", "dev").fields["schedule"]["cron"] == "@weekly"
    assert lock.read_pipeline(locks / "records.lock.json", "dev").fields["warehouse_schema"] == "records"


def test_a_pipeline_is_packed_so_that_nothing_on_its_way_fills_in_its_variables(context, locks, tmp_path):
    found = json.loads((locks / "hr.lock.json").read_text())
    found["environments"]["default"]["pipeline"]["description"] = "${NOMAD_JOB_ID}"
    (tmp_path / "hr.lock.json").write_text(json.dumps(found))
    packed = order.make(step(locks=tmp_path), all_settings.read(), context()).environment["SANKOFA_PIPELINE"]
    assert packed.startswith("H4sI") and "$" not in packed


def test_a_pipeline_that_no_environment_can_hold_is_refused_before_a_start(context, locks, tmp_path):
    import random

    found = json.loads((locks / "hr.lock.json").read_text())
    found["environments"]["default"]["pipeline"]["description"] = "".join(
        chr(random.randrange(33, 999)) for _ in range(200_000)
    )
    (tmp_path / "hr.lock.json").write_text(json.dumps(found))
    with pytest.raises(lock.LockError, match="an environment holds"):
        made(context(), tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not JSON"),
        ('{"schema": 1,', "not JSON"),
        ("[]", "no lock of pipeline"),
        ('{"schema": 1, "kind": "backups"}', "no lock of pipeline"),
        ('{"schema": 2, "kind": "pipeline", "name": "hr"}', "Upgrade sankofa-airflow first"),
        (
            '{"schema": 1, "kind": "pipeline", "name": "hr", "fits": {"package": "9.0.0"}}',
            "Upgrade sankofa-airflow first",
        ),
        ('{"schema": 1, "kind": "pipeline", "name": "hr"}', "is not whole"),
        ('{"schema": 1, "kind": "pipeline", "name": "records"}', "lock of records"),
    ],
)
def test_a_lock_that_is_no_whole_lock_of_this_version_says_what_to_do(tmp_path: Path, text: str, word: str):
    (tmp_path / "hr.lock.json").write_text(text)
    with pytest.raises(lock.LockError, match=word):
        lock.read_pipeline(tmp_path / "hr.lock.json", "")


def test_a_setting_that_cannot_be_read_is_told_by_its_key(settings):
    for key, value in (("retries", "many"), ("docker_environment", "[]"), ("launcher", "slurm")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"AIRFLOW__SANKOFA__{key.upper()}", value)
            with pytest.raises(all_settings.SettingsError, match=key):
                all_settings.read()


def test_alerts_have_the_shape_of_their_host():
    message = {"text": "dag.t has failed: x", "url": "http://a/log"}
    assert shape_of("https://hooks.slack.com/services") == "slack" and shape_of("x.logic.azure.com") == "teams"
    assert shaped("slack", message)["text"].startswith(":red_circle: dag.t has failed")
    assert shaped("teams", message)["attachments"][0]["content"]["actions"][0]["url"] == "http://a/log"
    assert shaped("json", message) == {"source": "sankofa", **message}


def test_the_key_of_a_task_instance_is_not_its_try(context):
    def key(**more):
        own = {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1, "try_number": 1, **more}
        return order.key("airflow", SimpleNamespace(**own))

    assert key() == key(try_number=5)
    assert len({key(), key(map_index=0), key(run_id="s"), key(task_id="u"), key(dag_id="e")}) == 5
