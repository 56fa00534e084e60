"""Two local PostgreSQL clusters and what is run against them.

In:    the test bed's PostgreSQL 16, or the machine's own.
Out:   running clusters; psql by argument or by pipe; figures of the server.
Holds: the same settings for every contestant; as root the servers run as another user; a cluster
       that was started is stopped and its folder removed, whatever happens.
Not here: what is measured (`cases`), the program under test (`contestant`).
"""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile

USER = "bench"
# One setting for all. Without fsync the disk's mood is not measured; sizes are those of a small server.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "50",
    "track_io_timing": "off",
}


def programs():
    """Folders of the server's programs and of psql: the test bed's, else the machine's newest."""
    bed = os.environ.get("SANKOFA_TESTBED", "")
    server, client = f"{bed}/postgresql/16/bin", f"{bed}/clients/16/bin"
    if os.path.exists(f"{server}/postgres") and os.path.exists(f"{client}/psql"):
        return server, client
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: int(path.split("/")[4]))
    if not found or not shutil.which("psql"):
        raise SystemExit("bench: cannot find PostgreSQL: run tests/testbed/install.sh")
    return os.path.dirname(found[-1]), os.path.dirname(shutil.which("psql"))


def _account():
    """Arguments of subprocess that make root run servers as somebody else."""
    if os.geteuid() != 0:
        return {}, None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}, entry
        except KeyError:
            pass
    raise SystemExit("bench: cannot run servers as root: there is no account postgres or nobody")


def free_port():
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """One cluster; leaves nothing behind when its `with` block ends."""

    def __init__(self, name):
        self.name, self.port = name, free_port()
        self.server, self.client = programs()
        self.account, entry = _account()
        self.folder = tempfile.mkdtemp(prefix=f"sankofa-bench-{name}-")
        if entry:
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)

    def __enter__(self):
        try:
            self._server("initdb", "-D", "data", "-N", "-U", USER, "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust")
            with open(f"{self.folder}/data/postgresql.conf", "a", encoding="utf-8") as conf:
                settings = SETTINGS | {"port": self.port, "unix_socket_directories": self.folder}
                conf.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
            self._server("pg_ctl", "-D", "data", "-s", "-w", "-l", "log", "start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(
            [f"{self.server}/pg_ctl", "-D", "data", "-s", "-w", "-m", "immediate", "stop"],
            cwd=self.folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.account,
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def _server(self, program, *args):
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [f"{self.server}/{program}", *args], cwd=self.folder, env=environment, check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **self.account,
        )

    def psql(self, database):
        """The command line of psql for a database, without -c; by TCP, as Sankofa comes."""
        return [
            f"{self.client}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p",
            str(self.port), "-U", USER, "-d", database,
        ]

    def sql(self, database, *statements):
        """Runs statements, each by itself, and returns what was printed."""
        arguments = [part for statement in statements for part in ("-c", statement)]
        done = subprocess.run(self.psql(database) + arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench: cannot run {statements[0][:80]!r} on {self.name}: {done.stderr}")
        return done.stdout.strip()

    def fresh(self, database):
        """Makes an empty database, and a calm server."""
        self.sql("postgres", f"DROP DATABASE IF EXISTS {database} (FORCE)", f"CREATE DATABASE {database}", "CHECKPOINT")

    def uri(self, database, port=None):
        """Airflow's connection URI; `port` of a relay, if there is one. Through TCP, as in real life."""
        return f"postgres://{USER}@127.0.0.1:{port or self.port}/{database}"

    def version(self):
        """Such as 16.14."""
        return self.sql("postgres", "SHOW server_version").split()[0]


def pipe(source, target):
    """Runs `source | target` and waits for both; raises when one fails."""
    first = subprocess.Popen(source, stdout=subprocess.PIPE)
    second = subprocess.Popen(target, stdin=first.stdout, stdout=subprocess.DEVNULL)
    first.stdout.close()
    if second.wait() or first.wait():
        raise SystemExit(f"bench: cannot copy by psql: {first.returncode}, {second.returncode}")
