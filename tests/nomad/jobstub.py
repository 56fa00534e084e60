"""Forms of documents: the list's stubs, summaries, the whole allocation, nodes, the body of a dispatch.

In:    documents of the cluster.
Out:   the forms in which the API shows them.
"""

import base64
import binascii
import json
import re

from cluster import Refused


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def chosen(query):
    """The filter of a job list: the two forms that were recorded."""
    if "per_page" in query and not query["per_page"].isdigit():
        raise Refused(400, "Expect a number for `per_page` query string parameter")
    text = query.get("filter")
    if text is None:
        return lambda job: True
    found = re.fullmatch(r'Status == "(\w+)"', text)
    if not found:
        raise Refused(400, "failed to create result paginator: failed to read filter expression: 1:9 (8): no match "
                      'found, expected: "-", "0", "\\"", "`", [ \\t\\r\\n], [1-9] or [a-zA-Z]')
    return lambda job: job["Status"] == found[1]


def summary(cluster, job):
    figures = {k: 0 for k in ("Complete", "Failed", "Lost", "Queued", "Running", "Starting", "Unknown")}
    kinds = {"pending": "Starting"}
    for allocation in cluster.allocs.values():
        if allocation.job is job:
            status = allocation.doc["ClientStatus"]
            figures[kinds.get(status, status.capitalize())] += 1
    return {"Children": {"Dead": 0, "Pending": 0, "Running": 0}, "CreateIndex": job["CreateIndex"], "JobID": job["ID"],
            "ModifyIndex": job["ModifyIndex"], "Namespace": job["Namespace"],
            "Summary": {g["Name"]: figures for g in job["TaskGroups"]}}


def stub(cluster, job, meta):
    keys = ("CreateIndex", "Datacenters", "ID", "JobModifyIndex", "ModifyIndex", "Multiregion", "Name", "Namespace",
            "NodePool", "ParentID", "Priority", "Status", "StatusDescription", "Stop", "SubmitTime", "Type")
    result = {k: job[k] for k in keys}
    result.update(JobSummary=summary(cluster, job), Periodic=job["Periodic"] is not None,
                  ParameterizedJob=job["ParameterizedJob"] is not None and not job["Dispatched"])
    return {**result, "Meta": job["Meta"]} if meta else result


def whole(allocation):
    doc = {k: v for k, v in allocation.doc.items() if k not in ("JobType", "JobVersion")}
    doc = {k: v for k, v in doc.items() if v not in ("", None) or k in ("TaskStates",)}
    tasks = {n: {"Cpu": {"CpuShares": t["Resources"]["CPU"], "ReservedCores": None}, "Devices": None,
                 "Memory": {"MemoryMB": t["Resources"]["MemoryMB"], "MemoryMaxMB": 0}, "Networks": None}
             for n, t in allocation.specs.items()}
    shared = {"DiskMB": 300, "Networks": None, "Ports": None}
    return {**doc, "AllocModifyIndex": doc["CreateIndex"], "Job": allocation.job_then,
            "AllocatedResources": {"Shared": shared, "TaskLifecycles": {n: None for n in tasks}, "Tasks": tasks}}


def node(node):
    return {"ID": node.id, "Name": node.name, "Status": "ready" if not node.seen_down else "down", "Drain": False,
            "SchedulingEligibility": "eligible" if node.eligible else "ineligible", "Datacenter": "dc1",
            "Drivers": {d: {"Detected": True, "Healthy": True} for d in node.drivers}}


def dispatch_body(text):
    """The body of a dispatch, or Go's words of what is wrong with it."""
    if not text:
        raise Refused(400, "Request body is empty")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise Refused(400, "invalid character 'n' looking for beginning of object key string") from error
    if any(not isinstance(v, str) for v in (body.get("Meta") or {}).values()):
        raise Refused(400, "json: cannot unmarshal number into Go struct field JobDispatchRequest.Meta of type string")
    if not isinstance(body.get("Priority", 0), int):
        raise Refused(400, "json: cannot unmarshal string into Go struct field JobDispatchRequest.Priority of type int")
    try:
        base64.b64decode(body.get("Payload") or "", validate=True)
    except binascii.Error as error:
        raise Refused(400, "illegal base64 data at input byte 0") from error
    return body
