"""A wrapped secret_id from a real Vault: minted for one class, opened once, worth nothing afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from sankofa_airflow import settings as all_settings
from sankofa_airflow import vault
from sankofa_airflow.compat import AirflowException, AirflowFailException

PROGRAM = Path(os.environ["SANKOFA_TESTBED"]) / "vault/vault"

POLICY = """
path "auth/approle/role/sankofa-rows/secret-id" {
  capabilities = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "5m"
}
"""


@pytest.fixture(scope="module")
def server() -> Any:
    """A Vault with two roles and a token that may mint for one of them."""
    if not PROGRAM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot find {PROGRAM}")
        pytest.skip(f"!!! NOT TESTED: {PROGRAM} is missing")
    from school import free_port

    address = f"127.0.0.1:{free_port()}"
    words = [str(PROGRAM), "server", "-dev", "-dev-root-token-id=not-a-secret-root", f"-dev-listen-address={address}"]
    environment = {**os.environ, "HOME": os.environ["SANKOFA_WORK"]}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    one = SimpleNamespace(address=address, url=f"http://{address}/v1", root={"X-Vault-Token": "not-a-secret-root"})
    for _ in range(200):
        try:
            if requests.get(f"{one.url}/sys/health", timeout=2).ok:
                break
        except requests.RequestException:
            time.sleep(0.1)
    put = lambda path, body: requests.post(f"{one.url}/{path}", json=body, headers=one.root, timeout=5).raise_for_status()  # noqa: E731
    put("sys/auth/approle", {"type": "approle"})
    for role in ("rows", "backup"):
        put(f"auth/approle/role/sankofa-{role}", {"token_ttl": "10m"})
    put("sys/policies/acl/airflow", {"policy": POLICY})
    made = requests.post(f"{one.url}/auth/token/create", json={"policies": ["airflow"]}, headers=one.root, timeout=5).json()
    one.token = made["auth"]["client_token"]
    yield one
    process.terminate()
    process.wait(10)


@pytest.fixture
def minting(server: Any, monkeypatch: Any, settings: Any) -> Any:
    host, port = server.address.split(":")
    conn = {"conn_type": "vault", "host": host, "port": int(port), "schema": "http", "password": server.token}
    monkeypatch.setenv("AIRFLOW_CONN_SANKOFA_VAULT", json.dumps(conn))
    settings(vault_conn_id="sankofa_vault")
    return lambda privilege: vault.mint(all_settings.read(), SimpleNamespace(privilege=privilege))


def test_what_is_minted_opens_once_and_logs_in_once(server, minting):
    wrapped = minting("rows")["SANKOFA_WRAPPED_SECRET_ID"]

    def unwrap() -> Any:
        return requests.post(f"{server.url}/sys/wrapping/unwrap", headers={"X-Vault-Token": wrapped}, timeout=5)

    secret_id = unwrap().json()["data"]["secret_id"]
    assert unwrap().status_code == 400
    role_id = requests.get(f"{server.url}/auth/approle/role/sankofa-rows/role-id", headers=server.root, timeout=5).json()
    body = {"role_id": role_id["data"]["role_id"], "secret_id": secret_id}
    logins = [requests.post(f"{server.url}/auth/approle/login", json=body, timeout=5).status_code for _ in range(2)]
    assert logins == [200, 400]


def test_airflow_may_mint_for_rows_only_and_only_wrapped(server, minting):
    with pytest.raises(AirflowFailException, match="403 to auth/approle/role/sankofa-backup/secret-id .77."):
        minting("backup")
    own = {"X-Vault-Token": server.token}
    bare = requests.post(f"{server.url}/auth/approle/role/sankofa-rows/secret-id", headers=own, json={}, timeout=5)
    assert bare.status_code in (400, 403)


def test_a_vault_that_is_sealed_or_away_is_retried(server, minting, monkeypatch):
    conn = {"conn_type": "vault", "host": "127.0.0.1", "port": 1, "schema": "http", "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_SANKOFA_VAULT", json.dumps(conn))
    with pytest.raises(AirflowException, match="cannot reach Vault") as raised:
        minting("rows")
    assert type(raised.value) is AirflowException
