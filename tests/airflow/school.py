"""The demo's three databases and its warehouse, on one real server of the test bed.

In:    .testbed, demo/*.sql. Out: connections, and a door in front of one of them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import threading
from pathlib import Path

PASSWORD = "not-a-secret-test"
DATABASES = ("hr", "records", "service_desk")


class School:
    """A PostgreSQL server with sources and warehouse."""

    def __init__(self, work: Path, bed: Path, checkout: Path) -> None:
        self.home, self.checkout = work / "postgresql", checkout
        self.bin, self.psql_path = bed / "postgresql/18/bin", bed / "clients/18/bin/psql"
        self.port = free_port()
        self.home.mkdir()
        (self.home / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            name = "postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody"
            for path in (self.home, self.home / "password"):
                shutil.chown(path, name)
            self.account = ["runuser", "-u", name, "--"]
        else:
            self.account = []
        self.server("initdb", "-D", f"{self.home}/data", "-U", "postgres", "--auth=scram-sha-256",
                    f"--pwfile={self.home}/password", "--encoding=UTF8", "--no-locale", "--no-sync")  # fmt: skip
        options = f"-p {self.port} -h 127.0.0.1 -k '' -c fsync=off -c shared_buffers=32MB"
        self.server("pg_ctl", "-D", f"{self.home}/data", "-l", f"{self.home}/data/log", "-w", "-o", options, "start")
        self.fill()

    def server(self, program: str, *words: str) -> None:
        """Run one of the server's programs as its account."""
        log = subprocess.run([*self.account, str(self.bin / program), *words], capture_output=True, text=True,
                             stdin=subprocess.DEVNULL, check=False) if program != "pg_ctl" else subprocess.run(
            [*self.account, str(self.bin / program), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False)  # fmt: skip
        assert log.returncode == 0, (program, log.stderr)

    def psql(self, database: str, *words: str, sql: str | None = None) -> str:
        """Run SQL; returns what psql prints, unaligned."""
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        more = ["-c", sql] if sql else []
        done = subprocess.run(
            [str(self.psql_path), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", where, *words, *more],
            env={**os.environ, "PGPASSWORD": PASSWORD}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fill(self) -> None:
        """Make what demo/run.sh makes."""
        demo = self.checkout / "demo"
        role = f"CREATE ROLE sankofa_rows LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_stats"
        self.psql("postgres", sql=role)
        for name in DATABASES:
            self.psql("postgres", sql=f"CREATE DATABASE {name}")
            self.psql(name, "-1", "-f", str(demo / f"{name}.sql"), "-f", str(demo / "grants.sql"), "-c", "ANALYZE")
        self.psql("postgres", sql="CREATE DATABASE warehouse")
        self.psql("warehouse", "-v", f"password={PASSWORD}", "-f", str(demo / "warehouse.sql"))

    def connections(self) -> dict[str, str]:
        """Variables that name every connection; a real operator has them in Vault."""
        rows = f"sankofa_rows:{PASSWORD}@127.0.0.1:{self.port}"
        found = {f"AIRFLOW_CONN_{name.upper()}_DB": f"postgres://{rows}/{name}" for name in DATABASES}
        found["AIRFLOW_CONN_WAREHOUSE"] = f"postgres://sankofa:{PASSWORD}@127.0.0.1:{self.port}/warehouse"
        found["AIRFLOW_VAR_HMAC_KEY"] = "not-a-secret-demo-key-of-32-bytes"
        return found

    def stop(self) -> None:
        """End it."""
        self.server("pg_ctl", "-D", f"{self.home}/data", "-m", "immediate", "-w", "stop")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Door:
    """A port in front of a server: closed, it takes connections and lets nothing through."""

    def __init__(self, port: int) -> None:
        self.to, self.is_open = port, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Take connections."""
        while True:
            one, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(one,), daemon=True).start()

    def serve(self, one: socket.socket) -> None:
        """Wait for the door to open, then hand everything on."""
        self.is_open.wait()
        other = socket.create_connection(("127.0.0.1", self.to))
        threading.Thread(target=pump, args=(one, other), daemon=True).start()
        pump(other, one)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Hand on what comes, to its end."""
    try:
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
