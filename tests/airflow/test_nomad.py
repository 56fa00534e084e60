"""SankofaNomadOperator against the stand-in that answers as a real Nomad 2.0.5 did, and its recordings.

The stand-in starts real processes: here a shell that ends as it is asked to, and the real binary.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sankofa_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from sankofa_airflow.nomad_api import Nomad, NomadError, fate
from sankofa_airflow.task import sankofa_task
from waiting import until

CHECKOUT = Path(os.environ["SANKOFA_CHECKOUT"])
sys.path.insert(0, str(CHECKOUT / "tests/nomad"))
RECORDINGS = Path(os.environ.get("SANKOFA_SHARED") or CHECKOUT.parent / "shared") / "data/nomad"

SCRIPT = r"""
echo "begun $NOMAD_META_args" >&2
say() { echo "SANKOFA_RESULT {\"schema\":1,\"status\":\"$1\",\"rows\":7,\"error\":null}"; }
trap 'say cancelled; exit 143' TERM
case "$NOMAD_META_args" in
    *exit-*) code=${NOMAD_META_args##*exit-}; code=${code%%\"*}; say failed; exit "$code" ;;
    *wait*) i=0; while [ $i -lt 600 ] && [ ! -e "$NOMAD_META_pipeline_go" ]; do sleep 0.1; i=$((i+1)); done ;;
    *flood*) i=0; while [ $i -lt 3000 ]; do echo "line $i of a log that is longer than it may be"; i=$((i+1)); done ;;
esac
say ok
"""

JOB = """
job "sankofa-rows" {
  type = "batch"
  parameterized { payload = "forbidden" meta_required = ["args"] meta_optional = ["pipeline"] }
  group "sankofa" {
    restart { attempts = 0 mode = "fail" }
    reschedule { attempts = 0 unlimited = false }
    task "sankofa" {
      driver = "raw_exec"
      kill_timeout = "4s"
      kill_signal = "SIGTERM"
      config { command = "/bin/sh" args = ["-c", %s] }
    }
  }
}
"""


@pytest.fixture
def nomad(settings: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """A stand-in with the parent job; `go` lets tasks that wait go on."""
    from stand_in import StandIn

    one = StandIn()
    one.go = tmp_path / "go"
    script = SCRIPT.replace("$NOMAD_META_pipeline_go", str(one.go)).replace("${", "$${")
    one.control_register(JOB % json.dumps(script))
    host, port = one.url.removeprefix("http://").split(":")
    monkeypatch.setenv(
        "AIRFLOW_CONN_NOMAD_DEFAULT",
        json.dumps({"conn_type": "nomad", "host": host, "port": int(port), "schema": "http"}),
    )
    settings(launcher="nomad")
    yield one
    one.go.touch()
    one.close()


def task(*options: str, **more: Any) -> Any:
    return sankofa_task("t", "sync", "hr", options=options, **more)


def children(nomad: Any) -> list[dict[str, Any]]:
    return Nomad(nomad.url).children("sankofa-rows", "")


def test_a_child_that_went_well_gives_its_result_and_its_log(nomad, context, said):
    result = task().execute(context())
    assert (result["status"], result["rows"]) == ("ok", 7)
    assert 'begun ["sync", "hr", "--run", "dag/r1"' in said()
    assert [one["Stop"] for one in children(nomad)] == [True]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(99, AirflowSkipException), (2, AirflowFailException), (65, AirflowFailException), (77, AirflowFailException),
     (78, AirflowFailException), (1, AirflowException), (75, AirflowException), (127, AirflowException)],
)  # fmt: skip
def test_each_status_of_a_child_is_told_to_airflow(nomad, context, status, kind):
    own = context()
    with pytest.raises(kind) as raised:
        task(f"exit-{status}").execute(own)
    assert type(raised.value) is kind
    assert own["ti"].pushed["sankofa_result"]["exit"] == status


def killed_at_work(nomad: Any, own: Any) -> str:
    child = os.fork()
    if child == 0:
        try:
            task("wait").execute(own)
        finally:
            os._exit(0)
    until("its task runs", lambda: nomad.control_tasks(), 30)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return str(children(nomad)[0]["ID"])


def test_what_a_killed_try_left_running_is_adopted(nomad, context, said):
    child = killed_at_work(nomad, context())
    threading.Timer(1, nomad.go.touch).start()
    assert task("wait").execute(context(attempt=2))["status"] == "ok"
    assert f"child {child} of an earlier try: adopted" in said()
    assert len(children(nomad)) == 1


def test_what_ended_after_its_try_was_killed_is_harvested_once(nomad, context):
    killed_at_work(nomad, context())
    nomad.go.touch()
    until("its task ends", lambda: not nomad.control_tasks(), 30)
    time.sleep(0.5)
    assert task("wait").execute(context(attempt=2))["status"] == "ok"
    assert len(children(nomad)) == 1
    assert task("wait").execute(context(attempt=3))["status"] == "ok"  # cleared: it was taken, so it runs
    assert len(children(nomad)) == 2


def test_what_failed_for_a_time_after_its_try_was_killed_is_run_anew(nomad, context):
    killed_at_work(nomad, context())
    nomad.control_kill(next(iter(nomad.cluster.allocs)))
    until("its task ends", lambda: not nomad.control_tasks(), 30)
    nomad.go.touch()
    time.sleep(0.5)
    assert task("wait").execute(context(attempt=2))["status"] == "ok"
    assert len(children(nomad)) == 2


def test_a_timeout_and_mark_failed_leave_nothing_running(nomad, context):
    class Timeout(BaseException):
        pass

    def ring(*_: Any) -> None:
        raise Timeout

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 2)
    with pytest.raises(Timeout):
        task("wait").execute(context())
    until("its task ends", lambda: not nomad.control_tasks(), 6)
    assert all(one["Stop"] for one in children(nomad))


def test_a_drained_node_is_no_success_and_is_retried(nomad, context):
    threading.Timer(1.5, nomad.control_node, ("drain",), {"seconds": 0}).start()
    with pytest.raises(AirflowException, match="drained") as raised:
        task("wait").execute(context())
    assert type(raised.value) is AirflowException


def test_a_lost_node_is_retried_and_its_replacement_does_not_run_beside_the_next_try(nomad, context):
    nomad.cluster.grace = 0.5
    threading.Timer(1.5, nomad.control_node, ("down",)).start()
    with pytest.raises(AirflowException, match="lost"):
        task("wait").execute(context())
    assert all(one["Stop"] for one in children(nomad))


def test_a_cluster_without_a_leader_and_one_that_refuses_for_a_moment_are_waited_for(nomad, context):
    nomad.control_fail(count=2, status=500, text="rpc error: EOF")
    nomad.control_fail(count=1, status=429, text="too many")
    assert task().execute(context())["status"] == "ok"


def test_a_missing_parent_and_a_missing_right_are_never_retried_and_named(nomad, context, settings):
    settings(nomad_job="sankofa-absent")
    with pytest.raises(AirflowFailException, match="parameterized job not found"):
        task().execute(context())
    settings(nomad_job="sankofa-rows")
    nomad.control_fail(count=1, status=403, text="Permission denied", call="dispatch")
    with pytest.raises(AirflowFailException, match="the token needs"):
        task().execute(context())


def test_the_result_is_found_though_the_log_was_rotated_away(nomad, context):
    assert task("flood").execute(context())["rows"] == 7


def test_a_child_that_finds_no_place_is_given_up_with_the_reason(nomad, context, settings):
    settings(nomad_placement_minutes="0")
    nomad.control_node("ineligible")
    with pytest.raises(AirflowException, match="found no place in time: no node is ready"):
        task().execute(context())
    assert all(one["Stop"] for one in children(nomad))


def test_the_real_binary_runs_as_a_child(nomad, context, school, locks, settings, tmp_path):
    project = tmp_path / "sankofa.yaml"
    project.write_text("version: 1\nwarehouse: {connection: warehouse, reader_role: metabase, after_role: marts}\n")
    variables = {
        "SANKOFA_CONFIG": str(project), "SANKOFA_ARGUMENTS": "$${NOMAD_META_args}", "SANKOFA_RESULT_LINE": "1",
        "SANKOFA_PIPELINE": "$${NOMAD_META_pipeline}", **school.connections(),
    }  # fmt: skip
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in variables.items()).replace("$${", "${")
    binary = os.environ["SANKOFA_BINARY"]
    job = JOB.replace(
        'config { command = "/bin/sh" args = ["-c", %s] }', f'config {{ command = "{binary}" }}\nenv {{\n{lines}\n}}'
    )
    nomad.control_register(job.replace('"sankofa-rows"', '"sankofa-real-rows"'))
    settings(nomad_job="sankofa-real-{class}")
    operator = sankofa_task(
        "t", "sync", "records", lock=locks / "records.lock.json", asset="sankofa://warehouse/records"
    )
    result = operator.execute(context(run="nomad"))
    assert (result["status"], result["run_id"]) == ("ok", "dag/nomad")


def test_the_shipped_parents_take_what_is_dispatched():
    import jobspec
    from sankofa_airflow.nomad import dispatch_body
    from sankofa_airflow.order import CLASSES, Order

    own = dispatch_body(Order("k", 1, ["sync"], {"SANKOFA_PIPELINE": "H4sI"}, "rows", 0))
    for privilege in ("rows", "backup"):
        job = jobspec.parse((CHECKOUT / f"nomad/jobs/sankofa-{privilege}.nomad.hcl").read_text(), {})
        asked = job["ParameterizedJob"]
        taken = {*(asked["MetaRequired"] or []), *(asked["MetaOptional"] or [])}
        assert (
            set(own["Meta"]) <= taken
            and set(asked["MetaRequired"]) <= set(own["Meta"])
            and asked["Payload"] == "forbidden"
        )
        run = next(one for group in job["TaskGroups"] for one in group["Tasks"] if one["Name"] == "sankofa")
        assert run["KillSignal"] == "SIGTERM"
        may = {word.strip() for word in run["Env"]["SANKOFA_COMMANDS"].split(",")}
        assert {command for command, of in CLASSES.items() if of == privilege} <= may


ENDS = {
    "01-ok": (0, ""), "02-exit99": (99, ""), "03-exit65": (65, ""), "04-exit75": (75, ""), "05-sigkill": (137, ""),
    "06a-delete-term143": (143, "stopped: alloc not needed due to job update"),
    "06b-delete-ignore": (137, "stopped: alloc not needed due to job update"),
    "09c-node-drain": (None, "drained: its node was emptied"), "09e-drain-two-nodes": (None, "drained: its node was emptied"),
    "18a-oom-exec": (137, "OOM killed"), "18b-oom-docker": (137, "OOM killed"),
    "26-max-run-duration": (None, "stopped: max_run_duration of the parent job"),
}  # fmt: skip


def allocations_of(name: str) -> list[Any]:
    path = RECORDINGS / f"{name}.jsonl.gz"
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot find {path}")
        pytest.skip(f"!!! NOT TESTED: {path} is missing (set SANKOFA_SHARED)")
    lines = [json.loads(line) for line in gzip.open(path, "rt")]
    found = [
        line["body"] for line in lines if line["request"]["path"].endswith("/allocations") and line["status"] == 200
    ]
    return [one for one in found if isinstance(one, list)]


def task_of(answer: Any) -> str:
    names = [name for one in answer for name in (one.get("TaskStates") or {})]
    return "cli" if "cli" in names or not names else names[0]


@pytest.mark.parametrize("name", ENDS)
def test_a_recorded_end_is_read_as_what_it_was(name):
    answers = allocations_of(name)
    over = [found for found in (fate(one, task_of(one)) for one in answers) if found.is_over]
    assert over, "no answer says that it is over"
    status, cause = ENDS[name]
    assert over[0].cause == cause
    assert status is None or over[0].status == status


def test_no_recorded_end_is_a_success_but_an_exit_with_0_that_nobody_stopped():
    good = set()
    for path in sorted(RECORDINGS.glob("*.jsonl.gz")):
        name = path.name.removesuffix(".jsonl.gz")
        for answer in allocations_of(name):
            found = fate(answer, task_of(answer))
            if found.is_over and found.status == 0 and not found.cause:
                good.add(name)
                newest = max(answer, key=lambda one: one["CreateIndex"])
                assert newest["ClientStatus"] in ("complete", "failed") and newest["DesiredStatus"] == "run"
    assert (
        "01-ok" in good
        and not {"02-exit99", "06a-delete-term143", "07a-driver-missing-binary", "09c-node-drain"} & good
    )


def test_a_refusal_that_may_pass_is_told_from_one_that_will_not():
    passing = [(0, "x"), (429, ""), (500, "No cluster leader"), (500, "rpc error: EOF"),
               (500, "rpc error: failed to get conn: dial tcp: connect: connection refused")]  # fmt: skip
    lasting = [(403, "Permission denied"), (500, "parameterized job not found"), (500, "rpc error: Permission denied"),
               (500, "Dispatch did not provide required meta keys: [args]"), (400, "x")]  # fmt: skip
    assert all(NomadError(*one, "x").is_passing for one in passing)
    assert not any(NomadError(*one, "x").is_passing for one in lasting)
