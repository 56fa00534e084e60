"""What stands around Airflow: Vault, an S3 server, who is told of failures, the image.

In:    the test bed, docker/compose/vault.sh, docker/Dockerfile. Out: one class a part.
Holds: each part is a real one; each can be taken away and given back; all of it is gone at the end.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import requests
from postgres import free_port
from waiting import until

BED = Path(os.environ["SANKOFA_TESTBED"])
CHECKOUT = Path(os.environ["SANKOFA_CHECKOUT"])
BINARY = Path(os.environ["SANKOFA_BINARY"])
IMAGE = "sankofa:platform"
ROOT_TOKEN = "not-a-secret-root"
AIRFLOW_TOKEN = "not-a-secret-airflow"


def answers(url: str) -> bool:
    """Whether somebody answers there, whatever."""
    try:
        return requests.get(url, timeout=2).status_code < 600
    except requests.RequestException:
        return False


def run(*words: Any, **more: Any) -> str:
    """Run a program to its end; return what it prints. Fails with what it said."""
    done = subprocess.run([str(one) for one in words], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, (words, done.returncode, done.stdout[-1500:], done.stderr[-3000:])
    return done.stdout.strip()


class Vault:
    """A real Vault, filled by the script of docker/compose.yaml."""

    def __init__(self, work: Path) -> None:
        program = os.environ.get("VAULT_BIN") or str(BED / "vault/vault")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "HOME": str(work), "VAULT_ADDR": self.url, "VAULT_TOKEN": ROOT_TOKEN,
                            "PATH": f"{Path(program).parent}:{os.environ['PATH']}"}  # fmt: skip
        words = [program, "server", "-dev", f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{self.port}"]
        self.log = work / "vault.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, env=self.environment)
        until("Vault answers", lambda: answers(f"{self.url}/v1/sys/health"), 60)

    def fill(self, **settings: str) -> None:
        """Run the set-up script; then what this platform has beyond the laptop's."""
        script = CHECKOUT / "docker/compose/vault.sh"
        own = {"POLICIES": str(CHECKOUT / "nomad/policies"), "AIRFLOW_VAULT_TOKEN": AIRFLOW_TOKEN, **settings}
        run("/bin/sh", script, env={**self.environment, **own})

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        """Ask as root; return the answer's object."""
        all_headers = {"X-Vault-Token": ROOT_TOKEN, **headers}
        answer = requests.request(method, f"{self.url}/v1/{path}", json=body, headers=all_headers, timeout=10)
        assert answer.ok, (path, answer.status_code, answer.text)
        return dict(answer.json()) if answer.content else {}

    def seal(self) -> None:
        """Seal it: it answers 503 to everything."""
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        """Give it back."""
        text = self.log.read_text()
        self.ask("PUT", "sys/unseal", {"key": text.split("Unseal Key:")[1].split()[0]})

    def wrapped(self, role: str) -> str:
        """A wrapped secret id of `role`, as its launcher asks for it."""
        body = {"num_uses": 1, "ttl": "10m"}
        return json.dumps(self.ask("POST", f"auth/approle/role/{role}/secret-id", body, **{"X-Vault-Wrap-TTL": "120s"}))

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


class S3:
    """versitygw on a folder with one bucket, `backups`."""

    KEY, SECRET = "sankofa", "not-a-secret-s3"

    def __init__(self, work: Path) -> None:
        self.home, self.port = work / "s3", free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (self.home / "backups").mkdir(parents=True)
        (work / "s3-versions").mkdir()
        words = [str(BED / "s3/versitygw"), "--port", f"127.0.0.1:{self.port}", "--health", "/health", "posix",
                 "--versioning-dir", str(work / "s3-versions"), str(self.home)]  # fmt: skip
        environment = {**os.environ, "ROOT_ACCESS_KEY_ID": self.KEY, "ROOT_SECRET_ACCESS_KEY": self.SECRET}
        with (work / "s3.log").open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, env=environment)
        until("the S3 server answers", lambda: answers(f"{self.url}/health"), 60)

    def objects(self) -> list[str]:
        """All that lies in the bucket, unfinished uploads too."""
        home = self.home / "backups"
        return sorted(str(one.relative_to(home)) for one in home.rglob("*") if one.is_file())

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


class Redis:
    """The broker of Celery."""

    def __init__(self, work: Path) -> None:
        run(CHECKOUT / "tests/testbed/redis.sh", BED)
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        words = [str(BED / "redis/run"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(work)]
        with (work / "redis.log").open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out)
        until("Redis answers", lambda: "Ready to accept" in (work / "redis.log").read_text(), 60)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


class Inbox:
    """A webhook that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        inbox = self

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.connection = f"http://127.0.0.1:{self.server.server_address[1]}/http"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self) -> list[tuple[str, str]]:
        """What it was told: event and DAG, in order."""
        return [(one["event"], one["dag_id"]) for one in self.got]


class Engine:
    """The bed's Docker engine with the real image, built by the real Dockerfile for one major."""

    def __init__(self, work: Path, major: int) -> None:
        self.script = CHECKOUT / "tests/testbed/docker.sh"
        self.url = run(self.script, "base").splitlines()[-1]
        self.environment = {**os.environ, "DOCKER_HOST": self.url}
        context = work / "context"
        run("strip", "-o", work / "sankofa", BINARY)
        version, revision = run(CHECKOUT / "docker/context.sh", work / "sankofa", context).split()
        self.docker("build", "-q", "--network", "host", "-f", CHECKOUT / "docker/Dockerfile", "--build-arg", f"MAJORS={major}",
                    "--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={revision}", "-t", IMAGE, context)  # fmt: skip

    def docker(self, *words: Any) -> str:
        """Run the `docker` program."""
        return run("docker", *words, env=self.environment)

    def containers(self, *filters: str) -> list[str]:
        """Ids of all containers of this platform, ended ones too; those that `filters` leave."""
        words = [word for one in ("label=sankofa.instance=platform", *filters) for word in ("--filter", one)]
        return self.docker("ps", "-aq", "--no-trunc", *words).split()

    def volumes(self) -> list[str]:
        """Every volume there is."""
        return self.docker("volume", "ls", "-q").split()

    def kill(self) -> None:
        """Kill dockerd as the kernel would for want of memory, and start it again; its containerd dies with it."""
        home = Path(os.environ.get("SANKOFA_DOCKER_BED") or BED).resolve() / "docker"
        files = [home / "pid", home / "exec/containerd/containerd.pid"]
        pids = [int(one.read_text()) for one in files]
        os.kill(pids[0], 9)
        until("dockerd is gone", lambda: not any(is_alive(pid) for pid in pids), 60)
        files[1].unlink(missing_ok=True)  # it would be looked for, where nobody reaps the dead
        run(self.script, "start")


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only its name."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
