"""From a job file to the JSON of Nomad's API.

In:    HCL as hcl.py reads it.
Out:   a job as `POST /v1/jobs` takes it, defaults filled in as a real Nomad 2.0.5 fills them in.
Not here: volumes, networks, scaling: kept out of the parent jobs that the stand-in runs.
"""

import re

import hcl

SECOND = 10**9
UNITS = {"ns": 1, "us": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}


def nanoseconds(text):
    """`1m30s` and the like."""
    if isinstance(text, int):
        return text
    return int(sum(float(n) * UNITS[u] for n, u in re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", text)))


def one(body, name, default=None):
    """The body of the only block of that type."""
    blocks = body.get(name)
    return blocks[0][1] if blocks else default


def parse(text, variables=()):
    """The API's form of the one job in a job file."""
    (labels, body), = hcl.read(text, variables)["job"]
    groups = [group(names[0], b, body) for names, b in body.get("group", [])]
    parameterized, periodic = one(body, "parameterized"), one(body, "periodic")
    return {
        "ID": labels[0], "Name": body.get("name", labels[0]), "Type": body.get("type", "service"),
        "Namespace": body.get("namespace", "default"), "Region": body.get("region", "global"),
        "Priority": body.get("priority", 50), "Datacenters": body.get("datacenters", ["*"]),
        "Constraints": constraints(body), "Meta": body.get("meta"),
        "ParameterizedJob": None if parameterized is None else {
            "MetaOptional": parameterized.get("meta_optional"),
            "MetaRequired": parameterized.get("meta_required"),
            "Payload": parameterized.get("payload", "optional")},
        "Periodic": None if periodic is None else {
            "Enabled": True, "Spec": "", "Specs": periodic.get("crons") or [periodic.get("cron")],
            "SpecType": "cron", "ProhibitOverlap": periodic.get("prohibit_overlap", False),
            "TimeZone": periodic.get("time_zone", "UTC")},
        "TaskGroups": groups,
    }


def constraints(body):
    return [{"LTarget": b.get("attribute", ""), "Operand": b.get("operator", "="),
             "RTarget": b.get("value", "")} for _, b in body.get("constraint", [])] or None


def group(name, body, job):
    restart = one(body, "restart", {})
    reschedule = one(body, "reschedule", {})
    disconnect = one(body, "disconnect")
    longest = body.get("max_run_duration")
    return {
        "Name": name, "Count": body.get("count", 1), "Constraints": constraints(body),
        "MaxRunDuration": longest and nanoseconds(longest),
        "Disconnect": disconnect and {
            "LostAfter": nanoseconds(disconnect.get("lost_after", "0s")),
            "Replace": disconnect.get("replace", True)},
        "RestartPolicy": {
            "Attempts": restart.get("attempts", 3), "Mode": restart.get("mode", "fail"),
            "Delay": nanoseconds(restart.get("delay", "15s")),
            "Interval": nanoseconds(restart.get("interval", "24h"))},
        "ReschedulePolicy": {
            "Attempts": reschedule.get("attempts", 1), "Unlimited": reschedule.get("unlimited", False),
            "Delay": nanoseconds(reschedule.get("delay", "5s"))},
        "Tasks": [task(names[0], b) for names, b in body.get("task", [])],
    }


def task(name, body):
    lifecycle, vault = one(body, "lifecycle"), one(body, "vault")
    logs, resources = one(body, "logs", {}), one(body, "resources", {})
    payload = one(body, "dispatch_payload")
    return {
        "Name": name, "Driver": body.get("driver"), "User": body.get("user", ""),
        "Config": plain(one(body, "config", {})), "Env": one(body, "env", body.get("env")),
        "KillSignal": body.get("kill_signal", ""),
        "KillTimeout": nanoseconds(body.get("kill_timeout", "5s")),
        "Leader": body.get("leader", False), "Constraints": constraints(body),
        "Lifecycle": lifecycle and {"Hook": lifecycle["hook"], "Sidecar": lifecycle.get("sidecar", False)},
        "LogConfig": {"MaxFiles": logs.get("max_files", 10), "MaxFileSizeMB": logs.get("max_file_size", 10)},
        "Resources": {"CPU": resources.get("cpu", 100), "MemoryMB": resources.get("memory", 300)},
        "DispatchPayload": payload and {"File": payload["file"]},
        "Templates": [{"EmbeddedTmpl": b.get("data", ""), "DestPath": b["destination"],
                       "Envvars": b.get("env", False), "ChangeMode": b.get("change_mode", "restart")}
                      for _, b in body.get("template", [])],
        "Artifacts": [{"GetterSource": b["source"]} for _, b in body.get("artifact", [])],
        "Identities": [{"Name": b.get("name", "default"), "Audience": b.get("aud", ["nomadproject.io"]),
                        "Env": b.get("env", False), "File": b.get("file", False),
                        "TTL": nanoseconds(b.get("ttl", "0s"))} for _, b in body.get("identity", [])],
        "Vault": vault and {"Role": vault.get("role", ""), "ChangeMode": vault.get("change_mode", "restart"),
                            "Env": vault.get("env", True)},
    }


def plain(body):
    """A driver's config: its blocks as lists of dicts."""
    return {k: [plain(b) for _, b in v] if isinstance(v, list) and v and isinstance(v[0], tuple) else v
            for k, v in body.items()}
