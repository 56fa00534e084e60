"""Pods log in to a real Vault by their projected token, which a real API server reviews."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from cluster import configure, token_of
from sankofa_airflow.compat import AirflowFailException
from sankofa_airflow.contract import End
from sankofa_airflow.kubernetes_pod import Pod
from sankofa_airflow.task import sankofa_task

BUILT = (Path(os.environ["SANKOFA_TESTBED"]) / "vault").resolve()
PROGRAM = os.environ.get("VAULT_BIN") or shutil.which("vault") or shutil.which("bao") or f"{BUILT}/vault"
PLUGINS = BUILT / "plugins"  # as tests/testbed/vault.sh built it; Vault's own releases have all in one
ROOT = "not-a-secret-root"
PROJECT = """version: 1
secrets:
  - vault:
      address: ADDRESS
      mount: airflow
      kv: 2
      auth: {kubernetes: {role: ROLE, file: /var/run/secrets/sankofa/token}}
warehouse: {connection: warehouse, reader_role: metabase, after_role: marts}
"""
IDS = ("hr_db", "warehouse", "hmac_key")
READS = """path "airflow/data/*" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"""


@pytest.fixture(scope="module")
def vault(node: Any, school: Any) -> Any:
    """A Vault that asks the node's API server, and a role for the pods of `sankofa-rows`."""
    assert os.access(PROGRAM, os.X_OK), f"cannot find {PROGRAM}: run `make testbed`"
    from school import free_port

    address = f"127.0.0.1:{free_port()}"
    words = [PROGRAM, "server", "-dev", f"-dev-root-token-id={ROOT}", f"-dev-listen-address={address}"]
    words += [f"-dev-plugin-dir={PLUGINS}"] if is_built() else []
    environment = {**os.environ, "HOME": os.environ["SANKOFA_WORK"]}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    one = SimpleNamespace(url=f"http://{address}")
    try:
        node.until("Vault answers", lambda: requests.get(f"{one.url}/v1/sys/health", timeout=2).ok)
        one.put = lambda path, body: put(one.url, path, body)
        fill(one, node, school)
        yield one
    finally:
        process.terminate()
        process.wait(10)


def is_built() -> bool:
    """Whether the Vault is that of the test bed, whose plugins are programs of their own."""
    return f"{BUILT}/vault" == PROGRAM


def put(url: str, path: str, body: dict[str, Any]) -> None:
    """Write to Vault as root."""
    answer = requests.put(f"{url}/v1/{path}", json=body, headers={"X-Vault-Token": ROOT}, timeout=10)
    assert answer.ok, answer.text


def fill(vault: Any, node: Any, school: Any) -> None:
    """Secrets, the auth method with Vault's own account at the API server, and two roles."""
    vault.put("sys/mounts/airflow", {"type": "kv", "options": {"version": "2"}})
    for name, value in school.connections().items():
        kind, _, short = name.removeprefix("AIRFLOW_").partition("_")
        path = f"{'connections' if kind == 'CONN' else 'variables'}/{short.lower()}"
        fields = {"conn_uri" if kind == "CONN" else "value": value}
        node.until("the engine is ready", lambda p=path, f=fields: vault.put(f"airflow/data/{p}", {"data": f}) is None)
    vault.put("sys/auth/kubernetes", {"type": "vault-plugin-auth-kubernetes" if is_built() else "kubernetes"})
    vault.put("auth/kubernetes/config", {
        "kubernetes_host": node.url, "kubernetes_ca_cert": Path(node.at("pki/ca.crt")).read_text(),
        "disable_local_ca_jwt": True, "token_reviewer_jwt": token_of(node, "vault", "vault"),
    })  # fmt: skip
    vault.put("sys/policies/acl/reads", {"policy": READS})
    for role, audience in (("sankofa-rows", "vault"), ("elsewhere", "another")):
        vault.put(f"auth/kubernetes/role/{role}", {
            "bound_service_account_names": ["sankofa-rows"], "bound_service_account_namespaces": ["sankofa"],
            "audience": audience, "token_policies": ["reads"], "token_no_default_policy": True,
        })  # fmt: skip
        configure(node, role, PROJECT.replace("ADDRESS", vault.url).replace("ROLE", role))


@pytest.fixture
def by_vault(on_kubernetes: Any, vault: Any, settings: Any) -> Any:
    """Pods that get no secret but their own token."""
    settings(kubernetes_environment={}, kubernetes_config_map="sankofa-rows")
    return on_kubernetes


def checked(locks: Any, context: Any, account: str = "sankofa-rows") -> tuple[End, list[str]]:
    """How a pod ends, and what it logs, that is as the operator makes it but runs `secrets check`."""
    operator = sankofa_task("sync", "sync", "hr", lock=locks / "hr.lock.json", hostnetwork=True)
    operator.fill(operator.make_order(context()))
    operator.arguments = ["secrets", "check", *IDS]
    body = operator.build_pod_request_obj(context())
    body.spec.service_account_name = account
    lines: list[str] = []
    pod = Pod(operator.client, "sankofa", operator.name, SimpleNamespace(info=lambda _, line: lines.append(line)))
    assert pod.create(body)
    end = pod.follow()
    pod.delete()
    return end, lines


def test_a_pod_logs_in_by_its_own_token_and_secrets_check_says_where_each_id_is(by_vault, vault, locks, context):
    end, lines = checked(locks, context)
    assert end.status == 0, (end, lines)
    report = next(json.loads(line) for line in lines if line.startswith("{"))
    assert {(one["id"], one["place"]) for one in report["secrets"]} == {(one, f"Vault at {vault.url}") for one in IDS}
    assert "not-a-secret" not in "".join(lines) and "not-a-secret" not in json.dumps(end.result)


def test_a_task_gets_every_secret_by_its_pods_identity_and_none_passes_through_airflow(by_vault, locks, context):
    operator = sankofa_task("sync", "sync", "records", lock=locks / "records.lock.json", hostnetwork=True)
    result = operator.execute(context(run="vault"))
    assert result["status"] == "ok" and result["rows"] > 0
    assert not [one for one in operator.env_vars if "CONN" in one.name or "not-a-secret" in one.value]


def test_a_token_of_another_audience_or_of_another_account_is_refused_with_77(by_vault, locks, context, settings):
    assert checked(locks, context, account="sankofa-backup")[0].status == 77
    settings(kubernetes_config_map="elsewhere")  # whose role wants another audience
    operator = sankofa_task("sync", "sync", "records", lock=locks / "records.lock.json", hostnetwork=True)
    with pytest.raises(AirflowFailException, match="77 .no permission.: cannot log in to Vault"):
        operator.execute(context(run="audience"))


def test_what_vault_made_is_given_back(by_vault, vault, locks, context):
    def accessors() -> int:
        answer = requests.request(
            "LIST", f"{vault.url}/v1/auth/token/accessors", headers={"X-Vault-Token": ROOT}, timeout=10
        )
        return len(answer.json()["data"]["keys"])

    before = accessors()
    assert checked(locks, context)[0].status == 0
    assert accessors() == before
