"""The real Dockerfile, built on a real engine, run as launchers run it: non-root, read-only, the binary as process 1.

Run: make test-image (root: it starts an engine of its own, tests/testbed/docker.sh). Takes about 1 min with the base
and the client programs in the engine's cache, 4 min without.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import io
import tempfile
import time
import unittest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
BED = pathlib.Path(os.environ.get("SANKOFA_TESTBED") or CHECKOUT / ".testbed").resolve()
BINARY = pathlib.Path(os.environ.get("SANKOFA_BINARY") or CHECKOUT / "target/debug/sankofa")
MAJORS = os.environ.get("MAJORS") or "15"
IMAGE, CLIENTS = "sankofa:test", "sankofa-clients:test"
LOCKED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PASSWORD = "not-a-secret-image"


def run(*words, check=True, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **more)
    if check and done.returncode:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return done


def setUpModule():
    if os.geteuid() != 0:
        text = "!!! NO DOCKER ENGINE: it needs root, so nothing of the image is tested"
        print(text, file=sys.stderr)
        if os.environ.get("CI") == "true":
            raise RuntimeError(text)
        raise unittest.SkipTest(text)
    os.environ["DOCKER_HOST"] = run(CHECKOUT / "tests/testbed/image.sh").stdout.strip()


def size(image):
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image).stdout)


@contextlib.contextmanager
def container(*arguments, options=()):
    """A container that was started as launchers start it; removed with its volume at the end."""
    id = run("docker", "create", "--network", "host", *LOCKED, *options, IMAGE, *arguments).stdout.strip()
    try:
        run("docker", "start", id)
        yield id
    finally:
        run("docker", "rm", "-f", "-v", id)


def status(id):
    return int(run("docker", "wait", id, timeout=60).stdout)


def harvested(id):
    """The result out of the volume of a stopped container."""
    data = subprocess.run(["docker", "cp", f"{id}:/run/sankofa/result.json", "-"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return json.load(archive.extractfile("result.json"))


class Image(unittest.TestCase):
    def test_the_version_is_that_of_the_binary(self):
        done = run("docker", "run", "--rm", "--network", "none", *LOCKED, IMAGE, "--version")
        self.assertEqual(run(BINARY, "--version").stdout, done.stdout)

    def test_it_runs_as_nobody_special_with_the_binary_as_process_1_and_says_what_it_is(self):
        shown = json.loads(run("docker", "image", "inspect", IMAGE).stdout)[0]["Config"]
        self.assertEqual("10001:10001", shown["User"])
        self.assertEqual(["/usr/bin/sankofa"], shown["Entrypoint"])
        self.assertEqual(["/run/sankofa"], list(shown["Volumes"]))
        self.assertEqual("SIGTERM", shown["StopSignal"])
        for label in ("title", "version", "revision", "licenses"):
            self.assertTrue(shown["Labels"][f"org.opencontainers.image.{label}"], label)

    def test_client_programs_of_the_majors_asked_for_are_there_and_the_sbom_names_them(self):
        words = "cat /usr/share/sankofa/sbom.cdx.json; for m in %s; do /usr/lib/postgresql/$m/bin/pg_dump --version >&2; done"
        done = run("docker", "run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", IMAGE, "-c", words % MAJORS)
        sbom = json.loads(done.stdout)
        names = {c["name"] for c in sbom["components"]}
        for name in ("tokio", "rustls", "ca-certificates", *(f"postgresql-client-{m}" for m in MAJORS.split())):
            self.assertIn(name, names)
        for major in MAJORS.split():
            self.assertIn(f"pg_dump (PostgreSQL) {major}.", done.stderr)

    def test_the_result_is_fetched_from_a_stopped_container_and_the_exit_status_is_the_cause(self):
        for arguments, wanted, kind in (
            (("config", "show", "--project", "/nowhere"), 78, "config"),
            (("sync",), 2, "usage"),
        ):
            with container(*arguments) as id:
                self.assertEqual(wanted, status(id))
                self.assertEqual(kind, harvested(id)["error"]["code"])

    def test_a_job_that_names_its_commands_refuses_another(self):
        options = ("--env", "SANKOFA_COMMANDS=extract, load", "--env", 'SANKOFA_ARGUMENTS=["drill", "hr"]')
        with container(options=options) as id:
            self.assertEqual(77, status(id))
            self.assertEqual("permission", harvested(id)["error"]["code"])

    def test_it_is_not_much_larger_than_its_base_with_the_same_clients(self):
        text = f"FROM debian:bookworm-slim\nRUN apt-get -qq update && apt-get -qq install -y --no-install-recommends " \
            f"ca-certificates {' '.join(f'postgresql-client-{m}' for m in MAJORS.split())} >/dev/null && " \
            "rm -rf /var/lib/apt/lists/* /var/cache/apt/*\n"
        run("docker", "build", "-q", "--network", "host", "-t", CLIENTS, "-", input=text)
        ours, theirs, base = size(IMAGE), size(CLIENTS), size("debian:bookworm-slim")
        print(f"\nimage {ours / 1e6:.0f} MB (binary {BINARY.name}, majors {MAJORS}); base with the same clients "
              f"{theirs / 1e6:.0f} MB; base {base / 1e6:.0f} MB: {ours / theirs:.2f}x", file=sys.stderr)
        self.assertLessEqual(ours, 1.25 * theirs)


class Platform(unittest.TestCase):
    """Against PostgreSQL of the test bed, on the host's network: the demo's first database."""

    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory(prefix="sankofa-image-", dir="/tmp")
        home = pathlib.Path(cls.work.name)
        home.chmod(0o755)
        account = "postgres" if run("getent", "passwd", "postgres", check=False).returncode == 0 else "nobody"
        cls.as_server, cls.bin, cls.data = ("runuser", "-u", account, "--"), BED / "postgresql/16/bin", home / "data"
        (home / "password").write_text(PASSWORD + "\n")
        run("chown", "-R", account, home)
        run(*cls.as_server, cls.bin / "initdb", "-D", cls.data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={home}/password",
            "--encoding=UTF8", "--no-locale", "--no-sync")
        cls.port = free_port()
        run(*cls.as_server, cls.bin / "pg_ctl", "-D", cls.data, "-l", cls.data / "log", "-w", "-o",
            f"-p {cls.port} -h 127.0.0.1 -k '' -c fsync=off", "start")
        demo = CHECKOUT / "demo"
        cls.psql("postgres", "-c", f"CREATE ROLE sankofa_rows LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_stats",
                 "-c", "CREATE DATABASE hr", "-c", "CREATE DATABASE warehouse")
        cls.psql("hr", "-1", "-f", demo / "hr.sql", "-f", demo / "grants.sql")
        cls.psql("warehouse", "-v", f"password={PASSWORD}", "-f", demo / "warehouse.sql")

    @classmethod
    def tearDownClass(cls):
        run(*cls.as_server, cls.bin / "pg_ctl", "-D", cls.data, "-m", "immediate", "-w", "stop", check=False)
        cls.work.cleanup()

    @classmethod
    def psql(cls, database, *words):
        return run(BED / "clients/16/bin/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                   f"host=127.0.0.1 port={cls.port} user=postgres dbname={database}", *words,
                   env={**os.environ, "PGPASSWORD": PASSWORD}).stdout.strip()

    def options(self, source_port=None):
        here = f"{PASSWORD}@127.0.0.1"
        settings = {"AIRFLOW_CONN_HR_DB": f"postgres://sankofa_rows:{here}:{source_port or self.port}/hr",
                    "AIRFLOW_CONN_WAREHOUSE": f"postgres://sankofa:{here}:{self.port}/warehouse",
                    "AIRFLOW_VAR_HMAC_KEY": "not-a-secret-image-key-of-32-bytes"}
        words = ["--volume", f"{CHECKOUT}/demo/project:/etc/sankofa:ro"]
        for name, value in settings.items():
            words += ["--env", f"{name}={value}"]
        return words

    def test_a_sync_moves_the_rows_and_the_same_run_again_is_already_done(self):
        for wanted in ("ok", "already_done"):
            with container("sync", "hr", "--run", "image-1", options=self.options()) as id:
                self.assertEqual(0, status(id), run("docker", "logs", id).stderr[-2000:])
                self.assertEqual(wanted, harvested(id)["status"])
        self.assertEqual(self.psql("hr", "-c", "SELECT count(*) FROM employee"),
                         self.psql("warehouse", "-c", "SELECT count(*) FROM hr.employee"))

    def test_a_source_that_is_away_is_75(self):
        with container("sync", "hr", "--run", "image-2", options=self.options(source_port=9)) as id:
            self.assertEqual(75, status(id))
            self.assertEqual("temporary", harvested(id)["error"]["code"])

    def test_sigterm_in_the_middle_ends_143_within_the_limit_with_its_result_written(self):
        holder = subprocess.Popen(
            [BED / "clients/16/bin/psql", "-X", "-q", f"host=127.0.0.1 port={self.port} user=postgres dbname=hr"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PGPASSWORD": PASSWORD})
        try:
            holder.stdin.write("BEGIN; LOCK employee IN ACCESS EXCLUSIVE MODE; SELECT 'held';\n")
            holder.stdin.flush()
            while "held" not in holder.stdout.readline():
                pass
            with container("extract", "hr", "--run", "image-3", options=self.options()) as id:
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                deadline = time.monotonic() + 30
                while self.psql("hr", "-c", waiting) == "0" and time.monotonic() < deadline:
                    time.sleep(0.1)
                begin = time.monotonic()
                run("docker", "stop", "--time", "20", id)
                took = time.monotonic() - begin
                self.assertEqual(143, status(id))
                self.assertEqual("cancelled", harvested(id)["status"])
                self.assertLess(took, 10)  # the engine would have killed it after 20
        finally:
            holder.kill()
            holder.communicate()


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    unittest.main(verbosity=2)
