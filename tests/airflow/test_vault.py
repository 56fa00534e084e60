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

POLICY = (Path(os.environ["SANKOFA_CHECKOUT"]) / "nomad/policies/airflow.hcl").read_text()


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
        put(f"auth/approle/role/sankofa-{role}", {"token_ttl": "10m", "token_policies": "rows"})
    put("sys/policies/acl/rows", {"policy": 'path "secret/data/*" { capabilities = ["read"] }'})
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
    wrapped = json.loads(minting("rows")["SANKOFA_WRAPPED_SECRET_ID"])["wrap_info"]["token"]

    def unwrap() -> Any:
        return requests.post(f"{server.url}/sys/wrapping/unwrap", headers={"X-Vault-Token": wrapped}, timeout=5)

    secret_id = unwrap().json()["data"]["secret_id"]
    assert unwrap().status_code == 400
    role_id = requests.get(f"{server.url}/auth/approle/role/sankofa-rows/role-id", headers=server.root, timeout=5).json()
    body = {"role_id": role_id["data"]["role_id"], "secret_id": secret_id}
    logins = [requests.post(f"{server.url}/auth/approle/login", json=body, timeout=5).status_code for _ in range(2)]
    assert logins == [200, 400]


PROJECT = """version: 1
secrets:
  - vault:
      address: ${VAULT_ADDR}
      mount: secret
      connections: connections
      variables: variables
      kv: 2
      auth: {approle: {role_id: "${ROLE_ID}", secret_id_env: SANKOFA_WRAPPED_SECRET_ID, wrapped: true}}
warehouse: {connection: warehouse, reader_role: metabase, after_role: marts}
"""


def test_a_container_logs_in_by_it_and_nothing_that_works_is_left_in_what_docker_shows(
    server, minting, on_docker, locks, context, school, settings, monkeypatch
):
    from sankofa_airflow.task import sankofa_task

    for name, uri in school.connections().items():
        if name.startswith("AIRFLOW_CONN_"):
            path = f"{server.url}/secret/data/connections/{name.removeprefix('AIRFLOW_CONN_').lower()}"
            requests.post(path, json={"data": {"conn_uri": uri}}, headers=server.root, timeout=5).raise_for_status()
    found = requests.get(f"{server.url}/auth/approle/role/sankofa-rows/role-id", headers=server.root, timeout=5).json()
    project = Path(os.environ["SANKOFA_WORK"]) / "vault-sankofa.yaml"
    project.write_text(PROJECT)
    settings(
        docker_environment={"VAULT_ADDR": f"http://{server.address}", "ROLE_ID": found["data"]["role_id"]},
        docker_mounts=[{"Type": "bind", "Source": str(project), "Target": "/etc/sankofa/sankofa.yaml", "ReadOnly": True}],
    )
    seen: list[str] = []
    operator = sankofa_task("t", "sync", "strict", lock=locks / "strict.lock.json")
    monkeypatch.setattr(operator, "remove", lambda one: (seen.append(json.dumps(operator.cli.inspect_container(one))),
                                                         operator.cli.remove_container(one, v=True, force=True)))  # fmt: skip
    with pytest.raises(AirflowFailException, match="65 .data refused."):  # so far: it logged in, and read both
        operator.execute(context(run="vault"))
    variables = json.loads(seen[0])["Config"]["Env"]
    wrapped = next(one.split("=", 1)[1] for one in variables if one.startswith("SANKOFA_WRAPPED_SECRET_ID="))
    token = {"X-Vault-Token": json.loads(wrapped)["wrap_info"]["token"]}
    assert requests.post(f"{server.url}/sys/wrapping/unwrap", headers=token, timeout=5).status_code == 400
    assert "not-a-secret-test" not in seen[0] and server.token not in seen[0]


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
