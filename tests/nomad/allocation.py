"""One allocation on a client: its tasks in order, what happens to them, what is reported.

In:    the group of a job, a node, a cluster to report to.
Out:   task states and events in the words of Nomad 2.0.5, as shared/data/nomad recorded them.
Holds: every report is a copy of the states at that moment; the cluster shows them in this order.
Not here: placing, evaluations and what servers decide (cluster.py).
"""

import copy
import os
import re
import shutil
import threading
import time

import identity
import template
from task import StartFailure, Task

SECOND = 10**9
EVENT = {
    "Details": {}, "DiskLimit": 0, "DisplayMessage": "", "DownloadError": "", "DriverError": "", "DriverMessage": "",
    "ExitCode": 0, "FailedSibling": "", "FailsTask": False, "GenericSource": "", "KillError": "", "KillReason": "",
    "KillTimeout": 0, "Message": "", "RestartReason": "", "SetupError": "", "Signal": 0, "StartDelay": 0,
    "TaskSignal": "", "TaskSignalReason": "", "Time": 0, "Type": "", "ValidationError": "", "VaultError": "",
}
GONE = "executor: error waiting on process: rpc error: code = Unavailable desc = error reading from server: EOF"


def stamp():
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now / SECOND)) + f".{now % SECOND:09d}Z"


def spoken(ns):
    """A duration as Go prints it: 10m0s."""
    s = ns / SECOND
    if s < 60:
        return f"{s:.9f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(int(s) // 60, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{int(s) % 60}s"


class Allocation:
    def __init__(self, cluster, job, group, node, doc):
        self.cluster, self.job, self.group, self.node, self.doc = cluster, job, group, node, doc
        self.id = doc["ID"]
        self.specs = {t["Name"]: t for t in group["Tasks"]}
        self.states = {n: {"Events": [], "Failed": False, "FinishedAt": None, "LastRestart": None, "Paused": "",
                           "Restarts": 0, "StartedAt": None, "State": "pending"} for n in self.specs}
        self.tasks, self.known, self.readable, self.told, self.collected = {}, False, set(), set(), False
        self.stopping, self.over = threading.Event(), threading.Event()
        self.unhealthy, self.expired, self.lost_executor = threading.Event(), False, False
        self.folder = os.path.join(cluster.folder, "alloc", self.id)
        self.lock = threading.RLock()

    # -- reports ---------------------------------------------------------------------------------

    def event(self, task, kind, text="", details=None, state=None, **fields):
        with self.lock:
            s = self.states[task]
            s["Events"].append({**copy.deepcopy(EVENT), "Type": kind, "DisplayMessage": text,
                                "Details": details or {}, "Time": time.time_ns(), **fields})
            del s["Events"][:-10]
            if state:
                s["State"] = state
        self.report()

    def status(self):
        states = self.states.values()
        if self.expired:
            return "complete", "allocation exceeded max_run_duration"
        if any(s["State"] == "dead" and s["Failed"] for s in states):
            return "failed", "Failed tasks"
        if any(s["State"] == "running" for s in states):
            return "running", "Tasks are running"
        if any(s["State"] == "pending" for s in states):
            return "pending", "No tasks have started"
        return "complete", "All tasks have completed"

    def report(self):
        with self.lock:
            status, text = self.status()
            if status in ("complete", "failed"):
                for s in self.states.values():
                    s["FinishedAt"] = s["FinishedAt"] or stamp()
            self.cluster.client_report(self, status, text, copy.deepcopy(self.states))

    # -- life ------------------------------------------------------------------------------------

    def run(self):
        """The whole life, on a thread of its own."""
        self.cluster.client_knows(self)
        for name in self.specs:
            with self.lock:
                self.states[name]["Events"].append({**copy.deepcopy(EVENT), "Type": "Received", "Time": time.time_ns(),
                                                    "DisplayMessage": "Task received by client"})
        self.report()
        limit = self.group.get("MaxRunDuration")
        if limit:
            threading.Thread(target=self.expire, args=(limit / SECOND,), daemon=True).start()
        hooks = {n: (t.get("Lifecycle") or {}) for n, t in self.specs.items()}
        sidecars = [n for n, h in hooks.items() if h.get("Sidecar")]
        threads = [self.begin(n) for n in sidecars if hooks[n]["Hook"] == "prestart"]
        self.join([self.begin(n) for n, h in hooks.items() if h.get("Hook") == "prestart" and not h.get("Sidecar")])
        mains = [n for n, h in hooks.items() if not h]
        if self.unhealthy.is_set():
            self.never(mains)
        else:
            self.join([self.begin(n) for n in mains])
        for name in sidecars:
            if self.states[name]["State"] == "running" and not self.unhealthy.is_set() and not self.stopping.is_set():
                self.event(name, "Main Tasks Dead", "Main tasks in the group died")
            self.kill(name)
        self.join(threads)
        self.join([self.begin(n, last=True) for n, h in hooks.items() if h.get("Hook") == "poststop"])
        self.over.set()
        self.cluster.client_done(self)

    @staticmethod
    def join(threads):
        for thread in threads:
            thread.join()

    def begin(self, name, last=False):
        thread = threading.Thread(target=self.run_task, args=(name, last), daemon=True)
        thread.start()
        return thread

    def never(self, names):
        """Tasks whose prestart sibling failed never start."""
        for name in names:
            failed = next(n for n, s in self.states.items() if s["Failed"])
            self.event(name, "Sibling Task Failed", f'Task\'s sibling "{failed}" failed', {"failed_sibling": failed},
                       FailedSibling=failed)
            self.killing(name)
            self.finish(name)

    def run_task(self, name, last=False):
        attempt = 0
        self.event(name, "Task Setup", "Building Task Directory", {"message": "Building Task Directory"},
                   Message="Building Task Directory")
        while True:
            if not self.start(name, last):
                return
            code, number, oom, message = self.tasks[name].wait()
            self.cluster.wait_for_agent(self)
            if self.restored(name):
                continue
            if self.lost_executor:
                code, number, oom, message = -1, 0, False, GONE
            self.terminated(name, code, number, oom, message)
            if self.killed(name, last) or code == 0:
                if self.killed(name, last) and not self.lost_executor and not self.expired:
                    self.event(name, "Killed", "Task successfully killed")
                return self.finish(name)
            if not self.restarts(name, attempt):
                return self.finish(name, failed=True)
            attempt += 1

    def killed(self, name, last):
        return not last and (self.stopping.is_set() or name in self.told)

    def restored(self, name):
        """True when an agent found the task gone and starts it once more in the same allocation."""
        if self.tasks[name].unreachable != "machine":
            return False
        self.event(name, "Failed Restoring Task", "failed to restore task; will not run until server is contacted",
                   state="pending")
        time.sleep(self.cluster.pace(2.5))
        return True

    def terminated(self, name, code, number, oom, message):
        text = f"Exit Code: {code}" + (f", Signal: {number}" if number else "") + \
            (f', Exit Message: "{message}"' if message else "")
        details = {"exit_code": str(code), "signal": str(number), "oom_killed": str(oom).lower()}
        if message:
            details["exit_message"] = message
        self.event(name, "Terminated", text, details, ExitCode=code, Signal=number, Message=message)

    def restarts(self, name, attempt):
        """Whether it starts again; waits the delay of the policy first."""
        policy = self.group["RestartPolicy"]
        if attempt >= policy["Attempts"]:
            reason = "Policy allows no restarts" if not policy["Attempts"] else \
                f'Exceeded allowed attempts {attempt} in interval {spoken(policy["Interval"])} and mode is "fail"'
            self.no_restart(name, reason)
            return False
        delay = int(policy["Delay"] * 1.05)
        with self.lock:
            self.states[name]["Restarts"] += 1
            self.states[name]["LastRestart"] = stamp()
        self.event(name, "Restarting", f"Task restarting in {spoken(delay)}",
                   {"restart_reason": "Restart within policy", "start_delay": str(delay)}, state="pending",
                   RestartReason="Restart within policy", StartDelay=delay)
        return not self.stopping.wait(self.cluster.pace(delay / SECOND)) or not self.finish(name)

    def no_restart(self, name, reason):
        with self.lock:
            self.states[name]["Failed"] = True
        self.event(name, "Not Restarting", reason, {"fails_task": "true", "restart_reason": reason}, state="dead",
                   FailsTask=True, RestartReason=reason)

    def finish(self, name, failed=False):
        with self.lock:
            s = self.states[name]
            s["State"], s["FinishedAt"], s["Failed"] = "dead", s["FinishedAt"] or stamp(), s["Failed"] or failed
        if failed:
            self.unhealthy.set()
            for other, state in self.states.items():
                hook = (self.specs[other].get("Lifecycle") or {}).get("Hook")
                if other != name and state["State"] == "running" and hook != "poststop":
                    self.event(other, "Sibling Task Failed", f'Task\'s sibling "{name}" failed',
                               {"failed_sibling": name}, FailedSibling=name)
                    self.kill(other)
        self.report()
        return True

    # -- start -----------------------------------------------------------------------------------

    def start(self, name, last):
        """Starts one task; False when it never will (its state says why)."""
        spec = self.specs[name]
        try:
            task = self.prepared(name, spec)
        except StartFailure as failure:
            return self.not_started(name, failure)
        if not last and self.stopping.wait(self.cluster.pace(self.cluster.start_delay)):
            self.killing(name)
            time.sleep(self.cluster.pace(spec["KillTimeout"] / SECOND))
            self.finish(name)
            return False
        try:
            task.start()
        except StartFailure as failure:
            return self.not_started(name, failure)
        self.cluster.log_readable(self, name)
        with self.lock:
            self.states[name]["StartedAt"] = stamp()
        self.event(name, "Started", "Task started by client", state="running")
        if self.stopping.is_set() and not last:
            threading.Thread(target=self.kill, args=(name,), daemon=True).start()
        return True

    def not_started(self, name, failure):
        field = {"Driver Failure": "DriverError", "Failed Validation": "ValidationError",
                 "Failed Artifact Download": "DownloadError"}.get(failure.kind)
        if failure.kind == "Vault":
            self.event(name, "Killing", "Vault: failed to derive vault token: " + failure.text.removeprefix("vault: "),
                       {"fails_task": "true"}, FailsTask=True)
            self.event(name, "Task hook failed", failure.text, {"message": failure.text}, Message=failure.text)
        elif field:
            key = {"DriverError": "driver_error", "ValidationError": "validation_error"}.get(field, "download_error")
            self.event(name, failure.kind, failure.text, {key: failure.text}, **{field: failure.text})
        else:
            with self.lock:
                self.states[name]["Failed"] = True
            self.event(name, "Killing", failure.text, {"fails_task": "true"}, FailsTask=True)
            self.finish(name, failed=True)
            return False
        self.no_restart(name, "Policy allows no restarts")
        self.finish(name, failed=True)
        return False

    def prepared(self, name, spec):
        if name in self.tasks:
            old, self.tasks[name] = self.tasks[name], None
            task = Task(spec, old.folder, os.path.join(self.folder, "alloc/logs"), old.environment)
            task.logs = old.logs
            self.tasks[name] = task
            return task
        folder = os.path.join(self.folder, name)
        task = self.tasks[name] = Task(spec, folder, os.path.join(self.folder, "alloc/logs"), {})
        task.environment.update(self.environment(name, spec, folder))
        identity.write(self, name, spec, folder, task.environment)
        if spec.get("DispatchPayload") and self.job.get("Payload"):
            with open(os.path.join(folder, "local", spec["DispatchPayload"]["File"]), "wb") as file:
                file.write(self.cluster.payload(self.job))
        for artifact in spec.get("Artifacts") or []:
            self.download(name, artifact["GetterSource"])
        for wanted in spec.get("Templates") or []:
            template.write(self, name, wanted, folder, task)
        for key, value in (spec.get("Env") or {}).items():
            task.environment[key] = task.interpolate(str(value))
        return task

    def download(self, name, source):
        self.event(name, "Downloading Artifacts", "Client is downloading artifacts")
        host = re.sub(r"^\w+://([^/]+)/.*", r"\1", source)
        time.sleep(self.cluster.pace(1))
        raise StartFailure("Failed Artifact Download", f'failed to download artifact "{source}": getter subprocess '
                           f'failed: exit status 1: failed to download artifact: Get "{source}": dial tcp {host}: '
                           "connect: connection refused")

    def environment(self, name, spec, folder):
        job, doc = self.job, self.doc
        result = {
            "NOMAD_JOB_ID": job["ID"], "NOMAD_JOB_NAME": job["Name"], "NOMAD_ALLOC_ID": self.id,
            "NOMAD_SHORT_ALLOC_ID": self.id[:8], "NOMAD_ALLOC_NAME": doc["Name"], "NOMAD_ALLOC_INDEX": "0",
            "NOMAD_GROUP_NAME": self.group["Name"], "NOMAD_TASK_NAME": name, "NOMAD_NAMESPACE": job["Namespace"],
            "NOMAD_REGION": "global", "NOMAD_DC": "dc1", "NOMAD_CPU_LIMIT": str(spec["Resources"]["CPU"]),
            "NOMAD_MEMORY_LIMIT": str(spec["Resources"]["MemoryMB"]),
        }
        inside = spec["Driver"] in ("docker", "exec")
        for key, path in (("TASK_DIR", "local"), ("SECRETS_DIR", "secrets")):
            result[f"NOMAD_{key}"] = f"/{path}" if inside and spec["Driver"] == "docker" else os.path.join(folder, path)
        result["NOMAD_ALLOC_DIR"] = "/alloc" if spec["Driver"] == "docker" else os.path.join(self.folder, "alloc")
        if job.get("ParentID"):
            result["NOMAD_JOB_PARENT_ID"] = job["ParentID"]
        # What was given, and what the parent knows but nobody gave: there, empty.
        meta = {k: "" for k in (job.get("ParameterizedJob") or {}).get("MetaOptional") or []}
        for key, value in {**meta, **(job.get("Meta") or {})}.items():
            value = re.sub(r"\$\{(NOMAD_[A-Z_]+)\}", lambda m: result.get(m[1], m[0]), value)
            result[f"NOMAD_META_{key}"] = result[f"NOMAD_META_{key.upper()}"] = value
        return result

    # -- end -------------------------------------------------------------------------------------

    def killing(self, name, text=None):
        timeout = self.specs[name]["KillTimeout"]
        self.event(name, "Killing", text or f"Sent interrupt. Waiting {spoken(timeout)} before force killing",
                   {"kill_timeout": spoken(timeout)}, KillTimeout=timeout)

    def kill(self, name):
        """Interrupt, the time to tidy, then the end."""
        task = self.tasks.get(name)
        if not task or not task.process or self.states[name]["State"] != "running":
            return
        self.told.add(name)
        self.killing(name, self.expired and "allocation exceeded max_run_duration")
        task.signal(self.specs[name]["KillSignal"] or ("SIGTERM" if task.container else "SIGINT"))
        deadline = time.monotonic() + self.cluster.pace(self.specs[name]["KillTimeout"] / SECOND)
        while task.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        task.close()

    def stop(self):
        """What a client does when servers want the allocation stopped."""
        self.stopping.set()
        for name, spec in self.specs.items():
            if (spec.get("Lifecycle") or {}).get("Hook") != "poststop":
                threading.Thread(target=self.kill, args=(name,), daemon=True).start()

    def expire(self, seconds):
        if not self.over.wait(self.cluster.pace(seconds)):
            self.expired = True
            self.stop()

    def crash(self):
        """The machine died under the agent: every process of it is gone."""
        for task in self.tasks.values():
            if task and task.process and task.process.poll() is None:
                task.unreachable = "machine"
                task.close()

    def remove(self):
        """For the end of the stand-in: no process and no file stays."""
        for task in self.tasks.values():
            if task:
                task.close()
        shutil.rmtree(self.folder, ignore_errors=True)
