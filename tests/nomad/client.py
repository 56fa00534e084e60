"""The few calls that the tests make themselves."""

import json
import time
import urllib.error
import urllib.request
from urllib.parse import quote


class Client:
    def __init__(self, url, namespace="default", token=None):
        self.url, self.namespace, self.token = url, namespace, token

    def call(self, method, path, body=None, check=True):
        headers = {"X-Nomad-Token": self.token} if self.token else {}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            if check:
                raise AssertionError(f"{method} {path}: {error.code} {text.decode()}") from error
            return error.code, text

    def json(self, method, path, body=None):
        joined = "&" if "?" in path else "?"
        return json.loads(self.call(method, f"{path}{joined}namespace={self.namespace}", body)[1])

    def dispatch(self, parent, meta):
        return self.json("POST", f"/v1/job/{parent}/dispatch", {"Meta": meta})["DispatchedJobID"]

    def allocations(self, child):
        return self.json("GET", f"/v1/job/{quote(child, safe='')}/allocations")

    def until(self, child, wanted):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.allocations(child)
            if found and wanted(found[0]):
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"{child}: {found}")

    def running(self, child):
        return self.until(child, lambda a: a["ClientStatus"] == "running")

    def end(self, child):
        found = self.until(child, lambda a: a["ClientStatus"] in ("complete", "failed"))
        events = [e for s in found["TaskStates"].values() for e in s["Events"]]
        codes = [e["ExitCode"] for e in events if e["Type"] == "Terminated"]
        return {"alloc": found["ID"], "exit_code": codes[-1] if codes else None, "events": [e["Type"] for e in events]}

    def logs(self, alloc, task, stream):
        path = f"/v1/client/fs/logs/{alloc}?task={task}&type={stream}&origin=start&offset=0&plain=true"
        return self.call("GET", path)[1].decode(errors="replace")

    def stop(self, child):
        return self.json("DELETE", f"/v1/job/{quote(child, safe='')}?purge=false")
