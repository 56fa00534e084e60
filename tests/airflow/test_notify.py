"""Alerts against a real HTTP server: what arrives, in which shape, and from where the connection comes."""

from __future__ import annotations

import http.server
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from sankofa_airflow.notify import SankofaNotifier


@pytest.fixture
def inbox() -> Any:
    got: list[Any] = []

    class Inbox(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inbox)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(got=got, port=server.server_address[1])
    server.shutdown()


def failed(**more: Any) -> dict[str, Any]:
    run = SimpleNamespace(dag_id="sankofa_hr", run_id="r1")
    ti = SimpleNamespace(dag_id="sankofa_hr", task_id="load", log_url="http://airflow/log")
    return {"dag_run": run, "ti": ti, "exception": "x" * 2000, **more}


def connection(inbox: Any, **extra: Any) -> str:
    return json.dumps({"conn_type": "http", "host": "127.0.0.1", "schema": "http", "port": inbox.port, "password": "not-a-secret", "extra": extra})


def test_a_failed_run_is_told_to_a_webhook_with_its_token_and_a_bounded_text(inbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", connection(inbox, endpoint="/hook", headers={"X-Who": "sankofa"}))
    SankofaNotifier(conn_id="alerts").notify(failed())
    [(path, headers, body)] = inbox.got
    assert path == "/hook" and headers["Authorization"] == "Bearer not-a-secret" and headers["X-Who"] == "sankofa"
    assert (body["source"], body["event"], body["dag_id"], body["task_id"]) == ("sankofa", "failure", "sankofa_hr", "load")
    assert len(body["text"]) <= 500 and body["url"] == "http://airflow/log"


@pytest.mark.parametrize(("shape", "key"), [("slack", "text"), ("teams", "attachments")])
def test_slack_and_teams_get_their_own_shape(inbox, monkeypatch, shape, key):
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", connection(inbox, shape=shape))
    SankofaNotifier(conn_id="alerts").notify(failed())
    assert key in inbox.got[0][2]


def test_an_alert_goes_out_though_the_secrets_backend_is_down(inbox, monkeypatch):
    from sankofa_airflow.compat import BaseHook

    def down(*_: Any) -> None:
        raise RuntimeError("Vault is sealed")

    monkeypatch.setattr(BaseHook, "get_connection", down)
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", connection(inbox))
    SankofaNotifier(conn_id="alerts").notify(failed())
    assert len(inbox.got) == 1


def test_an_alert_that_does_not_arrive_is_an_error_without_the_address(inbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS", connection(inbox, endpoint="broken"))
    with pytest.raises(RuntimeError, match="cannot tell alerts: it answers 500") as raised:
        SankofaNotifier(conn_id="alerts").notify(failed())
    assert str(inbox.port) not in str(raised.value)
