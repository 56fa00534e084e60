#!/usr/bin/env python3
"""A stand-in of Nomad's HTTP API that starts real processes and containers, for the operators' tests.

usage: python3 tests/nomad/stand_in.py --port 0 --job nomad/jobs/sankofa-rows.nomad.hcl [--job FILE ...]
           [--var NAME=VALUE ...] [--folder DIR] [--vault URL] [--docker] [--token SECRET=CAP,CAP@NAMESPACE] [--fast N]

Prints `ready http://127.0.0.1:PORT` on stdout and serves until SIGTERM or SIGINT; then no process of it is left.

Control (for tests; no part of Nomad): POST /stand-in/ACTION with a JSON body, answered with JSON:
  register {hcl, variables}        a job file                 node {action: up|down|drain|ineligible|eligible, seconds}
  agent {action: stop|down|crash|up}   the agent ends, is killed, is killed with its tasks; comes back
  agent-for {seconds, action}      the same, and it is back after some seconds
  leader {state: ok|none|lost}     500 `No cluster leader` after 5 s; 500 `rpc error: ...` at once
  fail {count, status, text, call} the next calls (of that name) answer so         hang {count}: never answer
  kill {alloc, task}               SIGKILL from outside       oom {alloc, task}: memory runs out
  token {secret, namespaces: {NAME: [CAPABILITY]}, management, ttl}               forget {secret}
  gc {}   limit {connections}   tasks {}: what runs now       requests {}: what was asked, in order
"""

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from http.server import ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import collections  # noqa: E402
import signal  # noqa: E402

import jobspec  # noqa: E402
import nodes  # noqa: E402
from access import Tokens  # noqa: E402
from api import Api  # noqa: E402
from cluster import Cluster, Refused  # noqa: E402


class Server(ThreadingHTTPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

    def __init__(self, stand_in, port):
        self.stand_in, self.connections = stand_in, set()
        super().__init__(("127.0.0.1", port), Api)

    def process_request(self, request, address):
        limit = self.stand_in.limit
        if limit is not None and len(self.connections) >= limit:
            text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
            request.recv(65536) if not limit else None
            request.sendall((f"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                             f"Content-Length: {len(text)}\r\n\r\n{text}").encode())
            return self.shutdown_request(request)
        self.connections.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


class StandIn:
    """A cluster behind HTTP on a port of the loopback."""

    def __init__(self, port=0, folder=None, tokens=None, **cluster):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="sankofa-nomad-")
        self.cluster = Cluster(self.folder, **cluster)
        self.tokens = tokens or Tokens()
        self.faults, self.hangs, self.limit, self.state = collections.deque(), 0, None, "ok"
        self.leader, self.peers = "127.0.0.1:4647", ["127.0.0.1:4647"]
        self.requests = collections.deque(maxlen=10000)
        self.server, self.port, self.crashed = None, port, True
        self.listen()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def listen(self):
        self.server = Server(self, self.port)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def hang_up(self):
        """Connections are cut and refused, as when the agent is gone."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def seen(self, method, path, body):
        self.requests.append({"method": method, "path": path, "body": body.decode(errors="replace")})

    def weather(self, api, query):
        """What goes wrong before a call is looked at."""
        if self.hangs:
            self.hangs -= 1
            self.cluster.closed.wait(600)
        if self.faults and self.faults[0].get("call") in (None, api.call):
            fault = self.faults[0]
            fault["count"] = fault.get("count", 1) - 1
            if fault["count"] <= 0:
                self.faults.popleft()
            raise Refused(fault.get("status", 500), fault.get("text", "rpc error: EOF"))
        if api.call in ("logs", "self") or "stale" in query:
            return
        self.no_leader()

    def no_leader(self):
        if self.state == "none":
            time.sleep(self.cluster.pace(5))
            raise Refused(500, "No cluster leader")
        if self.state == "lost":
            raise Refused(500, f"rpc error: failed to get conn: dial tcp {self.leader}: connect: connection refused")

    def interrupted(self):
        if self.state == "lost":
            raise Refused(500, "rpc error: EOF")

    # -- control --------------------------------------------------------------------------------------

    def control(self, api, action, body):
        wanted = json.loads(body or b"{}")
        try:
            answer = getattr(self, "control_" + action.replace("-", "_"))(**wanted)
        except Exception as error:  # a test's mistake: said, not hidden
            return api.send(400, text=f"{action}: {error!r}")
        api.send(200, answer)

    def control_register(self, hcl, variables=()):
        job = jobspec.parse(hcl, dict(variables))
        self.cluster.register(job)
        return {"ID": job["ID"]}

    def node(self, name=None):
        return next(n for n in self.cluster.nodes.values() if name in (None, n.name, n.id))

    def control_node(self, action, name=None, seconds=0):
        node = self.node(name)
        {"up": lambda: nodes.up(self.cluster, node), "down": lambda: nodes.down(self.cluster, node),
         "drain": lambda: nodes.drain(self.cluster, node, seconds),
         "eligible": lambda: nodes.eligible(self.cluster, node, True),
         "ineligible": lambda: nodes.eligible(self.cluster, node, False)}[action]()
        return {"node": node.id}

    def control_agent(self, action):
        if action == "up":
            nodes.agent_up(self.cluster, self.crashed)
            self.listen()
        else:
            self.crashed = action != "stop"
            nodes.agent_down(self.cluster)
            if action == "crash":
                for allocation in self.cluster.allocs.values():
                    allocation.crash()
            threading.Timer(0.05, self.hang_up).start()
        return {}

    def control_agent_for(self, seconds, action="down"):
        """The agent goes, and is back after some seconds: while it is gone nobody could be asked."""
        self.control_agent(action)
        threading.Timer(0.1 + seconds, self.control_agent, ("up",)).start()
        return {}

    def control_leader(self, state):
        self.state = state
        with self.cluster.lock:
            self.cluster.changed.notify_all()
        return {}

    def control_fail(self, **fault):
        self.faults.append(fault)
        return {}

    def control_hang(self, count=1):
        self.hangs = count
        return {}

    def control_limit(self, connections):
        self.limit = connections
        return {}

    def control_kill(self, alloc, task=None):
        self.task(alloc, task).signal("SIGKILL")
        return {}

    def control_oom(self, alloc, task=None):
        self.task(alloc, task).run_out_of_memory()
        return {}

    def task(self, alloc, name):
        tasks = self.cluster.allocs[alloc].tasks
        return tasks[name] if name else next(iter(tasks.values()))

    def control_token(self, secret, **what):
        self.tokens.add(secret, **what)
        return {}

    def control_forget(self, secret):
        self.tokens.tokens.pop(secret, None)
        return {}

    def control_gc(self):
        self.cluster.collect()
        return {}

    def control_tasks(self):
        return [{"alloc": a.id, "job": a.doc["JobID"], "task": n, "pid": t.process.pid, "container": t.container}
                for a in list(self.cluster.allocs.values()) for n, t in list(a.tasks.items())
                if t and t.process and t.process.poll() is None]

    def control_requests(self):
        return list(self.requests)

    def close(self):
        self.cluster.agent_up.is_set() and self.hang_up()
        self.cluster.close()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--job", action="append", default=[], help="a job file (HCL)")
    parser.add_argument("--var", action="append", default=[], help="NAME=VALUE for the job files")
    parser.add_argument("--folder", help="where allocations live (default: a temporary folder)")
    parser.add_argument("--vault", help="address of a Vault whose jwt-nomad login trusts our keys")
    parser.add_argument("--docker", action="store_true", help="the node has the docker driver too")
    parser.add_argument("--node", action="append", default=[], help="name of a node (default: one, vm)")
    parser.add_argument("--fast", type=float, default=1.0, help="Nomad's own timers run so many times faster")
    parser.add_argument("--token", action="append", default=[], help="SECRET=CAPABILITY,...@NAMESPACE; `*` is management")
    return parser.parse_args()


def tokens(wanted):
    result = Tokens()
    for text in wanted:
        secret, _, rest = text.partition("=")
        capabilities, _, namespace = rest.partition("@")
        result.add(secret, {namespace or "default": capabilities.split(",")}, management=capabilities == "*")
    return result


def main():
    given = arguments()
    drivers = ("raw_exec", "exec") + (("docker",) if given.docker else ())
    stand_in = StandIn(given.port, given.folder, tokens(given.token), nodes=tuple(given.node) or ("vm",),
                       speed=given.fast, vault=given.vault, drivers=drivers)
    for file in given.job:
        with open(file) as text:
            stand_in.cluster.register(jobspec.parse(text.read(), dict(v.split("=", 1) for v in given.var)))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(f"ready {stand_in.url}", flush=True)
    ended.wait()
    stand_in.close()


if __name__ == "__main__":
    main()
