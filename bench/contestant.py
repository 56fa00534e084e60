"""The program under test, in a project of its own.

In:    the release binary, a source and a warehouse, the text of a pipeline.
Out:   runs with wall time and peak memory.
Holds: the environment is empty but for the two connections; a run that fails ends the bench with
       what it said.
Not here: psql (`cluster`).
"""

import json
import os
import subprocess
import tempfile
import time

PROJECT = """\
version: 1
warehouse: {connection: warehouse}
stores: {stage: {directory: stage}}
stage: {store: stage}
"""


class Run:
    """What one run cost: wall seconds, peak resident MiB; its result object."""

    def __init__(self, seconds, mib, result):
        self.seconds, self.mib, self.result = seconds, mib, result

    def __add__(self, other):
        return Run(self.seconds + other.seconds, max(self.mib, other.mib), other.result)


class Sankofa:
    """A project with one pipeline `bench` that fills schema `bench`."""

    def __init__(self, binary, source_uri, warehouse_uri):
        self.binary = binary
        self.folder = tempfile.TemporaryDirectory(prefix="sankofa-bench-project-")
        self.environment = {
            "AIRFLOW_CONN_SOURCE": source_uri + "?sslmode=disable",
            "AIRFLOW_CONN_WAREHOUSE": warehouse_uri + "?sslmode=disable",
        }
        os.mkdir(f"{self.folder.name}/pipelines")
        self._write("sankofa.yaml", PROJECT)

    def _write(self, path, text):
        with open(f"{self.folder.name}/{path}", "w", encoding="utf-8") as file:
            file.write(text)

    def pipeline(self, tables, **settings):
        """Writes the pipeline: `tables` maps names to settings. JSON is YAML."""
        whole = {"source": "source", "schema": "bench", "tables": tables} | settings
        self._write("pipelines/bench.yaml", json.dumps(whole))

    def run(self, command, *args):
        """Runs `sankofa COMMAND bench ARGS`.

        Memory is the kernel's ru_maxrss of the process; it counts the moment before exec too, so no
        figure is below that of this script, about 20 MiB.
        """
        errors = tempfile.TemporaryFile()
        started = time.monotonic()
        process = subprocess.Popen(
            [self.binary, command, "bench", "-q", "--json", *args], cwd=self.folder.name, env=self.environment,
            stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL,
        )
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"bench: sankofa {command} ended with {process.returncode}: {errors.read().decode()}")
        return Run(seconds, usage.ru_maxrss / 1024, json.loads(out))

    def sync(self, *args):
        """extract, validate and load in one."""
        return self.run("sync", *args)

    def steps(self, run_id):
        """extract, validate and load one after the other; the stage is on this machine's disk."""
        return self.run("extract", "--run", run_id) + self.run("validate", "--run", run_id) + self.run("load", "--run", run_id)
