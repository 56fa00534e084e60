"""A secret_id for one container, wrapped: it opens once, and a second opening is seen.

In:    a connection whose password is a Vault token, or whose login and password are an approle's
       role_id and secret_id; a policy that may `update` `auth/approle/role/sankofa-rows/secret-id`,
       with a minimum wrapping TTL, and nothing else.
Out:   SANKOFA_WRAPPED_SECRET_ID. Holds: no credential that works after the container's login is ever
       here: what Airflow holds is the wrapping token, for TTL seconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

from sankofa_airflow.compat import AirflowException, AirflowFailException, BaseHook

if TYPE_CHECKING:
    from sankofa_airflow.order import Order
    from sankofa_airflow.settings import Settings

TTL_SECONDS = 120
WAIT_SECONDS = 10


def mint(settings: Settings, order: Order) -> dict[str, str]:
    """Return the variable with a wrapped secret_id of the role of the order's class.

    Raises AirflowFailException where Vault refuses (77), AirflowException where it cannot be reached.
    Costs one or two requests.
    """
    conn = BaseHook.get_connection(settings.vault_conn_id)
    extra = conn.extra_dejson
    address = f"{conn.schema or 'https'}://{conn.host}:{conn.port or 8200}"
    session = requests.Session()
    session.verify = extra.get("ca_cert") or True
    if extra.get("namespace"):
        session.headers["X-Vault-Namespace"] = extra["namespace"]
    session.headers["X-Vault-Request"] = "true"
    session.headers["X-Vault-Token"] = token_of(session, address, conn)
    role = settings.of_class(settings.vault_role, order.privilege)
    wrap = {"X-Vault-Wrap-TTL": f"{TTL_SECONDS}s"}
    mount = extra.get("approle_mount", "approle")
    answer = ask(session, f"{address}/v1/auth/{mount}/role/{role}/secret-id", {"num_uses": 1, "ttl": "10m"}, wrap)
    # The whole answer: the binary looks up where it was made, and tells expired from stolen by its time.
    return {"SANKOFA_WRAPPED_SECRET_ID": json.dumps(answer)}


def token_of(session: requests.Session, address: str, conn: Any) -> str:
    """Return the token Airflow asks with: the password itself, or what an approle logs in to."""
    if not conn.login:
        return str(conn.password or "")
    mount = conn.extra_dejson.get("approle_mount", "approle")
    body = {"role_id": conn.login, "secret_id": conn.password}
    return str(ask(session, f"{address}/v1/auth/{mount}/login", body, {})["auth"]["client_token"])


def ask(session: requests.Session, url: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    """POST to Vault; its errors are told without what was sent."""
    path = url.split("/v1/", 1)[1]
    try:
        answer = session.post(url, json=body, headers=headers, timeout=WAIT_SECONDS)
    except requests.RequestException as error:
        raise AirflowException(f"cannot reach Vault for {path}: {type(error).__name__}") from None
    if answer.status_code in (400, 403, 404):
        raise AirflowFailException(f"cannot mint a secret_id: Vault answers {answer.status_code} to {path} (77)")
    if answer.status_code != 200:  # 429, 500, 503: standby, sealed
        raise AirflowException(f"cannot mint a secret_id: Vault answers {answer.status_code} to {path}")
    found: dict[str, Any] = answer.json()
    return found
