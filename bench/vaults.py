"""Ten ids from a real Vault on this machine, beside the same ten from the environment.

In:    the program, a Vault of the test bed.
Out:   [`Figure`]s: milliseconds that Vault adds to the whole command.
Holds: contestants take turns; both find all ten; the same connections stand in both places.
"""

import contextlib
import json
import os
import ssl
import subprocess
import tempfile
import time
import urllib.request

from cluster import free_port
from measure import Figure

IDS = [f"bench_{number}" for number in range(10)]
URI = "http://user:not-a-secret@example.invalid:80/path"
ROOT_TOKEN = "not-a-secret-root"
ROUNDS = 15


class Vault:
    """A development server, in memory: KV 2 under `secret`, a role for approle."""

    def __init__(self, program, folder, is_tls):
        self.port, self.folder, self.is_tls = free_port(), folder, is_tls
        self.address = f"{'https' if is_tls else 'http'}://127.0.0.1:{self.port}"
        flags = ["-dev-tls", f"-dev-tls-cert-dir={folder}"] if is_tls else ["-dev"]
        self.process = subprocess.Popen(
            [program, "server", *flags, f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{self.port}", "-dev-no-store-token"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )
        self.wait()
        for name in IDS:
            self.ask("POST", f"secret/data/connections/{name}", {"data": {"conn_uri": URI}})
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        self.ask("PUT", "sys/policies/acl/bench", {"policy": 'path "secret/data/*" { capabilities = ["read"] }'})
        self.ask("POST", "auth/approle/role/bench", {"token_policies": ["bench"]})

    def wait(self):
        """Until it is ready."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.ask("GET", "sys/health")
                return
            time.sleep(0.1)
        raise RuntimeError("Vault does not start")

    def ask(self, method, path, body=None):
        """One call with the root token."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/v1/{path}", data, {"X-Vault-Token": ROOT_TOKEN}, method=method)
        trust = ssl._create_unverified_context() if self.is_tls else None  # its own authority, made a moment ago
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            return json.loads(answer.read() or b"null")

    def place(self):
        """Its entry of `secrets:`, and the environment that goes with it."""
        settings = {"address": self.address, "mount": "secret", "kv": 2}
        if not self.is_tls:
            return {**settings, "auth": {"token": {}}}, {"VAULT_TOKEN": ROOT_TOKEN}
        role = self.ask("GET", "auth/approle/role/bench/role-id")["data"]["role_id"]
        secret = self.ask("POST", "auth/approle/role/bench/secret-id", {})["data"]["secret_id"]
        with open(f"{self.folder}/secret_id", "w", encoding="utf-8") as file:
            file.write(secret)
        login = {"approle": {"role_id": role, "secret_id_file": f"{self.folder}/secret_id"}}
        return {**settings, "ca_cert": f"{self.folder}/vault-ca.pem", "auth": login}, {}


def took(binary, folder, environment):
    """Milliseconds of one `secrets check` of all ids."""
    started = time.monotonic()
    done = subprocess.run(
        [binary, "secrets", "check", *IDS, "-q", "--json"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"secrets check: {done.returncode}\n{done.stderr}{done.stdout}")
    return (time.monotonic() - started) * 1000


def project(folder, place):
    """A project whose secrets are in one place. JSON is YAML."""
    os.makedirs(f"{folder}/pipelines", exist_ok=True)
    with open(f"{folder}/sankofa.yaml", "w", encoding="utf-8") as file:
        json.dump({"version": 1, "secrets": [place], "warehouse": {"connection": IDS[0]}}, file)
    for name in IDS[1:]:  # each id is one that the project names
        pipeline = {"source": name, "schema": name, "tables": {"public.t": {"mode": "full_refresh"}}}
        with open(f"{folder}/pipelines/{name}.yaml", "w", encoding="utf-8") as file:
            json.dump(pipeline, file)


def secrets(bench):
    """10 ids from a Vault, plain and with TLS and a login."""
    program = os.environ.get("VAULT_BIN") or f"{os.environ['SANKOFA_TESTBED']}/vault/vault"
    figures = []
    for is_tls, bound, words in ((False, 20, "token, no TLS"), (True, 50, "TLS and a login by approle")):
        with tempfile.TemporaryDirectory(prefix="sankofa-bench-vault-") as folder:
            vault = Vault(program, folder, is_tls)
            try:
                place, environment = vault.place()
                project(f"{folder}/vault", {"vault": place})
                project(f"{folder}/environment", "environment")
                given = {f"AIRFLOW_CONN_{name.upper()}": URI for name in IDS}
                added, whole = [], []
                for _ in range(ROUNDS):
                    floor = took(bench.binary, f"{folder}/environment", given)
                    whole.append(took(bench.binary, f"{folder}/vault", environment))
                    added.append(whole[-1] - floor)
            finally:
                vault.process.terminate()
                vault.process.wait()
        note = f"the whole command {sorted(whole)[len(whole) // 2]:.0f} ms"
        figures.append(Figure(f"10 ids from Vault, {words}: added to a command", added, " ms", bound, note))
    return figures
