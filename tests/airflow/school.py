"""The demo's three databases and its warehouse, on one real server of the test bed.

In:    .testbed, demo/*.sql. Out: connections, and a door in front of one of them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from postgres import PASSWORD, Cluster, free_port

__all__ = ["DATABASES", "PASSWORD", "Door", "School", "free_port"]
DATABASES = ("hr", "records", "service_desk")


class School(Cluster):
    """A PostgreSQL server with sources and warehouse."""

    def __init__(self, work: Path, bed: Path, checkout: Path) -> None:
        super().__init__(work / "postgresql", bed)
        self.checkout = checkout
        self.fill()

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
    """Hand on what comes, to its end; where one side breaks (its process was killed), the other is told."""
    try:
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (one, other):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
