"""Plays a recording against the stand-in: the same requests in the same order, the same answers.

In:    one file of shared/data/nomad; a stand-in behind a gate, so that each change is seen in its turn.
Out:   the differences, as text.
Holds: ids, times and indexes are bound, not compared; a state that real polls were too slow to see may be passed
       over, a recorded one may not be missing.
Not compared: what stands in IGNORED, and figures of the machine (pids, node attributes, tick counts in logs).
"""

import gzip
import http.client
import itertools
import json
import re
import threading
import time
from urllib.parse import parse_qsl, urlencode

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CHILD = re.compile(r"(?:dispatch|periodic)-(?:[^\"]*?-)?(\d{10})(-[0-9a-f]{8})?")
NUMBERS = {"CreateIndex", "ModifyIndex", "JobModifyIndex", "Index", "EvalCreateIndex", "JobCreateIndex", "CreateTime",
           "ModifyTime", "SubmitTime", "Time", "SnapshotIndex", "AllocationTime", "NodeModifyIndex", "AllocModifyIndex",
           "StartDelay", "Version", "JobVersion", "Size"}
STAMPS = {"StartedAt", "FinishedAt", "LastRestart", "WaitUntil", "ModTime"}
# Parts of documents that no operator reads and that say how one machine was set up.
IGNORED = {"TaskGroups", "AllocatedResources", "Resources", "SharedResources", "TaskResources", "ClassEligibility",
           "NodeName", "Meta.connect", "Static", "Dynamic", "config", "member", "stats", "keys", "Metrics", "UI",
           "RescheduleTracker", "start_delay", "DeploymentStatus", "Attributes", "Drivers", "AllocStates",
           "NetworkStatus", "DesiredTransition", "NomadTokenID", "QueuedAllocations", "PlanAnnotations",
           "ResourcesExhausted", "SecretsMB", "Update", "issuer", "jwks_uri"}


class Different(Exception):
    pass


def load(path):
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


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
            if not isinstance(ours[key], int):
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
    text = re.sub(r"desc = .*", "desc", text)
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

    def __init__(self, stand_in, lines, world, speed=1.0, patience=4.0):
        self.stand_in, self.lines, self.world = stand_in, lines, world
        self.speed, self.patience = speed, patience
        self.bindings, self.indexes, self.differences, self.streams = Bindings(), {}, [], {}
        self.each, self.timeout = lambda line: None, 12

    def run(self):
        groups = self.groups()
        start = time.monotonic()
        for group in groups:
            at = group[0].get("t") or 0
            for line in group:
                for event in line.get("events_before") or []:
                    self.wait_until(start, event["t"])
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
        headers = {k: v for k, v in asked["headers"].items()}
        return asked["method"], path + ("?" + query if query else ""), body, headers

    def bind_node(self, asked):
        """Calls that name a node before any allocation did mean one of ours that is still free."""
        found = re.search(r"/v1/node/([0-9a-f-]{36})|\"NodeID\": \"([0-9a-f-]{36})", asked["path"] + json.dumps(asked["body"]))
        if found and (id := found[1] or found[2]) not in self.bindings.ours:
            free = [n for n in self.stand_in.cluster.nodes if n not in self.bindings.theirs]
            self.bindings.bind(id, free[0])

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
            data = answer.read()
            return answer.status, dict(answer.getheaders()), data
        except (ConnectionRefusedError, ConnectionResetError, TimeoutError, http.client.HTTPException) as error:
            return 0, {}, f"{type(error).__name__}: {error}".encode()
        finally:
            connection.close()

    # -- comparing -----------------------------------------------------------------------------------

    def compare(self, line, answer):
        status, headers, data = answer
        if line["status"] != status:
            raise Different(f"status: recorded {line['status']} {str(line['body'])[:100]!r}, ours {status} "
                            f"{data[:160].decode(errors='replace')!r}")
        if status == 0:
            return
        for name in ("Content-Type", "Vary", "X-Nomad-Knownleader", "Content-Encoding"):
            if line["headers"].get(name) != headers.get(name):
                raise Different(f"header {name}: recorded {line['headers'].get(name)}, ours {headers.get(name)}")
        if ("X-Nomad-Index" in line["headers"]) != ("X-Nomad-Index" in headers):
            raise Different(f"header X-Nomad-Index: recorded {line['headers'].get('X-Nomad-Index')}")
        if "/fs/logs/" in line["request"]["path"] and status == 200:
            self.compare_log(line, data)
        elif headers.get("Content-Encoding") != "gzip" and "/fs/ls/" not in line["request"]["path"]:
            text = data.decode(errors="backslashreplace")
            is_json = headers.get("Content-Type") == "application/json" and text
            bindings, recorded, ours = self.bindings.copy(), line["body"], json.loads(text) if is_json else text
            if line["request"]["path"] == "/v1/jobs" and isinstance(recorded, list):
                recorded, ours = self.known(recorded, ours)
            unify(recorded, ours, bindings)
            self.bindings.ours, self.bindings.theirs = bindings.ours, bindings.theirs
        if "X-Nomad-Index" in headers:
            self.indexes[line["headers"]["X-Nomad-Index"]] = int(headers["X-Nomad-Index"])

    def known(self, recorded, ours):
        """Of a list of jobs, those that this recording itself started: others ran on that agent before."""
        ids = {v for v in self.bindings.ours.values()}
        mine = [j for j in ours if any(i in j["ID"] for i in ids)]
        return [j for j in recorded if any(i in j["ID"] for i in self.bindings.ours)], mine

    def compare_log(self, line, data):
        asked, recorded = line["request"], line["body"]
        query = dict(parse_qsl(asked["query"]))
        if isinstance(recorded, dict) or "follow" in query:
            return
        key = (asked["path"], "stdout" in asked["query"])
        ours, place = data.decode(errors="backslashreplace"), int(query.get("offset", 0))
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
        if waiting and line["status"] == 200 and (line.get("dur") or 0) < 4.9:
            self.let_through_while_asking(line)
        while True:
            try:
                again = self.unblocked(line) if waiting and last is not None else line
                return self.compare(line, self.send(again))
            except Different as difference:
                last = last or difference
                now = difference
            if "/fs/logs/" in asked["path"] and time.monotonic() < deadline:
                self.stand_in.cluster.step(0.1)  # or the process has not said it yet
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

        def let_through():
            time.sleep(0.02)
            before, deadline = newest(), time.monotonic() + self.patience
            while newest() == before and cluster.step(max(0.0, deadline - time.monotonic())):
                pass

        threading.Thread(target=let_through, daemon=True).start()

    @staticmethod
    def unblocked(line):
        query = re.sub(r"index=\d+&wait=[^&]*", "", line["request"]["query"])
        return {**line, "request": {**line["request"], "query": query.strip("&")}}

    def step(self, deadline):
        return self.stand_in.cluster.step(max(0.05, min(deadline - time.monotonic(), self.patience)))

    def play_together(self, group):
        threads = [threading.Thread(target=self.play, args=(line,)) for line in group]
        begin = group[0]["t"]
        for line, thread in zip(group, threads):
            time.sleep(max(0.0, (line["t"] - begin)) / self.speed)
            begin = line["t"]
            thread.start()
        for thread in threads:
            thread.join()
