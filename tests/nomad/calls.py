"""Every call of the recordings: method, path and the query parameters that were ever sent with it.

A call that is not here was never seen answered by a real Nomad, so the stand-in refuses it (501).
test_recordings.py holds this list against the recordings, both ways.
"""

import re

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
READ = {"index", "wait", "namespace", "stale", "consistent", "all"}
CALLS = [
    ("GET", "jobs", r"/v1/jobs", {"prefix", "meta", "region", "namespace", "stale", "index", "wait", "per_page", "filter"}),
    ("POST", "register", r"/v1/jobs", set()),
    ("GET|POST|PUT", "dispatch", r"/v1/job/(?P<job>.+)/dispatch", {"idempotency_token", "namespace", "region"}),
    ("POST|PUT", "force", r"/v1/job/(?P<job>.+)/periodic/force", set()),
    ("GET", "allocations", r"/v1/job/(?P<job>.+)/allocations", READ),
    ("GET", "evaluations", r"/v1/job/(?P<job>.+)/evaluations", {"namespace", "index", "wait"}),
    ("GET", "summary", r"/v1/job/(?P<job>.+)/summary", set()),
    ("GET", "job", r"/v1/job/(?P<job>.+)", {"namespace"}),
    ("DELETE", "deregister", r"/v1/job/(?P<job>.+)", {"purge", "namespace"}),
    ("GET", "allocation", rf"/v1/allocation/(?P<id>{UUID}|abc)", {"namespace"}),
    ("POST", "stop", rf"/v1/allocation/(?P<id>{UUID})/stop", set()),
    ("GET", "evaluation", rf"/v1/evaluation/(?P<id>{UUID}|abc)", set()),
    ("GET", "evaluation_allocations", rf"/v1/evaluation/(?P<id>{UUID})/allocations", set()),
    ("GET", "logs", r"/v1/client/fs/logs/(?P<id>[^/]*)",
     {"task", "type", "origin", "offset", "plain", "follow", "namespace"}),
    ("GET", "ls", rf"/v1/client/fs/ls/(?P<id>{UUID})", {"path"}),
    ("GET", "client_gc", rf"/v1/client/allocation/(?P<id>{UUID})/gc", set()),
    ("POST", "metadata", r"/v1/client/metadata", set()),
    ("GET", "nodes", r"/v1/nodes", set()),
    ("POST", "drain", rf"/v1/node/(?P<id>{UUID})/drain", set()),
    ("POST", "eligibility", rf"/v1/node/(?P<id>{UUID})/eligibility", set()),
    ("PUT", "variable", r"/v1/var/(?P<path>.+)", set()),
    ("PUT", "gc", r"/v1/system/gc", set()),
    ("GET", "leader", r"/v1/status/leader", set()),
    ("GET", "peers", r"/v1/status/peers", set()),
    ("GET", "health", r"/v1/agent/health", set()),
    ("GET", "self", r"/v1/agent/self", set()),
    ("POST", "bootstrap", r"/v1/acl/bootstrap", set()),
    ("POST", "policy", r"/v1/acl/policy/(?P<name>[\w-]+)", set()),
    ("POST", "namespace", r"/v1/namespace/(?P<name>[\w-]+)", set()),
    ("GET", "jwks", r"/\.well-known/jwks\.json", set()),
    ("GET", "openid", r"/\.well-known/openid-configuration", set()),
    ("GET", "nosuch", r"/v1/nosuch", set()),
]
COMPILED = [(re.compile(m), name, re.compile(path), query) for m, name, path, query in CALLS]


def find(method, path, query):
    """The call's name and what its path holds; None for what was not recorded."""
    for methods, name, pattern, allowed in COMPILED:
        found = pattern.fullmatch(path)
        if found and methods.fullmatch(method) and set(query) <= allowed:
            return name, found.groupdict()
    return None
