"""Nomad's HTTP API, as far as it was recorded.

In:    requests that calls.py lists; a cluster.
Out:   status, headers and bodies as shared/data/nomad has them: plain-text errors, indexes, chunks.
Holds: a call that was never recorded is refused with 501, so that no operator relies on what nobody saw.
Not here: control of the stand-in itself (stand_in.py).
"""

import gzip
import json
import random
import re
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, unquote

import calls
import identity
import jobstub
import logs
import nodes
from cluster import Refused

BLOCKING = {"jobs": "jobs", "allocations": "allocs", "evaluations": "evals", "job": "jobs", "allocation": "allocs"}
INDEXED = set(BLOCKING) | {"evaluation", "evaluation_allocations", "summary", "nodes", "jwks"}
CLIENT = {"logs", "ls", "client_gc", "metadata", "variable"}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Nomad"

    def log_message(self, *_):
        pass

    # -- one request -----------------------------------------------------------------------------

    def answer(self):
        stand_in = self.server.stand_in
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/stand-in/"):
            return stand_in.control(self, path[10:], body)
        query = dict(parse_qsl(query, keep_blank_values=True))
        path = unquote(path) if not path.startswith("/v1/job") else path
        found = calls.find(self.command, path, query)
        stand_in.seen(self.command, self.path, body)
        if not found:
            return self.send(501, text=f"not recorded: {self.command} {path} {sorted(query)}")
        self.call, holds = found
        try:
            stand_in.weather(self, query)
            secret = self.headers.get("X-Nomad-Token") or (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            namespace = query.get("namespace") or "default"
            stand_in.tokens.check(self.call, self.home(holds, namespace), secret, query)
            if query.get("region", "global") != "global":
                raise Refused(500, "No path to region")
            getattr(self, "do_" + self.call)(query, body, namespace, **{k: unquote(v) for k, v in holds.items()})
        except Refused as refused:
            if self.call == "health":
                refused.text = json.dumps({"server": {"ok": False, "message": refused.text}}, separators=(",", ":"))
            self.refuse(refused)

    do_GET = do_POST = do_PUT = do_DELETE = lambda self: self.answer()

    def home(self, holds, namespace):
        """The namespace whose capabilities count: of an allocation, its own."""
        allocation = self.cluster.allocs.get(holds.get("id", ""))
        if self.call == "allocation" and allocation:
            mine = allocation.job["Namespace"]
            try:
                self.server.stand_in.tokens.check("allocation", mine, self.secret(), {})
            except Refused:
                known = self.secret() in self.server.stand_in.tokens.tokens or not self.secret()
                raise Refused(500, f'Unknown allocation "{allocation.id}"') if known else Refused(403, "Permission denied")
            return mine
        return namespace

    def secret(self):
        return self.headers.get("X-Nomad-Token") or (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    @property
    def cluster(self):
        return self.server.stand_in.cluster

    # -- answers -----------------------------------------------------------------------------------

    def refuse(self, refused):
        index = refused.text == "job not found" and self.call in ("job", "summary")
        extra = self.indexed(self.cluster.tables["jobs"]) if index or refused.text.endswith(" not found") and \
            self.call in ("allocation", "evaluation") else {}
        self.send(refused.status, text=refused.text, headers=extra)

    @staticmethod
    def indexed(index):
        return {"X-Nomad-Index": str(index), "X-Nomad-Knownleader": "true", "X-Nomad-Lastcontact": "0"}

    def send(self, status, value=None, text=None, headers=None, raw=None, kind=None):
        if text is not None:
            data, kind = text.encode(), "text/plain; charset=utf-8"
        elif raw is not None:
            data = raw
        else:
            data, kind = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), "application/json"
        self.send_response_only(status)
        vary = "Origin" if getattr(self, "call", "") in CLIENT else "Accept-Encoding"
        self.send_header("Vary", vary)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Date", self.date_time_string())
        if "gzip" in (self.headers.get("Accept-Encoding") or "") and data and status == 200:
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "gzip")
        chunked = raw is not None and data or len(data) > 2048
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.chunk(data)
            self.chunk(b"")
        else:
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    # -- reading, and waiting for news ---------------------------------------------------------------

    def read(self, query, look):
        """`look()` gives value and index; with index and wait in the query, waits until the index is higher."""
        cluster = self.cluster
        index, wait = query.get("index"), query.get("wait")
        if wait is not None and not re.fullmatch(r"\d+(ms|s|m|h)", wait):
            raise Refused(400, "Invalid wait time")
        if index is not None and not index.isdigit():
            raise Refused(400, "Invalid index")
        with cluster.lock:
            value, at = look()
            if index and int(index) > 0:
                seconds = jobstub.seconds(wait or "5m")
                deadline = time.monotonic() + seconds * (1 + random.random() / 16)
                while at <= int(index) and (left := deadline - time.monotonic()) > 0:
                    cluster.changed.wait(left)
                    self.server.stand_in.interrupted()
                    value, at = look()
            data = json.loads(json.dumps(value))
        headers = self.indexed(at)
        if self.server.stand_in.state != "ok":
            headers["X-Nomad-Knownleader"] = "false"  # only stale reads come here then
        self.send(200, data, headers=headers)

    def do_jobs(self, query, body, namespace):
        prefix, cluster = query.get("prefix", ""), self.cluster
        keep = jobstub.chosen(query)

        def look():
            found = [j for (n, i), j in sorted(cluster.jobs.items())
                     if (n == namespace or namespace == "*") and i.startswith(prefix) and keep(j)]
            stubs = [jobstub.stub(cluster, j, "meta" in query) for j in found]
            return stubs, cluster.tables["jobs"]

        if "per_page" in query:
            return self.page(int(query["per_page"]), look)
        self.read(query, look)

    def page(self, size, look):
        with self.cluster.lock:
            value, index = look()
        more = {"X-Nomad-Nexttoken": f"default.{value[size]['ID']}"} if len(value) > size else {}
        self.send(200, value[:size], headers={**self.indexed(index), **more})

    def do_allocations(self, query, body, namespace, job):
        cluster = self.cluster

        def look():
            found = sorted((a.doc for a in cluster.allocs.values() if a.doc["JobID"] == job
                            and a.doc["Namespace"] == namespace and not a.job.get("purged")), key=lambda d: d["ID"])
            return found, max((d["ModifyIndex"] for d in found), default=cluster.tables["allocs"])

        self.read(query, look)

    def do_evaluations(self, query, body, namespace, job):
        cluster = self.cluster

        def look():
            found = [d for d in cluster.evals.values() if d["JobID"] == job and d["Namespace"] == namespace]
            return sorted(found, key=lambda d: d["ID"]), max((d["ModifyIndex"] for d in found),
                                                             default=cluster.tables["evals"])

        self.read(query, look)

    def wanted(self, namespace, job):
        found = self.cluster.jobs.get((namespace, job))
        if not found:
            raise Refused(404, "job not found")
        return found

    def do_job(self, query, body, namespace, job):
        found = self.wanted(namespace, job)
        self.read(query, lambda: ({k: v for k, v in found.items() if k not in ("purged", "logs_gone")}, found["ModifyIndex"]))

    def do_summary(self, query, body, namespace, job):
        found = self.wanted(namespace, job)
        self.read(query, lambda: (jobstub.summary(self.cluster, found), found["ModifyIndex"]))

    def do_allocation(self, query, body, namespace, id):
        if id == "abc":
            raise Refused(500, "alloc lookup failed: index error: UUID must be 36 characters")
        found = self.cluster.allocs.get(id)
        if not found or found.job.get("purged"):
            raise Refused(404, "alloc not found")
        self.read(query, lambda: (jobstub.whole(found), found.doc["ModifyIndex"]))

    def do_evaluation(self, query, body, namespace, id):
        if id == "abc":
            raise Refused(500, "failed to lookup eval: eval lookup failed: index error: UUID must be 36 characters")
        found = self.cluster.evals.get(id)
        if not found:
            raise Refused(404, "eval not found")
        self.read(query, lambda: (found, found["ModifyIndex"]))

    def do_evaluation_allocations(self, query, body, namespace, id):
        cluster = self.cluster
        self.read(query, lambda: ([a.doc for a in cluster.allocs.values() if a.doc["EvalID"] == id],
                                  cluster.tables["allocs"]))

    # -- writing -----------------------------------------------------------------------------------------

    def written(self, value, **extra):
        self.send(200, value, headers={"X-Nomad-Index": str(value.get("Index", self.cluster.index)), **extra})

    def do_dispatch(self, query, body, namespace, job):
        if self.command == "GET":
            raise Refused(405, "Invalid method")
        self.written(self.cluster.dispatch(namespace, job, jobstub.dispatch_body(body),
                                           query.get("idempotency_token") or ""))

    def do_deregister(self, query, body, namespace, job):
        purge = query.get("purge", "false")
        if purge not in ("true", "false"):
            raise Refused(500, f'Failed to parse value of "purge" ({purge}) as a bool: strconv.ParseBool: '
                          f'parsing "{purge}": invalid syntax')
        self.written(self.cluster.deregister(namespace, job, purge == "true"))

    def do_register(self, query, body, namespace):
        index, evaluation = self.cluster.register(json.loads(body)["Job"])
        self.written({"EvalCreateIndex": index if evaluation else 0, "EvalID": evaluation["ID"] if evaluation else "",
                      "Index": index, "JobModifyIndex": index, "KnownLeader": False, "LastContact": 0, "NextToken": "",
                      "Warnings": ""})

    def do_force(self, query, body, namespace, job):
        self.written(self.cluster.force(namespace, job))

    def do_stop(self, query, body, namespace, id):
        cluster, found = self.cluster, self.cluster.allocs[id]
        with cluster.lock:
            doc = cluster.evaluate(found.job, "alloc-stop", wait=None)

            def replace():
                cluster.want_stopped(found, "alloc is being migrated")
                cluster.place_or_block(found.job, doc, stop=1, before=found)

            cluster.publish(replace, after=0.003)
            self.written({"EvalID": doc["ID"], "Index": doc["CreateIndex"]})

    # -- nodes, variables, the rest ------------------------------------------------------------------------

    def do_nodes(self, query, body, namespace):
        self.read(query, lambda: ([jobstub.node(n) for n in self.cluster.nodes.values()], self.cluster.tables["nodes"]))

    def do_drain(self, query, body, namespace, id):
        spec, node = json.loads(body), self.cluster.nodes[id]
        index = nodes.eligible(self.cluster, node, bool(spec["MarkEligible"]))
        if spec["DrainSpec"]:
            nodes.drain(self.cluster, node, spec["DrainSpec"]["Deadline"] / 10**9)
        self.written({"EvalCreateIndex": index + 1 if spec["MarkEligible"] else 0, "EvalIDs": None, "Index": index,
                      "NodeModifyIndex": index})

    def do_eligibility(self, query, body, namespace, id):
        yes = json.loads(body)["Eligibility"] == "eligible"
        index = nodes.eligible(self.cluster, self.cluster.nodes[id], yes)
        self.written({"EvalCreateIndex": index + 1 if yes else 0, "EvalIDs": None, "Index": index, "NodeModifyIndex": 0})

    def do_metadata(self, query, body, namespace):
        wanted = json.loads(body)
        node = self.cluster.nodes.get(wanted["NodeID"]) or next(iter(self.cluster.nodes.values()))
        nodes.meta(self.cluster, node, wanted["Meta"])
        self.send(200, {"Dynamic": node.meta, "Meta": node.meta, "Static": {}})

    def do_variable(self, query, body, namespace, path):
        cluster, now = self.cluster, time.time_ns()
        with cluster.lock:
            doc = {"CreateTime": now, "ModifyTime": now, "Items": json.loads(body)["Items"], "Namespace": namespace,
                   "Path": path}
            cluster.touch("variables", doc, create=True)
            cluster.variables[path] = doc
        self.send(200, doc, headers={"X-Nomad-Index": str(doc["ModifyIndex"])})

    def do_gc(self, query, body, namespace):
        self.cluster.collect()
        self.send(200, raw=b"")

    def do_client_gc(self, query, body, namespace, id):
        self.cluster.allocs[id].collected = True
        self.send(200, raw=b"")

    def do_nosuch(self, *_):
        self.send(404, raw=b"")

    def do_leader(self, *_):
        self.send(200, self.server.stand_in.leader)

    def do_peers(self, *_):
        self.send(200, self.server.stand_in.peers)

    def do_health(self, *_):
        self.send(200, {"server": {"ok": True, "message": "ok"}})

    def do_self(self, *_):
        self.send(200, {"config": {}, "member": {}, "stats": {}})

    def do_bootstrap(self, *_):
        raise Refused(400, "ACL bootstrap already done (reset index: 15)")

    def do_policy(self, query, body, namespace, name):
        self.server.stand_in.tokens.policy(json.loads(body)["Rules"])
        self.cluster.index += 1
        self.send(200, raw=b"", headers={"X-Nomad-Index": str(self.cluster.index)})

    def do_namespace(self, query, body, _, name):
        self.cluster.namespaces.add(name)
        self.cluster.index += 1
        self.send(200, raw=b"", headers={"X-Nomad-Index": str(self.cluster.index)})

    def do_jwks(self, *_):
        self.send(200, identity.jwks(), headers=self.indexed(7))

    def do_openid(self, *_):
        base = "http://%s:%s" % self.server.server_address[:2]
        self.send(200, {"id_token_signing_alg_values_supported": ["RS256", "EdDSA"], "issuer": base,
                        "jwks_uri": base + "/.well-known/jwks.json", "response_types_supported": ["code"],
                        "subject_types_supported": ["public"]})

    def do_ls(self, query, body, namespace, id):
        logs.listing(self, self.cluster.allocs[id], query["path"])

    def do_logs(self, query, body, namespace, id):
        logs.serve(self, id, query)
