"""What Nomad's servers know and decide: jobs, evaluations, allocations, nodes.

In:    dispatches, deregistrations, what clients report, what happens to nodes and agents.
Out:   documents as the HTTP API shows them, with indexes that wake blocking queries.
Holds: whatever becomes visible does so in one place (`publish`); behind a gate (tests) it waits for `step`.
Not here: HTTP (api.py), processes (allocation.py, task.py).
"""

import base64
import collections
import copy
import os
import threading
import time
import uuid

from allocation import Allocation

PLAN = {k: 0 for k in ("Canary", "DestructiveUpdate", "Disconnect", "Ignore", "InPlaceUpdate", "Migrate", "Place",
                       "Preemptions", "Reconnect", "RescheduleLater", "RescheduleNow", "Stop")}
UNWANTED = "alloc not needed due to job update"
LOST = "alloc is lost since its node is down"


class Refused(Exception):
    """An answer that is an error: status and plain text."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


class Node:
    def __init__(self, name, drivers=("raw_exec", "exec"), memory=8000):
        self.id, self.name, self.drivers, self.memory = str(uuid.uuid4()), name, set(drivers), memory
        self.up, self.eligible, self.meta, self.seen_down = True, True, {}, False


class Cluster:
    """`pace(seconds)` is how long Nomad's own timers take here: real time, or shorter in tests."""

    def __init__(self, folder, nodes=("vm",), speed=1.0, vault=None, drivers=("raw_exec", "exec")):
        self.folder, self.speed, self.vault = folder, speed, vault
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.index, self.tables = 9, collections.Counter()
        self.jobs, self.evals, self.allocs, self.variables = {}, {}, {}, {}
        self.namespaces = {"default"}
        self.nodes = {n.id: n for n in (Node(name, drivers) for name in nodes)}
        self.gate, self.agent_up = None, threading.Event()
        self.agent_up.set()
        self.start_delay, self.token_window, self.grace = 0.1, 0.012, 6.0
        self.closed = threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    def pace(self, seconds):
        return seconds / self.speed

    # -- what becomes visible ----------------------------------------------------------------------

    def publish(self, change, after=0.0):
        """Runs a change under the lock, now or after some time, or at the next `step` behind a gate."""
        if self.gate is not None:
            with self.lock:
                self.gate.append(change)
                self.changed.notify_all()
        elif after:
            threading.Timer(after, self._apply, (change,)).start()
        else:
            self._apply(change)

    def _apply(self, change):
        with self.lock:
            change()
            self.changed.notify_all()

    def step(self, timeout):
        """Lets one waiting change through the gate; False when none came in time."""
        with self.lock:
            if not self.changed.wait_for(lambda: self.gate, timeout):
                return False
            self._apply(self.gate.popleft())
            return True

    def touch(self, table, doc, create=False, again=False):
        """Gives a document the next index (or the same one as the change before)."""
        if not again:
            self.index += 1
        doc["ModifyIndex"] = self.tables[table] = self.index
        if create:
            doc["CreateIndex"] = self.index
        if table == "allocs":
            doc["ModifyTime"] = time.time_ns()
        return self.index

    def _tick(self):
        """Clients send what changed five times a second."""
        while not self.closed.wait(self.pace(0.2)):
            with self.lock:
                for allocation in list(self.allocs.values()):
                    if getattr(allocation, "waiting", None) and self.reachable(allocation):
                        report, allocation.waiting = allocation.waiting, None
                        self.publish(lambda a=allocation, r=report: self._reported(a, *r))

    def reachable(self, allocation):
        return allocation.node.up and self.agent_up.is_set()

    # -- what clients say ----------------------------------------------------------------------------

    def client_report(self, allocation, *report):
        with self.lock:
            if self.gate is None or not self.reachable(allocation):
                allocation.waiting = report
            else:
                self.publish(lambda: self._reported(allocation, *report))

    def _reported(self, allocation, status, text, states):
        doc = allocation.doc
        before = doc["ClientStatus"]
        doc.update(ClientStatus=status, ClientDescription=text, TaskStates=states)
        self.touch("allocs", doc)
        self.settle(allocation.job)
        if status == "failed" and before != "failed":
            self.failed(allocation)

    def client_knows(self, allocation):
        time.sleep(0.004)
        self.publish(lambda: setattr(allocation, "known", True))
        time.sleep(0.01)

    def log_readable(self, allocation, task):
        self.publish(lambda: allocation.readable.add(task))

    def client_done(self, allocation):
        pass

    def wait_for_agent(self, allocation):
        """An end that happens while no agent runs is seen late, and its time is not the real one."""
        if not self.agent_up.is_set():
            self.agent_up.wait()
            time.sleep(self.pace(self.reconnect_delay if not allocation.lost_executor else 1))

    reconnect_delay = 5.0

    # -- jobs ------------------------------------------------------------------------------------------

    def register(self, spec):
        """A job as `POST /v1/jobs` takes it."""
        with self.lock:
            known = self.jobs.get((spec.get("Namespace") or "default", spec["ID"]))
            job = {"AllAtOnce": False, "Affinities": None, "Constraints": None, "ConsulNamespace": "",
                   "DispatchIdempotencyToken": "", "Dispatched": False, "Meta": None, "Multiregion": None,
                   "NodePool": "default", "NomadTokenID": "", "ParentID": "", "Payload": None, "Region": "global",
                   "Spreads": None, "Stable": False, "Status": "running", "StatusDescription": "", "Stop": False,
                   "UI": None, "Update": None, "VaultNamespace": "", "VersionTag": None, "ParameterizedJob": None,
                   "Periodic": None, **copy.deepcopy(spec)}
            for gone in ("Migrate", "Reschedule"):  # taken, never shown
                job.pop(gone, None)
            job.update(Datacenters=spec.get("Datacenters") or ["*"], Namespace=spec.get("Namespace") or "default",
                       Priority=spec.get("Priority") or 50, SubmitTime=time.time_ns(), NodePool="default",
                       Version=known["Version"] + 1 if known else 0, Stop=False, DispatchIdempotencyToken="")
            index = self.touch("jobs", job, create=not known)
            job["CreateIndex"] = known["CreateIndex"] if known else index
            job["JobModifyIndex"] = index
            self.jobs[job["Namespace"], job["ID"]] = job
            job["Status"] = "running" if job["ParameterizedJob"] or job["Periodic"] else "pending"
            self.changed.notify_all()
            evaluation = None
            if job["Status"] == "pending":
                evaluation = self.evaluate(job, "job-register", again=True)
            return index, evaluation

    @staticmethod
    def payload(job):
        return base64.b64decode(job["Payload"] or "")

    def dispatch(self, namespace, name, body, token):
        """The answer to a dispatch. Not atomic: the same new token twice within `token_window` is answered with two
        names, of which one child exists and the other never will."""
        token = token or body.get("IdempotencyToken") or ""
        with self.lock:
            parent = self.jobs.get((namespace, name))
            self.may_dispatch(parent, name, body)
            found = token and self.child_by_token(namespace, name, token)
        if found:
            return {"DispatchedJobID": found["ID"], "EvalCreateIndex": 0, "EvalID": "",
                    "Index": self.index, "JobCreateIndex": found["CreateIndex"]}
        time.sleep(self.token_window)
        prefix = body.get("IdPrefixTemplate") or ""
        child_id = f"{name}/dispatch-{prefix + '-' if prefix else ''}{int(time.time())}-{uuid.uuid4().hex[:8]}"
        with self.lock:
            if token and self.child_by_token(namespace, name, token):
                self.index += 1
                return {"DispatchedJobID": child_id, "EvalCreateIndex": self.index, "EvalID": str(uuid.uuid4()),
                        "Index": self.index, "JobCreateIndex": self.index}
            child = {**copy.deepcopy(parent), "ID": child_id, "Name": child_id, "ParentID": name, "Dispatched": True,
                     "DispatchIdempotencyToken": token, "Meta": body.get("Meta") or None, "Version": 0,
                     "Payload": body.get("Payload") or None, "Priority": body.get("Priority") or parent["Priority"],
                     "SubmitTime": time.time_ns(), "Status": "pending", "Stop": False}
            child["Meta"] = {**(parent["Meta"] or {}), **(body.get("Meta") or {})} or None
            self.touch("jobs", child, create=True)
            child["JobModifyIndex"] = self.index
            self.jobs[namespace, child_id] = child
            evaluation = self.evaluate(child, "job-register", again=True)
            return {"DispatchedJobID": child_id, "EvalCreateIndex": self.index, "EvalID": evaluation["ID"],
                    "Index": self.index, "JobCreateIndex": self.index}

    def child_by_token(self, namespace, parent, token):
        return next((j for (n, _), j in self.jobs.items() if n == namespace and j["ParentID"] == parent
                     and j["DispatchIdempotencyToken"] == token), None)

    def may_dispatch(self, parent, name, body):
        if parent is None:
            raise Refused(500, "parameterized job not found")
        wanted = parent["ParameterizedJob"]
        if wanted is None or parent["Dispatched"]:
            raise Refused(500, f'Specified job "{name}" is not a parameterized job')
        if parent["Stop"]:
            raise Refused(500, f'Specified job "{name}" is stopped')
        priority = body.get("Priority") or 0
        if priority and not 1 <= priority <= 100:
            raise Refused(500, "dispatch job priority must be between [1, 100]")
        payload = base64.b64decode(body.get("Payload") or "")
        if payload and wanted["Payload"] == "forbidden":
            raise Refused(500, "Payload provided but forbidden by parameterized job")
        if not payload and wanted["Payload"] == "required":
            raise Refused(500, "Payload is not provided but required by parameterized job")
        if len(payload) > 16384:
            raise Refused(500, f"Payload exceeds maximum size; {len(payload)} > 16384")
        meta, required = body.get("Meta") or {}, wanted["MetaRequired"] or []
        missing = [k for k in required if k not in meta]
        if missing:
            raise Refused(500, f"Dispatch did not provide required meta keys: [{' '.join(missing)}]")
        unknown = sorted(set(meta) - set(required) - set(wanted["MetaOptional"] or []))
        if unknown:
            raise Refused(500, f"Dispatch request included unpermitted metadata keys: [{' '.join(unknown)}]")

    def deregister(self, namespace, name, purge):
        """The answer to DELETE: at once, also for jobs that nobody knows."""
        answer = {"EvalCreateIndex": 0, "EvalID": "", "Index": 0, "JobModifyIndex": 0, "KnownLeader": False,
                  "LastContact": 0, "NextToken": "", "VolumeEvalID": "", "VolumeEvalIndex": 0}
        with self.lock:
            job = self.jobs.get((namespace, name))
            if job is None:
                return answer
            if purge:
                del self.jobs[namespace, name]
                self.index += 1
                self.tables["jobs"] = self.index
            else:
                self.touch("jobs", job)
                job.update(Stop=True, JobModifyIndex=self.index, Version=job["Version"] + 1,
                           SubmitTime=time.time_ns())
            if job["Periodic"] or (job["ParameterizedJob"] and not job["Dispatched"]):
                job["Status"] = "dead" if not purge else job["Status"]
                self.changed.notify_all()
                return {**answer, "EvalCreateIndex": self.index, "Index": self.index, "JobModifyIndex": self.index}
            job["purged"] = purge
            if purge:  # clients throw the allocation away a moment later, whether its task has ended or not
                threading.Timer(0.3, job.__setitem__, ("logs_gone", True)).start()
            evaluation = self.evaluate(job, "job-deregister", kind="service", again=True)
            return {**answer, "EvalCreateIndex": self.index, "EvalID": evaluation["ID"], "Index": self.index,
                    "JobModifyIndex": self.index}

    def force(self, namespace, name):
        """The answer to a forced periodic run: no child id in it; overlap is not looked at."""
        with self.lock:
            job = self.jobs.get((namespace, name))
            if job is None:
                raise Refused(500, "job not found")
            if not job["Periodic"]:
                raise Refused(500, "can't force launch non-periodic job")
            if job["Stop"]:
                raise Refused(500, f'force launch for job "{name}" failed: can\'t force run non-tracked job '
                              f'"{name}" ({namespace})')
            child_id = f"{name}/periodic-{int(time.time())}"
            child = self.jobs.get((namespace, child_id))
            if not child:
                child = {**copy.deepcopy(job), "ID": child_id, "Name": child_id, "ParentID": name, "Periodic": None,
                         "Version": 0, "Status": "pending", "SubmitTime": time.time_ns()}
                self.touch("jobs", child, create=True)
                self.jobs[namespace, child_id] = child
            else:
                self.touch("jobs", child)
            child["JobModifyIndex"] = self.index
            evaluation = self.evaluate(child, "periodic-job")
            return {"EvalCreateIndex": self.index, "EvalID": evaluation["ID"], "Index": self.index}

    def status(self, job):
        """Pending, running or dead, as servers work it out: dead while a stopped task still tidies."""
        if (job["ParameterizedJob"] and not job["Dispatched"]) or job["Periodic"]:
            return "dead" if job["Stop"] else "running"
        allocations = [a for a in self.allocs.values() if a.job is job]
        if any(not self.terminal(a.doc) for a in allocations):
            return "running"
        evaluations = [e for e in self.evals.values() if e["JobID"] == job["ID"] and e["Namespace"] == job["Namespace"]]
        if any(e["Status"] in ("pending", "blocked") for e in evaluations):
            return "pending"
        return "dead" if allocations or evaluations else "pending"

    @staticmethod
    def terminal(doc):
        return doc["DesiredStatus"] != "run" or doc["ClientStatus"] in ("complete", "failed", "lost")

    def settle(self, job):
        now = self.status(job)
        if now != job["Status"]:
            job["Status"] = now
            self.touch("jobs", job, again=True)

    # -- evaluations -------------------------------------------------------------------------------------

    def evaluate(self, job, trigger, kind=None, again=False, wait=0.003, **fields):
        """A new evaluation, and its work a moment later."""
        now = time.time_ns()
        doc = {"ID": str(uuid.uuid4()), "JobID": job["ID"], "JobModifyIndex": job["JobModifyIndex"],
               "Namespace": job["Namespace"], "Priority": job["Priority"], "Status": "pending", "TriggeredBy": trigger,
               "Type": kind or job["Type"], "CreateTime": now, "ModifyTime": now, **fields}
        if trigger in ("node-drain", "node-update", "alloc-failure", "alloc-stop"):
            del doc["JobModifyIndex"]  # made by servers themselves, not by a change of the job
        self.touch("evals", doc, create=True, again=again)
        self.evals[doc["ID"]] = doc
        self.settle(job)
        self.changed.notify_all()
        if wait is not None:
            self.publish(lambda: self.process(job, doc), after=wait)
        return doc

    def complete(self, doc, plan=None, **fields):
        """Later than its plan: between the two a stopped job is pending."""
        self.publish(lambda: self._completed(doc, plan, **fields))

    def _completed(self, doc, plan=None, **fields):
        group = fields.pop("group", "run")
        annotations = None if plan is None else {"DesiredTGUpdates": {group: {**PLAN, **plan}}, "PreemptedAllocs": None}
        doc.update(Status="complete", SnapshotIndex=self.index, ModifyTime=time.time_ns(),
                   PlanAnnotations=annotations or {"DesiredTGUpdates": None, "PreemptedAllocs": None})
        if plan is not None:
            doc["QueuedAllocations"] = {group: 0}
        doc.update(fields)
        if "BlockedEval" not in doc:
            doc.pop("FailedTGAllocs", None)
        doc.pop("StatusDescription", None)
        self.touch("evals", doc)
        job = self.jobs.get((doc["Namespace"], doc["JobID"]))
        if job:
            self.settle(job)

    def process(self, job, doc):
        if doc["Status"] not in ("pending", "blocked"):
            return
        mine = [a for a in self.allocs.values() if a.job is job]
        if job["Stop"] or job.get("purged"):
            stopped = [a for a in mine if not self.terminal(a.doc)]
            for allocation in stopped:
                self.want_stopped(allocation, UNWANTED)
            self.cancel_blocked(job, f'evaluation "{doc["ID"]}" successful')
            plan = {"Stop": len(stopped)} if stopped else {}
            self.complete(doc, None if job.get("purged") or not mine else plan)
        elif doc["TriggeredBy"] in ("job-register", "periodic-job", "queued-allocs"):
            if any(not self.terminal(a.doc) for a in mine):
                self.complete(doc, {"Ignore": 1})
            else:
                self.place_or_block(job, doc)
        self.settle(job)

    def place_or_block(self, job, doc, stop=0, before=None):
        group = job["TaskGroups"][0]
        node, why = self.choose(job, group)
        plan = {"Place": 1, **({"Stop": stop} if stop else {})}
        if node:
            new = self.place(job, group, node, doc)
            if before:
                before.doc["NextAllocation"] = new.id
                self.touch("allocs", before.doc, again=True)
            self.complete(doc, plan, group=group["Name"])
        elif doc["TriggeredBy"] == "queued-allocs":
            doc["FailedTGAllocs"] = {group["Name"]: why}
        else:
            blocked = {**{k: doc[k] for k in ("JobID", "JobModifyIndex", "Namespace", "Priority", "Type") if k in doc},
                       "ID": str(uuid.uuid4()), "PreviousEval": doc["ID"], "Status": "blocked",
                       "StatusDescription": "created to place remaining allocations", "TriggeredBy": "queued-allocs",
                       "FailedTGAllocs": {group["Name"]: why}, "CreateTime": time.time_ns(),
                       "ModifyTime": time.time_ns(), "SnapshotIndex": self.index}
            if why["NodesEvaluated"]:
                blocked["ClassEligibility"] = {"v1:1": not why["NodesFiltered"]}
            self.touch("evals", blocked, create=True)
            self.evals[blocked["ID"]] = blocked
            self.complete(doc, plan, group=group["Name"], BlockedEval=blocked["ID"],
                          QueuedAllocations={group["Name"]: 1}, FailedTGAllocs={group["Name"]: why})

    def cancel_blocked(self, job, text):
        for doc in self.evals.values():
            if doc["JobID"] == job["ID"] and doc["Status"] == "blocked":
                doc.update(Status="canceled", StatusDescription=text)
                self.touch("evals", doc)

    def choose(self, job, group):
        """A node for a group, or Nomad's figures of why there is none."""
        why = {"AllocationTime": 1, "ClassExhausted": None, "ClassFiltered": None, "CoalescedFailures": 0,
               "ConstraintFiltered": None, "DimensionExhausted": None, "NodePool": "default", "NodesAvailable": {},
               "NodesEvaluated": 0, "NodesExhausted": 0, "NodesFiltered": 0, "NodesInPool": 0, "QuotaExhausted": None,
               "ResourcesExhausted": None, "ScoreMetaData": None, "Scores": None}
        wanted = {t["Driver"] for t in group["Tasks"]}
        memory = sum(t["Resources"]["MemoryMB"] for t in group["Tasks"])
        for node in self.nodes.values():
            if not (node.up and node.eligible) or node.seen_down:
                continue
            why["NodesEvaluated"] += 1
            why["NodesInPool"] += 1
            why["NodesAvailable"] = {"dc1": why["NodesInPool"]}
            unmet = [c for c in (job.get("Constraints") or []) + (group.get("Constraints") or [])
                     if c["LTarget"].startswith("${meta.") and node.meta.get(c["LTarget"][7:-1]) != c["RTarget"]]
            if wanted - node.drivers:
                filtered = "missing drivers"
            elif unmet:
                filtered = f'{unmet[0]["LTarget"]} {unmet[0]["Operand"]} {unmet[0]["RTarget"]}'
            elif memory > node.memory:
                why["NodesExhausted"] += 1
                why["DimensionExhausted"] = {"memory": why["NodesExhausted"]}
                why["ResourcesExhausted"] = {t["Name"]: {
                    "CPU": 0, "Cores": 0, "Devices": None, "DiskMB": 0, "IOPS": 0, "MemoryMB": memory,
                    "MemoryMaxMB": 0, "NUMA": None, "Networks": None, "SecretsMB": 0} for t in group["Tasks"]}
                continue
            else:
                return node, None
            why["NodesFiltered"] += 1
            why["ConstraintFiltered"] = {filtered: why["NodesFiltered"]}
        return None, why

    def place(self, job, group, node, evaluation):
        now = time.time_ns()
        doc = {"ID": str(uuid.uuid4()), "EvalID": evaluation["ID"], "JobID": job["ID"], "JobType": job["Type"],
               "JobVersion": job["Version"], "Name": f"{job['ID']}.{group['Name']}[0]", "Namespace": job["Namespace"],
               "NodeID": node.id, "NodeName": node.name, "TaskGroup": group["Name"], "ClientStatus": "pending",
               "ClientDescription": "", "DesiredStatus": "run", "DesiredDescription": "", "FollowupEvalID": "",
               "NextAllocation": "", "PreemptedAllocations": None, "PreemptedByAllocation": "", "TaskStates": None,
               "RescheduleTracker": None, "DeploymentStatus": None, "CreateTime": now,
               "DesiredTransition": {k: None for k in ("ForceReschedule", "Migrate", "MigrateDisablePlacement",
                                                       "NoShutdownDelay", "Reschedule")}}
        self.touch("allocs", doc, create=True)
        doc["ModifyTime"] = now
        allocation = self.allocs[doc["ID"]] = Allocation(self, job, group, node, doc)
        allocation.job_then = {k: v for k, v in job.items() if k not in ("purged", "logs_gone")}
        self.settle(job)
        threading.Thread(target=allocation.run, daemon=True).start()
        return allocation

    def want_stopped(self, allocation, text):
        allocation.doc.update(DesiredStatus="stop", DesiredDescription=text)
        self.touch("allocs", allocation.doc)
        if allocation.node.up:
            allocation.stop()

    # -- failures, nodes, agents (nodes.py adds what happens to machines) --------------------------------

    def failed(self, allocation):
        """A failed allocation is rescheduled after its delay, where the policy still allows it."""
        policy, job = allocation.group["ReschedulePolicy"], allocation.job
        done = sum(1 for a in self.allocs.values() if a.job is job) - 1
        if job["Stop"] or not (policy["Unlimited"] or done < policy["Attempts"]):
            return
        first = self.evaluate(job, "alloc-failure")

        def follow():
            later = self.evaluate(job, "alloc-reschedule", PreviousEval=first["ID"], wait=None,
                                  SnapshotIndex=self.index,
                                  StatusDescription="created for delayed rescheduling", WaitUntil=self.moment(policy["Delay"]))
            first["NextEval"] = later["ID"]
            allocation.doc["FollowupEvalID"] = later["ID"]
            self.touch("allocs", allocation.doc)
            self.complete(first, {"Ignore": 1, "RescheduleLater": 1}, group=allocation.group["Name"])
            threading.Timer(self.pace(policy["Delay"] / 10**9), lambda: self.publish(lambda: again(later))).start()

        def again(later):
            if job["Stop"]:
                return self.complete(later, {})
            allocation.doc["DesiredStatus"] = "stop"
            later.pop("StatusDescription", None)
            self.place_or_block(job, later, stop=1, before=allocation)
            self.settle(job)

        self.publish(follow, after=0.005)

    @staticmethod
    def moment(nanoseconds):
        at = time.time_ns() + nanoseconds
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at / 10**9)) + f".{at % 10**9:09d}Z"

    def collect(self):
        """`PUT /v1/system/gc`: dead jobs, their evaluations and allocations are gone."""
        with self.lock:
            for key, job in list(self.jobs.items()):
                if job["Status"] == "dead":
                    del self.jobs[key]
                    for allocation in [a for a in self.allocs.values() if a.job is job]:
                        del self.allocs[allocation.id]
                    for doc in [e for e in self.evals.values() if e["JobID"] == job["ID"]]:
                        del self.evals[doc["ID"]]
            for allocation in [a for a in self.allocs.values() if a.job.get("purged")]:
                del self.allocs[allocation.id]
            self.changed.notify_all()

    def close(self):
        self.closed.set()
        for allocation in self.allocs.values():
            allocation.remove()
        os.path.isdir(self.folder) and not os.listdir(self.folder) and os.rmdir(self.folder)
