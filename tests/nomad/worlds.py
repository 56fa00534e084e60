"""What stood around each recording: jobs, nodes, tokens, a Vault; and what happened outside HTTP.

In:    a recording's name and the texts of its events.
Out:   a stand-in in that state, and the same things done to it at the same points.
"""

import glob
import http.server
import json
import os
import re
import socket
import threading
import time

import identity
import jobspec
import nodes
from cluster import Refused  # noqa: F401  (re-exported for the tests)
from replay import Replay, load
from stand_in import StandIn
from task import Task

# Where a recording is mostly waiting, Nomad's own timers and the pace of the requests are faster here.
FAST = {"06e-delete-purge-true": 4.0, "09e-drain-two-nodes": 3.0, "09f-lost-without-replacement": 4.0, "13c-defaults": 2.0,
        "15b-no-leader": 10.0, "15e-leader-loss": 5.0, "16-acl": 4.0}


def text(path):
    with open(path) as file:
        return file.read()


class World:
    """The events of one recording, done to one stand-in."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        names = ("one", "two") if name.startswith(("09e", "09f")) else ("vm",)
        self.vault = FakeVault() if name.startswith("20b") else None
        self.stand_in = StandIn(nodes=names, speed=FAST.get(name, 1.0), vault=self.vault and self.vault.url,
                                drivers=("raw_exec", "exec", "docker"))
        self.cluster = self.stand_in.cluster
        self.cluster.grace = 3.0
        if name.startswith("12a"):
            self.cluster.start_delay = 0.05
        self.cut = False
        namespaces = ("default", "hr") if name.startswith("16") else ("default",)
        said = json.dumps(load(os.path.join(folder, name + ".jsonl.gz")))
        for file in sorted(glob.glob(os.path.join(folder, "jobs", "*.hcl"))):
            for namespace in namespaces:
                job = jobspec.parse(text(file))
                if job["ID"] not in said:
                    continue
                job["Namespace"] = namespace
                self.cluster.register(self.tame(job))
        self.tokens(load(os.path.join(folder, name + ".jsonl.gz")))
        self.before()
        self.cluster.gate = __import__("collections").deque()

    @staticmethod
    def tame(job):
        """Nothing here eats the machine's memory: the end is told instead (`oom`)."""
        if job["ID"].startswith("oom-"):
            task = job["TaskGroups"][0]["Tasks"][0]
            task["Config"] = {"command": "/bin/sh", "args": ["-c", "echo eating; sleep 60"]}
            task["Driver"] = "raw_exec"
        return job

    def tokens(self, lines):
        for line in lines:
            for header in ("X-Nomad-Token", "Authorization"):
                secret = (line["request"]["headers"].get(header) or "").removeprefix("Bearer ")
                if secret.startswith("<"):
                    self.token(secret)

    def token(self, secret):
        four = ["dispatch-job", "read-job", "list-jobs", "read-logs"]
        word = secret.strip("<>")
        namespace = "hr" if self.name == "16-acl" else "default"
        if word == "management":
            return self.stand_in.tokens.add(secret, management=True)
        capabilities = {
            "all-four": four, "expiring": four, "deleted": four, "real-delete": four + ["submit-job"],
            "only-four-and-submit-job": four + ["submit-job"], "only-four-and-cancel-job": [],
            "policy read": ["list-jobs", "read-job", "parse-job"],
            "policy write": four + ["submit-job", "read-fs", "alloc-lifecycle"], "only-cancel-job": [],
        }.get(word)
        if capabilities is None and word.startswith("without-"):
            capabilities = [c for c in four if c != word[8:]]
        if capabilities is None:
            capabilities = re.sub(r"^only-", "", word).split(" + ")
        self.stand_in.tokens.add(secret, {namespace: capabilities}, ttl=None)

    def before(self):
        if self.name == "16-acl":
            answer = self.cluster.dispatch("hr", "hr-import", {"Meta": {"scenario": "long"}, "IdPrefixTemplate": "pre"}, "")
            self.pre = answer["DispatchedJobID"]
            while not any(a.doc["ClientStatus"] == "running" for a in self.cluster.allocs.values()):
                time.sleep(0.05)
            allocation = next(iter(self.cluster.allocs.values()))  # ACLs were switched on by a restart
            doc = self.cluster.evaluate(allocation.job, "node-update", wait=None, NodeID=allocation.node.id, NodeModifyIndex=9)
            self.cluster.complete(doc, {"Ignore": 1})
        if self.name.startswith("18a"):  # placed by the blocked evaluation: the node was just not eligible
            node = self.stand_in.node()
            node.eligible = False
            threading.Timer(1.5, nodes.eligible, (self.cluster, node, True)).start()
        if self.name.startswith("20"):
            identity.key()  # seconds of arithmetic
        if self.name.startswith("24"):  # no fresh cluster: other allocations have been there
            self.cluster.tables["allocs"] = 5
        if self.name.startswith("15a"):
            self.stand_in.hang_up()
            self.cluster.agent_up.clear()
        if self.name.startswith("15b"):
            self.stand_in.state = "none"
        if self.name.startswith("15c"):
            self.stand_in.hangs = 2
        if self.name.startswith("15"):
            self.stand_in.leader = "127.0.0.1:15057"
            self.stand_in.peers = [f"127.0.0.1:150{n}7" for n in (5, 4, 6)]

    # -- events ------------------------------------------------------------------------------------

    def running(self):
        return next(a for a in sorted(self.cluster.allocs.values(), key=lambda a: -a.doc["CreateIndex"])
                    if not a.over.is_set())

    def happen(self, replay, what):
        for pattern, action in EVENTS:
            if re.search(pattern, what):
                action(self)
                return

    def each(self, replay, line):
        """Before each line: what the recording shows by its answer alone."""
        if line["status"] != 0 and not self.cluster.agent_up.is_set():
            self.stand_in.state = "none" if self.name.startswith("15a") else "ok"
            self.stand_in.control_agent("up")
        if self.name.startswith("06g") and line["request"]["method"] == "POST" and "DELETE 0 s" not in replay.said:
            threading.Thread(target=self.place_soon, daemon=True).start()
        if "cut by the client" in replay.said and not self.cut:
            self.cut = True
            later = replay.lines[replay.lines.index(line):]
            self.send_and_leave(replay, next(l for l in later if l["request"]["method"] == "POST"))
        if self.name == "15e-leader-loss":
            said = str(line["body"])
            nobody = said == "No cluster leader" or (line["headers"] or {}).get("X-Nomad-Knownleader") == "false"
            self.stand_in.state = "none" if nobody else \
                "lost" if said.startswith("rpc error: failed") else "ok"
            if said == "rpc error: EOF":
                threading.Timer(0.3, self.stand_in.control_leader, ("lost",)).start()
            found = re.search(r"dial tcp ([\d.]+:\d+)", said)
            self.stand_in.leader = found[1] if found else self.stand_in.leader

    def node_down(self):
        self.dead = self.running().node
        nodes.down(self.cluster, self.dead)

    def node_up(self):
        nodes.up(self.cluster, self.dead)

    def agent(self, action):
        self.stand_in.control_agent(action)
        time.sleep(0.15)

    def place_soon(self):
        """Servers place within milliseconds, before the DELETE that follows."""
        for _ in range(2):
            self.cluster.step(1.0)

    def send_and_leave(self, replay, line):
        method, path, body, _ = replay.request(line)
        with socket.create_connection(("127.0.0.1", self.stand_in.port)) as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(0.2)

    def register(self, job, **change):
        spec = jobspec.parse(text(os.path.join(self.folder, "jobs", job + ".nomad.hcl")))
        spec["TaskGroups"][0]["Tasks"][0]["Resources"].update(change)
        self.cluster.register(spec)

    def kill(self):
        self.running().tasks["cli"].signal("SIGKILL")

    def close(self):
        self.stand_in.close()
        if self.vault:
            self.vault.close()


EVENTS = [
    (r"^SIGKILL sent to the task's process", World.kill),
    (r"client agent of the task's node SIGKILL|the client agent dies|node of the running task dies", World.node_down),
    (r"^client agent (started again|comes back)|^client back", World.node_up),
    (r"^agent gets SIGTERM", lambda w: w.agent("stop")),
    (r"^agent killed with SIGKILL|^agent SIGKILL; the task", lambda w: w.agent("down")),
    (r"^agent SIGKILL, then the executor", lambda w: w.agent("crash")),
    (r"^http_max_conns_per_client", lambda w: setattr(w.stand_in, "limit", 0)),
    (r"^closed again", lambda w: setattr(w.stand_in, "limit", None)),
    (r"^parent registered again", lambda w: w.register("hr-import", MemoryMB=48)),
    (r"^token with ExpirationTTL", lambda w: w.stand_in.tokens.add(
        "<expiring>", {"hr": ["dispatch-job", "read-job", "list-jobs", "read-logs"]}, ttl=2.0 / FAST[w.name])),
    (r"^token deleted while", lambda w: threading.Timer(0.5, w.stand_in.control_forget, ("<deleted>",)).start()),
]


class FakeVault:
    """Just what the client and its template ask a Vault here: one role, one secret."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_PUT(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body["role"] != "nomad-workloads":
                    return self.say(400, {"errors": [f'role "{body["role"]}" could not be found']})
                self.say(200, {"auth": {"client_token": "hvs.fake"}})

            def do_GET(self):
                self.say(200, {"data": {"data": {"pw": "fake"}}})

            def say(self, status, value):
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def play(file, folder):
    """The differences between one recording and the stand-in."""
    name = os.path.basename(file).removesuffix(".jsonl.gz")
    world = World(name, folder)
    oom = threading.Event()
    if name.startswith("18"):
        threading.Thread(target=tell_oom, args=(world, name.startswith("18b"), oom), daemon=True).start()
    try:
        lines = load(file)
        replay = Replay(world.stand_in, lines, world.happen, FAST.get(name, 1.0))
        replay.each = lambda line: world.each(replay, line)
        replay.timeout = 1.0 if name.startswith("15c") else 12
        if name == "16-acl":
            allocation = next(iter(world.cluster.allocs.values()))
            replay.bindings.bind("1795256804-b68d3a2f", world.pre[-19:])
            replay.bindings.bind("d6fe9302-1319-6372-bff6-7255b6114ead", allocation.id)
        return replay.run()
    finally:
        oom.set()
        world.close()


def tell_oom(world, docker, done):
    while not done.wait(0.05):
        for allocation in list(world.cluster.allocs.values()):
            task = allocation.tasks.get("cli")
            if isinstance(task, Task) and task.process and "cli" in allocation.readable and not task.told_oom:
                time.sleep(0.3)
                task.run_out_of_memory(docker)
