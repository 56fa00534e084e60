"""docker/compose.yaml: read, held to rules, and its services run as local processes in its own order.

No image is pulled here. What is run for real: the five PostgreSQL servers with the set-up scripts that the file mounts,
Vault with its set-up, the S3 server, and a sync through all of it. Not run: Airflow's and Metabase's images (Airflow itself is
tested by tests/airflow), and the engine's own reading of the file.
"""

import base64
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
BED = pathlib.Path(os.environ.get("SANKOFA_TESTBED") or CHECKOUT / ".testbed").resolve()
BINARY = pathlib.Path(os.environ.get("SANKOFA_BINARY") or CHECKOUT / "target/debug/sankofa")
FILE = CHECKOUT / "docker/compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]
ONCE = {"vault-setup", "airflow-migrate"}


def environment(name):
    return {k: str(v) for k, v in (SERVICES[name].get("environment") or {}).items()}


def waits_for(name):
    return SERVICES[name].get("depends_on") or {}


def order():
    """The services, each after all that it waits for."""
    done = []
    while len(done) < len(SERVICES):
        ready = [n for n in SERVICES if n not in done and set(waits_for(n)) <= set(done)]
        if not ready:
            raise AssertionError(f"a circle among {set(SERVICES) - set(done)}")
        done += ready
    return done


class File(unittest.TestCase):
    def test_the_whole_platform_is_there(self):
        self.assertEqual({"source-hr", "source-records", "source-service-desk", "warehouse", "drill", "vault", "vault-setup", "s3",
                          "airflow-db", "airflow-migrate", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor",
                          "airflow-triggerer", "metabase"}, set(SERVICES))

    def test_every_service_that_stays_has_a_health_check_and_every_other_is_waited_for_until_its_end(self):
        for name, service in SERVICES.items():
            self.assertEqual(name in ONCE, "healthcheck" not in service, name)
            if name in ONCE:
                self.assertEqual("no", service["restart"])
            for other, how in waits_for(name).items():
                wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
                self.assertEqual(wanted, how["condition"], f"{name} waits for {other}")

    def test_nothing_starts_before_what_it_needs(self):
        place = {name: n for n, name in enumerate(order())}
        for before, after in (("vault", "vault-setup"), ("airflow-db", "airflow-migrate"), ("airflow-migrate", "airflow-api-server"),
                              ("vault-setup", "airflow-scheduler"), ("airflow-api-server", "airflow-scheduler"),
                              ("airflow-api-server", "airflow-triggerer"), ("warehouse", "metabase"), ("s3", "airflow-scheduler")):
            self.assertLess(place[before], place[after])

    def test_there_is_no_secret_in_it_and_all_that_it_asks_for_is_made_by_the_script(self):
        text = FILE.read_text()
        asked = set(re.findall(r"\$\{(\w+):\?", text))
        with tempfile.TemporaryDirectory() as work:
            file = pathlib.Path(work) / ".env"
            subprocess.run([CHECKOUT / "docker/compose/env.sh", file], check=True, capture_output=True)
            first = file.read_text()
            self.assertEqual(0o600, file.stat().st_mode & 0o777)
            subprocess.run([CHECKOUT / "docker/compose/env.sh", file], check=True, capture_output=True)
            self.assertEqual(first, file.read_text())
        made = dict(line.split("=", 1) for line in first.splitlines())
        self.assertEqual(asked, set(made))
        self.assertEqual(32, len(base64.urlsafe_b64decode(made["AIRFLOW_FERNET_KEY"])))
        for name in SERVICES:
            for key, value in environment(name).items():
                if re.search(r"PASSWORD|TOKEN|SECRET|KEY|AIRFLOW_CONN_", key):
                    self.assertRegex(value, r"\$\{\w+:\?|^sankofa$", f"{name}: {key}")

    def test_images_are_named_by_version_and_volumes_are_declared(self):
        declared = yaml.safe_load(FILE.read_text())["volumes"]
        for name, service in SERVICES.items():
            self.assertRegex(service["image"], r":(\d|v\d|\$|local)|^\$\{", name)
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((FILE.parent / source).exists(), source)
                elif not source.startswith("/"):
                    self.assertIn(source, declared)
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), port)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Local(unittest.TestCase):
    """The services as processes of this machine, started in the file's order with the file's environment."""

    @classmethod
    def setUpClass(cls):
        for part in ("vault/vault", "s3/versitygw", "postgresql/16/bin/initdb", "postgresql/18/bin/initdb"):
            if not (BED / part).exists():
                text = f"!!! NO {part} IN THE TEST BED: compose's services are not run"
                print(text, file=sys.stderr)
                if os.environ.get("CI") == "true":
                    raise RuntimeError(text)
                raise unittest.SkipTest(text)
        cls.addClassCleanup(cls.stop)
        cls.work = tempfile.TemporaryDirectory(prefix="sankofa-compose-", dir="/tmp")
        cls.home, cls.running, cls.ports = pathlib.Path(cls.work.name), [], {}
        cls.home.chmod(0o755)
        subprocess.run([CHECKOUT / "docker/compose/env.sh", cls.home / ".env"], check=True, capture_output=True)
        cls.made = dict(line.split("=", 1) for line in (cls.home / ".env").read_text().splitlines())
        account = "postgres" if subprocess.run(["getent", "passwd", "postgres"], capture_output=True).returncode == 0 else "nobody"
        cls.as_server = ["runuser", "-u", account, "--"] if os.geteuid() == 0 else []
        cls.started = []
        for name in order():
            start = {"vault": cls.vault, "vault-setup": cls.vault_setup, "s3": cls.s3}.get(name)
            if SERVICES[name]["image"].startswith("postgres:"):
                cls.postgres(name)
            elif start:
                start(name)
            else:
                continue
            cls.started.append(name)

    @classmethod
    def stop(cls):
        for stop in reversed(cls.running):
            stop()
        cls.work.cleanup()

    @classmethod
    def settings(cls, name):
        """The service's environment, as compose would fill it in."""
        def fill(value):
            value = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda m: cls.made[m[1]], value)
            return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)

        return {k: fill(v) for k, v in environment(name).items()}

    @classmethod
    def postgres(cls, name):
        major = re.match(r"postgres:(\d+)", SERVICES[name]["image"])[1]
        bin, data, port, env = BED / f"postgresql/{major}/bin", cls.home / name, free_port(), cls.settings(name)
        password = cls.home / f"{name}.password"
        password.write_text(env["POSTGRES_PASSWORD"] + "\n")
        data.mkdir()
        if cls.as_server:
            subprocess.run(["chown", "-R", cls.as_server[2], data, password], check=True)
        run = lambda *words: subprocess.run([*cls.as_server, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        run(bin / "initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8",
            "--no-locale", "--no-sync")
        run(bin / "pg_ctl", "-D", data, "-l", data / "log", "-w", "-o",
            f"-p {port} -h 127.0.0.1 -k '' -c fsync=off -c shared_buffers=16MB", "start")
        cls.running.append(lambda: run(bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"))
        cls.ports[name] = port
        tools = BED / "clients/16/bin"
        env = {**os.environ, **env, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGPASSWORD": env["POSTGRES_PASSWORD"],
               "PATH": f"{tools}:{os.environ['PATH']}", "DEMO": str(CHECKOUT / "demo")}
        if env["POSTGRES_DB"] != "postgres":
            subprocess.run([tools / "psql", "-X", "-q", "-U", "postgres", "-d", "postgres", "-c", f"CREATE DATABASE {env['POSTGRES_DB']}"],
                           check=True, env=env)
        for volume in SERVICES[name]["volumes"]:
            if "initdb.d" in volume:
                subprocess.run([FILE.parent / volume.split(":")[0]], check=True, env=env)

    @classmethod
    def until(cls, url):
        deadline = time.monotonic() + 30
        while True:
            try:
                return urllib.request.urlopen(url, timeout=2).read()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @classmethod
    def process(cls, words, env, log):
        with open(cls.home / log, "wb") as output:
            process = subprocess.Popen([str(w) for w in words], env={**os.environ, **env, "HOME": str(cls.home)}, stdout=output, stderr=output)
        cls.running.append(lambda: (process.terminate(), process.wait()))

    @classmethod
    def vault(cls, name):
        cls.ports[name] = free_port()
        env = {**cls.settings(name), "VAULT_DEV_LISTEN_ADDRESS": f"127.0.0.1:{cls.ports[name]}"}
        cls.process([BED / "vault/vault", "server", "-dev", "-dev-no-store-token"], env, "vault.log")
        cls.until(f"http://127.0.0.1:{cls.ports[name]}/v1/sys/health")

    @classmethod
    def s3(cls, name):
        cls.ports[name] = free_port()
        (cls.home / "s3data").mkdir()
        words = [w for w in SERVICES[name]["command"] if w not in ("posix", "/data")]
        words[words.index("--port") + 1] = f"127.0.0.1:{cls.ports[name]}"
        cls.process([BED / "s3/versitygw", *words, "posix", cls.home / "s3data"], cls.settings(name), "s3.log")
        cls.until(f"http://127.0.0.1:{cls.ports[name]}/health")

    @classmethod
    def here(cls, value):
        """`source-hr:5432` and `http://vault:8200` as they are on this machine."""
        for name, port in cls.ports.items():
            value = re.sub(rf"(^|//){name}:\d+$", rf"\g<1>127.0.0.1:{port}", value)
        return value

    @classmethod
    def vault_setup(cls, name):
        env = {k: cls.here(v) for k, v in cls.settings(name).items()}
        cls.setup = {**os.environ, **env, "HOME": str(cls.home), "POLICIES": str(CHECKOUT / "nomad/policies"),
                     "PATH": f"{BED / 'vault'}:{os.environ['PATH']}"}
        for _ in range(2):  # twice is the same
            done = subprocess.run(["/bin/sh", FILE.parent / "compose/vault.sh"], env=cls.setup, capture_output=True, text=True)
            if done.returncode:
                raise AssertionError(done.stdout + done.stderr)

    def sync(self, pipeline, role, secret):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "SANKOFA_CONFIG": str(FILE.parent / "compose/sankofa.yaml"),
               "VAULT_ADDR": self.setup["VAULT_ADDR"], "SANKOFA_ROLE_ID": role, "SANKOFA_WRAPPED_SECRET_ID": secret}
        return subprocess.run([BINARY, "--project", CHECKOUT / "demo/project", "--json", "sync", pipeline], env=env, capture_output=True,
                              text=True)

    def minted(self, role, token):
        """What Airflow does: a wrapped secret id, by its own token."""
        url = f"{self.setup['VAULT_ADDR']}/v1/auth/approle/role/{role}/secret-id"
        request = urllib.request.Request(url, b'{"num_uses": 1}', {"X-Vault-Token": token, "X-Vault-Wrap-TTL": "120s"}, method="POST")
        return urllib.request.urlopen(request).read().decode()

    def test_the_services_started_in_the_files_order_and_a_pipeline_moves_its_rows_through_all_of_them(self):
        self.assertEqual([n for n in order() if n in self.started], self.started)
        self.assertEqual(9, len(self.started))
        for pipeline in ("hr", "records", "service_desk"):
            done = self.sync(pipeline, "sankofa-rows", self.minted("sankofa-rows", self.made["AIRFLOW_VAULT_TOKEN"]))
            self.assertEqual(0, done.returncode, done.stderr)
            self.assertGreater(json.loads(done.stdout)["rows"], 0)

    def test_airflows_token_mints_for_rows_alone_and_reads_no_source(self):
        token = self.made["AIRFLOW_VAULT_TOKEN"]
        for path in ("airflow/data/connections/hr_db", "airflow/data/connections/warehouse", "airflow/data/connections/offsite"):
            request = urllib.request.Request(f"{self.setup['VAULT_ADDR']}/v1/{path}", headers={"X-Vault-Token": token})
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)
            self.assertEqual(403, refused.exception.code, path)
        for role in ("sankofa-backup", "sankofa-drill"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.minted(role, token)
            self.assertEqual(403, refused.exception.code, role)


if __name__ == "__main__":
    unittest.main(verbosity=2)
