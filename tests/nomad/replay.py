"""Plays a recording against the stand-in: the same requests in the same order, the same answers.

In:    one file of shared/data/nomad; a stand-in behind a gate, so that each change is seen in its turn.
Out:   the differences, as text.
Holds: ids, times and indexes are bound, not compared; a state that real polls were too slow to see may be passed
       over, a recorded one may not be missing.
Not compared: what stands in IGNORED, and figures of the machine (pids, node attributes, tick counts in logs).
"""

import base64
import gzip
import http.client
import itertools
import json
import re
import threading
import time
from urllib.parse import parse_qsl, urlencode

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CHILD = re.compile(r"\d{10}-[0-9a-f]{8}\b|periodic-\d{10}")
NUMBERS = {"CreateIndex", "ModifyIndex", "JobModifyIndex", "Index", "EvalCreateIndex", "JobCreateIndex", "CreateTime",
           "ModifyTime", "SubmitTime", "Time", "SnapshotIndex", "AllocationTime", "NodeModifyIndex", "AllocModifyIndex",
           "StartDelay", "Version", "JobVersion", "Size"}
STAMPS = {"StartedAt", "FinishedAt", "LastRestart", "WaitUntil", "ModTime"}
# Parts of documents that no operator reads and that say how one machine was set up.
IGNORED = {"TaskGroups", "AllocatedResources", "Resources", "SharedResources", "TaskResources", "ClassEligibility",
           "NodeName", "Meta.connect", "Static", "Dynamic", "config", "member", "stats", "keys", "Metrics", "UI",
           "RescheduleTracker", "start_delay", "DeploymentStatus", "Attributes", "Drivers", "AllocStates",
           "NetworkStatus", "DesiredTransition", "NomadTokenID", "QueuedAllocations", "PlanAnnotations",
           "ResourcesExhausted", "SecretsMB", "Update", "issuer", "jwks_uri", "JobSummary", "SigningKeyID"}


class Different(Exception):
    pass


def load(path):
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def seen(line):
    """A recorded answer without what moves in every answer."""
    return re.sub(r'"(ModifyIndex|ModifyTime)": \d+', "", json.dumps(line["body"], sort_keys=True))


def idle(evaluations):
    """Without those of other nodes' comings and goings, which changed nothing for this job."""
    def changed(doc):
        groups = ((doc.get("PlanAnnotations") or {}).get("DesiredTGUpdates") or {}).values()
        return doc["TriggeredBy"] != "node-update" or any(n for g in groups for k, n in g.items() if k != "Ignore")

    return [doc for doc in evaluations if changed(doc)] if isinstance(evaluations, list) else evaluations


def rebuilt(text, what):
    """A request body that the recorder cut, made again from what it says of it."""
    size = float(re.search(r"([\d.]+)", what)[1])
    if what.startswith("payload"):
        return json.dumps({"Meta": {"scenario": "silent"}, "Payload": base64.b64encode(b"x" * int(size)).decode()})
    return json.dumps({"Meta": {"scenario": "silent", "note": "n" * int(size * (10**6 if "MB" in what else 1000))}})


class Bindings:
    """Recorded ids and ours, each bound to one of the other side."""

    def __init__(self):
        self.ours, self.theirs = {}, {}

    def bind(self, recorded, ours):
        if self.ours.setdefault(recorded, ours) != ours or self.theirs.setdefault(ours, recorded) != recorded:
            raise Different(f"{recorded} was {self.ours.get(recorded)}, is {ours}")

    def copy(self):
        other = Bindings()
        other.ours, other.theirs = dict(self.ours), dict(self.theirs)
        return other

    def put(self, text):
        """A recorded text with our ids in it."""
        for recorded in sorted(self.ours, key=len, reverse=True):
            text = text.replace(recorded, self.ours[recorded])
        return text


def unify(recorded, ours, bindings, where=""):
    """Different, unless both say the same but for ids, times and indexes."""
    if isinstance(recorded, dict):
        unify_dict(recorded, ours, bindings, where)
    elif isinstance(recorded, list):
        unify_list(recorded, ours, bindings, where)
    elif isinstance(recorded, str):
        unify_text(recorded, ours, bindings, where)
    elif recorded != ours or isinstance(recorded, bool) != isinstance(ours, bool):
        raise Different(f"{where}: recorded {recorded!r}, ours {ours!r}")


def unify_dict(recorded, ours, bindings, where):
    if not isinstance(ours, dict):
        raise Different(f"{where}: recorded an object, ours {str(ours)[:80]!r}")
    keys = {k for k in set(recorded) ^ set(ours) if k not in IGNORED}
    if keys:
        raise Different(f"{where}: keys {sorted(keys)}")
    for key, value in recorded.items():
        at = f"{where}.{key}"
        if key in IGNORED:
            continue
        if key in NUMBERS:
            if not isinstance(ours[key], int) or (key == "EvalCreateIndex" and bool(value) != bool(ours[key])):
                raise Different(f"{at}: {ours[key]!r}")
        elif key in STAMPS:
            if bool(value) != bool(ours[key]):
                raise Different(f"{at}: recorded {value!r}, ours {ours[key]!r}")
        else:
            unify(value, ours[key], bindings, at)


def unify_list(recorded, ours, bindings, where):
    if not isinstance(ours, list) or len(recorded) != len(ours):
        raise Different(f"{where}: recorded {len(recorded)}, ours {len(ours) if isinstance(ours, list) else ours}")
    if not recorded or not isinstance(recorded[0], dict) or "ID" not in recorded[0] or len(recorded) > 6:
        for n, (a, b) in enumerate(zip(recorded, ours)):
            unify(a, b, bindings, f"{where}[{n}]")
        return
    first = None
    for order in itertools.permutations(ours):  # sorted by random ids: any order may be the one
        trial = bindings.copy()
        try:
            for n, (a, b) in enumerate(zip(recorded, order)):
                unify(a, b, trial, f"{where}[{n}]")
        except Different as difference:
            first = first or difference
        else:
            bindings.ours, bindings.theirs = trial.ours, trial.theirs
            return
    raise first


def unify_text(recorded, ours, bindings, where):
    if not isinstance(ours, str):
        raise Different(f"{where}: recorded {recorded!r}, ours {ours!r}")
    for pattern in (UUID, CHILD):
        found, got = [m[0] for m in pattern.finditer(recorded)], [m[0] for m in pattern.finditer(ours)]
        if len(found) != len(got):
            raise Different(f"{where}: recorded {recorded[:160]!r}, ours {ours[:160]!r}")
        for a, b in zip(found, got):
            bindings.bind(a, b)
    if plain(bindings.put(recorded)) != plain(ours):
        raise Different(f"{where}: recorded {recorded[:200]!r}, ours {ours[:200]!r}")


def plain(text):
    text = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "HOST", text)
    text = re.sub(r"restarting in [\d.]+s", "restarting in N", text)
    # A lost executor is told in two ways, as it happens.
    text = re.sub(r"waiting on process: rpc error: .*", "waiting on process", text)
    return re.sub(r"pid \d+", "pid N", text)


def shape(text):
    """The lines of a log without what depends on the moment: ticks, pids."""
    lines = [re.sub(r"pid \d+", "pid N", line) for line in text.splitlines() if not re.fullmatch(r"tick \d+", line)]
    return "\n".join(lines)


def same_log(want, ours):
    """How many bytes of ours say what the recorded part says; None when they differ.

    Ours may already say more: processes are not behind the gate. Ticks are not counted.
    """
    if len(want) > 2000 or "names\n" in want:  # rotation's padding; names of a machine's environment
        return len(ours.encode())
    expected, at = shape(want), 0
    lines = ours.splitlines(keepends=True)
    for n in range(len(lines) + 1):
        if shape("".join(lines[:n])) == expected:
            at = n
            while at < len(lines) and re.fullmatch(r"tick \d+\n?", lines[at]):
                at += 1
            return len("".join(lines[:at]).encode())
    return None


class Replay:
    """`world` is what happens outside HTTP: called with each event of `events_before`."""

    def __init__(self, stand_in, lines, world, speed=1.0, patience=6.0):
        self.stand_in, self.lines, self.world = stand_in, lines, world
        self.speed, self.patience = speed, patience
        self.bindings, self.indexes, self.differences, self.streams = Bindings(), {}, [], {}
        self.start_index = stand_in.cluster.index
        self.last_seen, self.said, self.lock = {}, "", threading.Lock()
        self.each, self.timeout = lambda line: None, 12

    def run(self):
        groups = self.groups()
        start = time.monotonic()
        for group in groups:
            if len(self.differences) >= 8:
                self.differences.append("and no further: what follows a difference differs")
                break
            at = group[0].get("t") or 0
            for line in group:
                for event in line.get("events_before") or []:
                    self.wait_until(start, event["t"])
                    self.said = event["what"]
                    self.world(self, event["what"])
            self.wait_until(start, at)
            if len(group) == 1:
                self.play(group[0])
            else:
                self.play_together(group)
        return self.differences

    def wait_until(self, start, t):
        # Behind the gate time is only a lower bound: late is allowed, early is not.
        while (left := start + t / self.speed - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))

    def groups(self):
        """Requests that overlapped in the recording are sent together."""
        groups, end = [], -1.0
        for line in self.lines:
            t, duration = line.get("t"), line.get("dur") or 0
            if t is not None and t < end - 0.002 and line["request"]["method"] != "GET" and not line.get("events_before"):
                groups[-1].append(line)
            else:
                groups.append([line])
                end = (t or 0)
            end = max(end, (t or 0) + duration)
        return groups

    # -- requests ----------------------------------------------------------------------------------

    def request(self, line):
        asked = line["request"]
        self.bind_node(asked)
        path = self.bindings.put(asked["path"])
        query = dict(parse_qsl(asked["query"], keep_blank_values=True))
        raw = asked["query"]
        for key, value in query.items():
            value = self.bindings.put(value)
            if key == "index" and value.isdigit():
                value = str(self.indexes.get(value, value))
            if key == "offset" and value.lstrip("-").isdigit() and int(value) > 0 and query.get("origin") != "end":
                value = str(self.offset(asked, value))
            query[key] = value
        query = raw if "+" in raw and "filter" not in raw else urlencode(query)
        body = asked["body"]
        if body is not None and not isinstance(body, str):
            body = self.bindings.put(json.dumps(body))
        elif body and len(body) > 100:
            body = rebuilt(body, self.said)
        headers = {k: v for k, v in asked["headers"].items()}
        return asked["method"], path + ("?" + query if query else ""), body, headers

    def bind_node(self, asked):
        """Calls that name a node before any allocation did mean one of ours that is still free."""
        found = re.search(r"/v1/node/([0-9a-f-]{36})|\"NodeID\": \"([0-9a-f-]{36})", asked["path"] + json.dumps(asked["body"]))
        if found and (id := found[1] or found[2]) not in self.bindings.ours:
            free = [n for n in self.stand_in.cluster.nodes if n not in self.bindings.theirs]
            self.bindings.bind(id, free[0])
        found = re.search(r"/v1/allocation/([0-9a-f-]{36})/stop", asked["path"])
        if found and found[1] not in self.bindings.ours:  # nobody had asked for it
            for _ in range(400):
                if not self.stand_in.cluster.step(0.5):
                    break
            placed = sorted(self.stand_in.cluster.allocs.values(), key=lambda a: a.doc["CreateIndex"])
            if placed:  # none, where its job was stopped before servers came to it
                self.bindings.bind(found[1], placed[-1].id)

    def offset(self, asked, value):
        """The recorded reader's place, in our bytes."""
        length = self.streams.get((asked["path"], "stdout" in asked["query"]), {}).get(int(value))
        return length if length is not None else value

    def send(self, line):
        method, path, body, headers = self.request(line)
        connection = http.client.HTTPConnection("127.0.0.1", self.stand_in.port, timeout=self.timeout)
        try:
            connection.request(method, path, body.encode() if isinstance(body, str) else body, headers)
            answer = connection.getresponse()
            data = answer.read() if "follow=true" not in path else answer.read1()  # it never ends
            return answer.status, dict(answer.getheaders()), data
        except (ConnectionRefusedError, ConnectionResetError, TimeoutError, http.client.HTTPException) as error:
            return 0, {}, f"{type(error).__name__}: {error}".encode()
        finally:
            connection.close()

    # -- comparing -----------------------------------------------------------------------------------

    def compare(self, line, answer):
        with self.lock:
            self.compared(line, *answer)

    def compared(self, line, status, headers, data):
        if line["status"] != status:
            raise Different(f"status: recorded {line['status']} {str(line['body'])[:100]!r}, ours {status} "
                            f"{data[:160].decode(errors='replace')!r}")
        if status == 0:
            return
        for name in ("Content-Type", "Vary", "X-Nomad-Knownleader", "Content-Encoding") if line["headers"] else ():
            if line["headers"].get(name) != headers.get(name):
                raise Different(f"header {name}: recorded {line['headers'].get(name)}, ours {headers.get(name)}")
        if ("X-Nomad-Index" in line["headers"]) != ("X-Nomad-Index" in headers):
            raise Different(f"header X-Nomad-Index: recorded {line['headers'].get('X-Nomad-Index')}")
        if "/fs/logs/" in line["request"]["path"] and status == 200 and "Content-Encoding" not in headers:
            self.compare_log(line, data)
        elif headers.get("Content-Encoding") != "gzip" and not re.search("/fs/ls/|/client/metadata|/agent/self|per_page",
                                                                         line["request"]["path"] + line["request"]["query"]):
            text = data.decode(errors="backslashreplace")
            is_json = headers.get("Content-Type") == "application/json" and text
            bindings, recorded, ours = self.bindings.copy(), line["body"], json.loads(text) if is_json else text
            if isinstance(recorded, dict) and isinstance(ours, str):
                ours = json.loads(ours)  # the recorder read it as what it is, whatever its header says
            if line["request"]["path"].endswith("/evaluations") and isinstance(recorded, list):
                recorded, ours = idle(recorded), idle(ours)
            if line["request"]["path"] == "/v1/jobs" and isinstance(recorded, list):
                recorded, ours = self.known(recorded, ours)
            if line["request"]["path"] == "/v1/nodes":  # of a node's fingerprint only what we show at all
                recorded = [{k: v for k, v in node.items() if k in ours[0]} for node in recorded]
            unify(recorded, ours, bindings)
            self.bindings.ours, self.bindings.theirs = bindings.ours, bindings.theirs
        if "X-Nomad-Index" in headers:
            self.indexes[line["headers"]["X-Nomad-Index"]] = int(headers["X-Nomad-Index"])

    def known(self, recorded, ours):
        """Of a list of jobs, those that this recording itself started: others ran on that agent before."""
        first = next((int(l["headers"]["X-Nomad-Index"]) - (l["request"]["method"] != "GET") for l in self.lines
                      if l["headers"] and "X-Nomad-Index" in l["headers"]), 0)

        def mine(job, since, ids):
            return job["ParentID"] and (job["CreateIndex"] > since or any(i in job["ID"] for i in ids))

        by_age = {"key": lambda job: job["CreateIndex"]}  # the list's own order is that of random ids
        return (sorted([j for j in recorded if mine(j, first, self.bindings.ours)], **by_age),
                sorted([j for j in ours if mine(j, self.start_index, self.bindings.theirs)], **by_age))

    def compare_log(self, line, data):
        asked, recorded = line["request"], line["body"]
        query = dict(parse_qsl(asked["query"]))
        if isinstance(recorded, dict) or "follow" in query:
            return
        key = (asked["path"], "stdout" in asked["query"])
        ours, place = data.decode(errors="backslashreplace"), int(query.get("offset") or 0)
        want = self.bindings.put(str(recorded))
        matched = same_log(want, ours)
        if matched is None:
            raise Different(f"log: recorded {shape(want)[:200]!r}, ours {shape(ours)[:200]!r}")
        places = self.streams.setdefault(key, {0: 0})
        if query.get("origin") == "start" and place >= 0:
            begin = places.get(place, place)
            places[place + (line.get("bytes") or len(str(recorded).encode()))] = begin + matched

    # -- one line --------------------------------------------------------------------------------------

    def play(self, line):
        """Asks until the answer is the recorded one, letting one more change through each time."""
        last = None
        self.each(line)
        deadline = time.monotonic() + self.patience
        asked = line["request"]
        waiting = "wait=" in asked["query"] and "index=" in asked["query"]
        woken = waiting and line["status"] == 200 and (line.get("dur") or 0) < 4.9
        if woken and seen(line) == self.last_seen.get(asked["path"]):
            # Woken by another job of that agent, or by a change that does not show: not waited for here.
            waiting, woken, line = False, False, self.unblocked(line)
        self.last_seen[asked["path"]] = seen(line)
        while True:
            try:
                if woken and last is None:
                    answer = self.let_through_while_asking(line)
                else:
                    answer = self.send(self.unblocked(line) if waiting and last is not None else line)
                if last is None:
                    deadline = time.monotonic() + self.patience
                return self.compare(line, answer)
            except Different as difference:
                last = last or difference
                now = difference
            if "/fs/logs/" in asked["path"] and line["status"] == 200 and answer[0] == 200 and time.monotonic() < deadline:
                time.sleep(0.05)  # the process has not said it yet
            elif asked["method"] != "GET" or time.monotonic() > deadline or not self.step(deadline):
                self.differences.append(f"t={line.get('t')} {asked['method']} {asked['path'][-60:]}?{asked['query'][:60]}"
                                        f"\n      first: {last}\n      last:  {now}")
                return

    def let_through_while_asking(self, line):
        """A blocking query that was woken: it waits here too, until the change that wakes it comes through."""
        cluster, path = self.stand_in.cluster, self.bindings.put(line["request"]["path"]).replace("%2F", "/")

        def newest():
            if path == "/v1/jobs":
                return cluster.tables["jobs"]
            docs = cluster.evals.values() if path.endswith("/evaluations") else [a.doc for a in cluster.allocs.values()]
            return max((d["ModifyIndex"] for d in docs if f"/{d['JobID']}/" in path), default=0)

        before, answered = newest(), threading.Event()
        asked = re.search(r"index=(\d+)", self.request(line)[1])
        if (before or cluster.tables["evals" if path.endswith("/evaluations") else "allocs"]) > int(asked[1]):
            return self.send(line)  # there is news already

        def let_through():
            time.sleep(0.02)
            while newest() == before and not answered.is_set():
                cluster.step(0.02)

        thread = threading.Thread(target=let_through, daemon=True)
        thread.start()
        try:
            return self.send(line)
        finally:
            answered.set()
            thread.join()

    @staticmethod
    def unblocked(line):
        query = re.sub(r"index=\d+&wait=[^&]*", "", line["request"]["query"])
        return {**line, "request": {**line["request"], "query": query.strip("&")}}

    def step(self, deadline):
        return self.stand_in.cluster.step(max(0.05, min(deadline - time.monotonic(), self.patience)))

    def play_together(self, group):
        """A race: which side won it is the recording's, not ours to repeat by luck."""
        cluster = self.stand_in.cluster
        children = {(line["body"] or {}).get("DispatchedJobID") for line in group if isinstance(line["body"], dict)}
        usual, cluster.token_window = cluster.token_window, 1.0
        if len(children) == 1:  # the second came late enough to find the first
            cluster.token_window = usual
            for line in sorted(group, key=lambda l: not l["body"].get("EvalID")):
                self.play(line)
        else:
            # All looked for the token before the first was there: one child is real, the others are names only.
            threads = []
            for line in sorted(group, key=lambda l: l["body"]["Index"]):
                threads.append(threading.Thread(target=self.play, args=(line,)))
                threads[-1].start()
                time.sleep(0.15 if len(threads) == 1 else 0.0)
            for thread in threads:
                thread.join()
        cluster.token_window = usual
