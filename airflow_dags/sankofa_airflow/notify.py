"""Tells people that a run has failed or is late: webhook (generic JSON, Slack, Teams) or mail.

In:    a connection's id; Airflow's context of the callback. Out: one message a failed run.
Holds: the connection is asked of the environment first (AIRFLOW_CONN_<ID>), so that a Vault that is down
       keeps no alert from going out; what goes out is bounded and holds no secret; a message that
       cannot be sent is an error in the log and breaks nothing else.
Shape: by the connection's type (`smtp`; else a webhook) and its extra `shape`: json, slack, teams; found
       by the host where it is not set.
"""

from __future__ import annotations

import json
import os
import smtplib
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import requests

from sankofa_airflow import settings as all_settings
from sankofa_airflow.compat import BaseHook, BaseNotifier, Connection

if TYPE_CHECKING:
    from sankofa_airflow.compat import Context

TEXT_LIMIT = 500
WAIT_SECONDS = 15


class SankofaNotifier(BaseNotifier):
    """Sends a failed run to one connection. For `on_failure_callback` of a DAG."""

    template_fields = ()

    def __init__(self, conn_id: str, **base: Any) -> None:
        super().__init__(**base)
        self.conn_id = conn_id

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Nothing is a template; the stock one needs a DAG, which not every context of a callback has."""

    def notify(self, context: Context) -> None:
        """Send it."""
        send(self.conn_id, message_of(context))


async def tell_late(conn_ids: list[str], **kwargs: Any) -> None:
    """Callback of a deadline (Airflow 3.1+, in the triggerer)."""
    run = (kwargs.get("context") or {}).get("dag_run") or {}
    found = {"event": "late", "dag_id": run.get("dag_id"), "run_id": run.get("dag_run_id"), "task_id": None}
    for conn_id in conn_ids:
        send(conn_id, {**found, "text": f"{run.get('dag_id')} is late: it has not finished in its time", "url": None})


def message_of(context: Context) -> dict[str, Any]:
    """Return the message of a failed run: which, since when, what was said, where to look."""
    run, ti = context.get("dag_run"), context.get("task_instance") or context.get("ti")
    dag_id = getattr(run, "dag_id", None) or getattr(ti, "dag_id", None)
    task_id = getattr(ti, "task_id", None)
    reason = str(context.get("exception") or context.get("reason") or "failed")
    where = f"{dag_id}.{task_id}" if task_id else str(dag_id)
    return {
        "event": "failure",
        "dag_id": dag_id,
        "run_id": getattr(run, "run_id", None),
        "task_id": task_id,
        "text": f"{where} has failed: {reason}"[:TEXT_LIMIT],
        "url": getattr(ti, "log_url", None),
    }


def connection(conn_id: str) -> Any:
    """Return a connection, asking the environment before any secrets backend."""
    text = os.environ.get(f"AIRFLOW_CONN_{conn_id.upper()}")
    if not text:
        return BaseHook.get_connection(conn_id)
    if text.lstrip().startswith("{"):
        return Connection.from_json(text, conn_id=conn_id)
    try:
        return Connection(conn_id=conn_id, uri=text)
    except TypeError:
        return Connection.from_uri(text, conn_id=conn_id)


def send(conn_id: str, message: dict[str, Any]) -> None:
    """Send `message` by the connection; mail for type `smtp` and `email`, else a webhook."""
    conn = connection(conn_id)
    if conn.conn_type in ("smtp", "email"):
        mail(conn, message)
    else:
        post(conn, message)


def post(conn: Any, message: dict[str, Any]) -> None:
    """Post to a webhook: host, schema, port; extra `endpoint` = path, `headers`; password = bearer token."""
    extra = conn.extra_dejson
    host = str(conn.host or "")
    address = host if "://" in host else f"{conn.schema or 'https'}://{host}" + (f":{conn.port}" if conn.port else "")
    endpoint = str(extra.get("endpoint") or "").lstrip("/")
    headers = extra.get("headers") or {}
    headers = json.loads(headers) if isinstance(headers, str) else dict(headers)
    if conn.password:
        headers["Authorization"] = f"Bearer {conn.password}"
    body = shaped(str(extra.get("shape") or shape_of(host)), message)
    try:
        answer = requests.post(f"{address}/{endpoint}", json=body, headers=headers, timeout=WAIT_SECONDS)
    except requests.RequestException as error:
        raise RuntimeError(
            f"cannot tell {conn.conn_id}: {type(error).__name__}"
        ) from None  # an address may be a secret
    if answer.status_code >= 300:
        raise RuntimeError(f"cannot tell {conn.conn_id}: it answers {answer.status_code}")


def shape_of(host: str) -> str:
    """Return the shape that a host is known to want."""
    if "hooks.slack.com" in host:
        return "slack"
    return "teams" if "office.com" in host or "logic.azure.com" in host or "powerplatform.com" in host else "json"


def shaped(shape: str, message: dict[str, Any]) -> dict[str, Any]:
    """Return `message` as Slack or Teams want it; as it is for anybody else."""
    if shape == "slack":
        link = f" <{message['url']}|log>" if message.get("url") else ""
        return {"text": f":red_circle: {message['text']}{link}"}
    if shape == "teams":
        body: list[dict[str, Any]] = [{"type": "TextBlock", "text": message["text"], "wrap": True}]
        card: dict[str, Any] = {"type": "AdaptiveCard", "version": "1.4", "body": body}
        if message.get("url"):
            card["actions"] = [{"type": "Action.OpenUrl", "title": "Log", "url": message["url"]}]
        content = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        return {"type": "message", "attachments": [content]}
    return {"source": "sankofa", **message}


def mail(conn: Any, message: dict[str, Any]) -> None:
    """Send a mail to `[sankofa] mail_to`: extra `from_email`, `disable_ssl`, `disable_tls` as Airflow has them."""
    extra = conn.extra_dejson
    letter = EmailMessage()
    letter["Subject"] = str(message["text"]).splitlines()[0][:150]
    letter["From"] = extra.get("from_email") or conn.login or "sankofa@localhost"
    letter["To"] = ", ".join(all_settings.read().mail_to)
    letter.set_content("\n".join(f"{key}: {value}" for key, value in message.items() if value))
    is_ssl = str(extra.get("disable_ssl", "false")).lower() != "true"
    kind = smtplib.SMTP_SSL if is_ssl else smtplib.SMTP
    with kind(str(conn.host), conn.port or (465 if is_ssl else 25), timeout=WAIT_SECONDS) as server:
        if not is_ssl and str(extra.get("disable_tls", "false")).lower() != "true":
            server.starttls()
        if conn.login and conn.password:
            server.login(conn.login, conn.password)
        server.send_message(letter)
