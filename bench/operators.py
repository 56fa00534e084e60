"""Inside an Airflow's Python: our Docker operator beside the stock one, and what parsing a DAG file costs.

In:    a JSON object on stdin: image, docker_url, variables and mounts of the containers, a lock, locks, the DAG file, rounds.
Out:   one on stdout: milliseconds and seconds of each round, by contestant.
Holds: contestants take turns; both start the same image with the same words; a run's own time, which its result tells,
       is left out of both.
Not here: what is made of the figures (`launches`).
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

FLOOR = """
from airflow.models import DagBag
from airflow.providers.docker.operators.docker import DockerOperator
"""
PARSED = """
import runpy, sys
found = runpy.run_path(sys.argv[1])
assert sum(len(one.tasks) for one in found.values() if hasattr(one, "tasks")) == 600
"""


def context(run):
    """What an operator is told of its task instance."""
    ti = SimpleNamespace(dag_id="bench", task_id="t", run_id=run, map_index=-1, try_number=1, xcom_push=lambda *_, **__: None)
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return {"ti": ti, "task_instance": ti, "run_id": run, "dag": SimpleNamespace(dag_id="bench"), "params": {},
            "dag_run": SimpleNamespace(run_type="scheduled", dag_id="bench", run_id=run),
            "data_interval_start": now, "data_interval_end": now, "outlet_events": {}}  # fmt: skip


def around(execute, result_of):
    """Milliseconds that are spent around a run: those of `execute` without the run's own."""
    started = time.monotonic()
    done = execute()
    took = (time.monotonic() - started) * 1000
    return took - result_of(done)["duration_ms"]


def ours(asked, run):
    """One run by our operator."""
    from sankofa_airflow.task import sankofa_task

    task = sankofa_task("t", "sync", "bench", lock=asked["lock"])
    return around(lambda: task.execute(context(run)), lambda result: result)


def stock(asked, run):
    """The same run by the stock operator, which removes its container too."""
    from airflow.providers.docker.operators.docker import DockerOperator
    from sankofa_airflow import lock, order

    section = lock.read_pipeline(Path(asked["lock"]), "")
    task = DockerOperator(
        task_id="t", image=asked["image"], docker_url=asked["docker_url"], network_mode="host", auto_remove="success",
        mount_tmp_dir=False, mounts=asked["mounts"], xcom_all=True, command=["sync", "bench", "--run", f"bench/{run}"],
        environment={**asked["variables"], **order.variables(section)},
    )  # fmt: skip
    return around(lambda: task.execute(context(run)), lambda lines: next(json.loads(one) for one in lines if one.startswith('{"schema"')))


def parsed(asked, more):
    """Seconds of a new Python that imports Airflow and the stock operator, and of one that runs the DAG file too."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", FLOOR + more, asked["dag_file"]], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "AIRFLOW__SANKOFA__LOCKS": asked["locks"]})  # fmt: skip
    return time.monotonic() - started


def main():
    """Measure what was asked for."""
    asked = json.load(sys.stdin)
    settings = {"launcher": "docker", "image": asked["image"], "docker_url": asked["docker_url"], "docker_network": "host",
                "docker_environment": json.dumps(asked["variables"]), "docker_mounts": json.dumps(asked["mounts"])}  # fmt: skip
    os.environ.update({f"AIRFLOW__SANKOFA__{name.upper()}": text for name, text in settings.items()})
    told, sys.stdout = sys.stdout, sys.stderr  # operators print what containers say
    took = {"ours": [], "stock": [], "floor": [], "parsed": []}
    for number in range(-1, asked["rounds"]):  # the first one warms up
        found = {"ours": ours(asked, f"ours_{number}"), "stock": stock(asked, f"stock_{number}"),
                 "floor": parsed(asked, ""), "parsed": parsed(asked, PARSED)}  # fmt: skip
        for name, value in found.items() if number >= 0 else ():
            took[name].append(value)
    json.dump(took, told)


if __name__ == "__main__":
    main()
