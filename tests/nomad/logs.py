"""The logs call: offsets in bytes from the oldest file still there, frames, follow.

In:    the query of a logs call.
Out:   what the files hold from there, or the error that a real client gave.
"""

import json
import os
import time

from allocation import stamp
from cluster import Refused
from task import frame


def source(api, id, query):
    """The log files that the query means."""
    if not id:
        raise Refused(400, "must provide a valid alloc id")
    if "task" not in query:
        raise Refused(400, "must provide task name")
    if query.get("type") not in ("stdout", "stderr"):
        raise Refused(400, "must provide log type (stdout/stderr)")
    if query.get("plain", "false") not in ("true", "false", "1", "0"):
        raise Refused(400, f'failed to parse plain field to boolean: strconv.ParseBool: parsing "{query["plain"]}": '
                      "invalid syntax")
    if query.get("origin", "start") not in ("start", "end"):
        raise Refused(400, "origin must be start or end")
    offset = query.get("offset") or "0"
    if not offset.lstrip("-").isdigit():
        raise Refused(400, f'error parsing offset: strconv.ParseInt: parsing "{offset}": invalid syntax')
    if len(id) != 36:
        raise Refused(500, "alloc lookup failed: index error: UUID must be 36 characters")
    allocation = api.cluster.allocs.get(id)
    if not allocation or allocation.job.get("logs_gone"):
        raise Refused(404, f'Unknown allocation "{id}"')
    if not allocation.node.up:
        raise Refused(404, "No path to node")
    if allocation.collected:
        raise Refused(404, f"state for allocation {id} not found on client")
    if not allocation.known:
        raise Refused(404, f'Unknown allocation "{id}"')
    if query["task"] not in allocation.specs:
        raise Refused(400, f'unknown task name "{query["task"]}"')
    if query["task"] not in allocation.readable:
        raise Refused(404, f'task "{query["task"]}" not started yet. No logs available')
    return allocation.tasks[query["task"]].logs[query["type"]]


def part(data, query):
    offset = int(query.get("offset") or "0")
    if query.get("origin") == "end":
        return data[-offset:] if offset else data
    return data[offset:]


def serve(api, id, query):
    files = source(api, id, query)
    plain = query.get("plain", "false") in ("true", "1")
    name = f"alloc/logs/{query['task']}.{query['type']}.{files.number}"
    kind = "text/plain" if plain else "application/json"
    if query.get("follow") == "true":
        return follow(api, files, query, plain, name, kind)
    whole = files.read()
    data = part(whole, query)
    if not plain and data:
        data = json.dumps(frame(data, name, len(whole)), separators=(",", ":")).encode()
    api.send(200, raw=data, kind=kind)


def follow(api, files, query, plain, name, kind):
    """Never ends by itself, also after the task is dead; framed it beats each second."""
    api.send_response_only(200)
    for header, value in (("Vary", "Origin"), ("Content-Type", kind), ("Transfer-Encoding", "chunked")):
        api.send_header(header, value)
    api.send_header("Date", api.date_time_string())
    api.end_headers()
    sent, beat = 0, time.monotonic()
    try:
        while not api.cluster.closed.is_set():
            data = part(files.read(), query)[sent:]
            sent += len(data)
            if data:
                api.chunk(data if plain else json.dumps(frame(data, name, sent), separators=(",", ":")).encode())
            elif not plain and time.monotonic() - beat >= 1:
                beat = time.monotonic()
                api.chunk(b"{}")
            time.sleep(0.1)
    except OSError:
        api.close_connection = True


def listing(api, allocation, path):
    folder = os.path.join(allocation.folder, path)
    found = [{"FileMode": "-rw-r--r--", "IsDir": False, "ModTime": stamp(), "Name": name,
              "Size": os.path.getsize(os.path.join(folder, name))} for name in sorted(os.listdir(folder))]
    api.send(200, found)
