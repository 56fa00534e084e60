"""Workload identity: signed tokens of tasks, the keys that check them, and the login to Vault with them.

In:    an allocation and the `identity` and `vault` blocks of a task.
Out:   JWTs (RS256) in environment and files; VAULT_TOKEN; what a template reads from Vault.
Holds: the key is made here, in memory, and is good for this stand-in alone.
"""

import base64
import functools
import hashlib
import json
import os
import random
import time
import urllib.error
import urllib.request
import uuid

from task import StartFailure

ISSUER = "http://127.0.0.1:14646"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def is_prime(n):
    if any(n % p == 0 for p in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
        return False
    d, s = n - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for _ in range(12):
        x = pow(random.randrange(2, n - 1), d, n)
        if x not in (1, n - 1) and not any((x := x * x % n) == n - 1 for _ in range(s - 1)):
            return False
    return True


@functools.cache
def key():
    """Modulus, private exponent and id of a fresh RSA key of 2048 bits (about half a second)."""
    source = random.SystemRandom()

    def prime():
        while not is_prime(n := source.getrandbits(1024) | 1 << 1023 | 1 << 1022 | 1):
            pass
        return n

    p, q = prime(), prime()
    return p * q, pow(65537, -1, (p - 1) * (q - 1)), str(uuid.uuid4())


def sign(claims):
    n, d, kid = key()
    head = base64url(json.dumps({"alg": "RS256", "kid": kid, "typ": "JWT"}).encode())
    text = f"{head}.{base64url(json.dumps(claims).encode())}"
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(text.encode()).digest()
    padded = b"\0\1" + b"\xff" * (256 - 3 - len(digest)) + b"\0" + digest
    return f"{text}.{base64url(pow(int.from_bytes(padded, 'big'), d, n).to_bytes(256, 'big'))}"


def jwks():
    n, _, kid = key()
    return {"keys": [{"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256",
                      "n": base64url(n.to_bytes(256, "big")), "e": "AQAB"}]}


def claims(allocation, task, name, audience, ttl=0):
    job = allocation.job
    parent, now = job.get("ParentID") or job["ID"], int(time.time())
    result = {"aud": audience[0] if len(audience) == 1 else audience, "iat": now, "nbf": now, "iss": ISSUER,
              "jti": str(uuid.uuid4()), "nomad_allocation_id": allocation.id, "nomad_job_id": parent,
              "nomad_namespace": job["Namespace"], "nomad_task": task,
              "sub": f"global:{job['Namespace']}:{parent}:{allocation.group['Name']}:{task}:{name}"}
    return {**result, "exp": now + ttl // 10**9} if ttl else result


def put(folder, name, text):
    with open(os.path.join(folder, "secrets", name), "w") as file:
        file.write(text)
    os.chmod(file.name, 0o600)


def write(allocation, name, spec, folder, environment):
    for wanted in spec.get("Identities") or []:
        token = sign(claims(allocation, name, wanted["Name"], wanted["Audience"], wanted["TTL"]))
        default = wanted["Name"] == "default"
        if wanted["Env"]:
            environment["NOMAD_TOKEN" if default else f"NOMAD_TOKEN_{wanted['Name']}"] = token
        if wanted["File"]:
            put(folder, "nomad_token" if default else f"nomad_{wanted['Name']}.jwt", token)
    if spec.get("Vault"):
        token = allocation.vault_token = login(allocation, name, spec["Vault"]["Role"])
        put(folder, "vault_token", token)
        if spec["Vault"].get("Env", True):
            environment["VAULT_TOKEN"] = token


def login(allocation, name, role):
    """What a client does for the `vault` block: a login with the task's identity at the path jwt-nomad."""
    address = allocation.cluster.vault
    if not address:
        raise StartFailure("Vault", "vault: failed to derive Vault token for identity vault_default: no Vault here")
    url = f"{address}/v1/auth/jwt-nomad/login"
    jwt = sign(claims(allocation, name, "vault_default", ["vault.io"], 3600 * 10**9))
    body = json.dumps({"role": role, "jwt": jwt}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=10) as answer:
            return json.load(answer)["auth"]["client_token"]
    except urllib.error.HTTPError as error:
        said = "\n".join(f"* {e}" for e in json.loads(error.read() or b"{}").get("errors", []))
        raise StartFailure("Vault", "vault: failed to derive Vault token for identity vault_default: failed to login "
                           f"with JWT: Error making API request.\n\nURL: PUT {url}\nCode: {error.code}. Errors:\n\n{said}")


def secret(allocation, path):
    request = urllib.request.Request(f"{allocation.cluster.vault}/v1/{path}",
                                     headers={"X-Vault-Token": getattr(allocation, "vault_token", "")})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            data = json.load(answer)["data"]
    except urllib.error.URLError as error:
        raise StartFailure("template", f"Template failed: vault.read({path}): {error}") from error
    return data.get("data", data)
