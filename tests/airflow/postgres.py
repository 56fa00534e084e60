"""A PostgreSQL server of the test bed, of any major, in a folder of its own.

In:    .testbed. Out: a server on a free port, SQL on it. Holds: it may be stopped, killed and started
       again on the same port; it runs as `postgres` or `nobody` where root starts it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

PASSWORD = "not-a-secret-test"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Cluster:
    """A server with its data in `home`."""

    def __init__(self, home: Path, bed: Path, major: int = 18, options: str = "") -> None:
        self.home, self.port = home, free_port()
        self.bin, self.psql_path = bed / f"postgresql/{major}/bin", bed / "clients/18/bin/psql"
        self.options = f"-p {self.port} -h 127.0.0.1 -k '' -c fsync=off -c shared_buffers=32MB {options}"
        self.home.mkdir()
        (self.home / "password").write_text(PASSWORD)
        self.account: list[str] = []
        if os.getuid() == 0:
            name = "postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody"
            for path in (self.home, self.home / "password"):
                shutil.chown(path, name)
            self.account = ["runuser", "-u", name, "--"]
        self.server("initdb", "-D", f"{self.home}/data", "-U", "postgres", "--auth=scram-sha-256",
                    f"--pwfile={self.home}/password", "--encoding=UTF8", "--no-locale", "--no-sync")  # fmt: skip
        self.start()

    def server(self, program: str, *words: str) -> None:
        """Run one of the server's programs as its account; what it says is told where it fails."""
        said = self.home / "said"
        with said.open("wb") as out:  # a pipe would be held open by the server that pg_ctl starts
            done = subprocess.run([*self.account, str(self.bin / program), *words], stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=out, check=False)  # fmt: skip
        assert done.returncode == 0, (program, said.read_text())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.server("pg_ctl", "-D", f"{self.home}/data", "-l", f"{self.home}/data/log", "-w", "-o", self.options, "start")

    def stop(self) -> None:
        """End it at once, as a power cut would."""
        self.server("pg_ctl", "-D", f"{self.home}/data", "-m", "immediate", "-w", "stop")

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
