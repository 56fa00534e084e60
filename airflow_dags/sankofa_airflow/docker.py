"""Docker: one task, one container, followed to its end.

In:    a task of a DAG; the worker's Docker daemon.
Out:   the result, or what `contract` raises; no container and no volume left.
Holds: a name has one container, so two tries never run side by side; a container that an earlier try
       left is adopted while it runs, and harvested once when it has ended; whatever ends the task ends
       the container: SIGTERM, 3 s, SIGKILL, removed. The result is read from its file, never from the log.
Not here: what status means what (`contract`).
"""

from __future__ import annotations

import io
import tarfile
import time
from typing import TYPE_CHECKING, Any, ClassVar

import requests
from airflow.providers.docker.operators.docker import DockerOperator
from docker.errors import APIError, DockerException, NotFound
from docker.types import LogConfig, Mount

from sankofa_airflow import vault
from sankofa_airflow.compat import AirflowException
from sankofa_airflow.contract import RESULT_BYTES, RESULT_FILE, End, result_of, words
from sankofa_airflow.launch import Launch
from sankofa_airflow.lines import Lines

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from sankofa_airflow.compat import Context
    from sankofa_airflow.order import Order

KEY = "sankofa.key"
UNTIL = "sankofa.until"
RUNNING = ("running", "paused", "restarting")
GRACE_SECONDS = 3  # Airflow 3 kills a task 5 s after SIGTERM
DAEMON_SECONDS = 120  # how long a daemon may be away: a restart of it is no failure of the run
UNREACHABLE = (requests.RequestException, DockerException, OSError)


class SankofaDockerOperator(Launch, DockerOperator):
    """Run one `sankofa` command in a container of the worker's Docker daemon.

    XCom: the command's result object, a dict. Exit 99 skips the task; 2, 65, 77 and 78 fail it without
    retry; any other status is retried. No credential passes through here, unless `vault_conn_id` is set:
    then a response-wrapped, single-use secret_id that was minted after everything else was ready.
    """

    template_fields = (*Launch.step_fields,)
    template_ext = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {}
    ui_color = "#dfe8d8"

    def __init__(
        self,
        *,
        command: str,
        subject: str | None = None,
        lock: str | Path | None = None,
        table: str | None = None,
        window: tuple[str, str] | None = None,
        options: tuple[str, ...] = (),
        asset: str | None = None,
        asset_tables: dict[str, str] | None = None,
        timeout: timedelta | None = None,
        **base: Any,
    ) -> None:
        own = {
            "command": command, "subject": subject, "lock": lock, "table": table, "window": window,
            "options": options, "asset": asset, "asset_tables": asset_tables or {}, "timeout": timeout,
        }  # fmt: skip
        base = self.set_step(own, base)
        super().__init__(
            image=self.settings.image,
            docker_url=self.settings.docker_url or None,
            docker_conn_id=self.settings.docker_conn_id or None,
            network_mode=self.settings.docker_network or None,
            auto_remove="never",
            mount_tmp_dir=False,
            **base,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Start or find the container, follow it, remove it, and say how it ended."""
        order = self.make_order(context)
        self.sweep()
        self.pull()
        try:
            end = self.harvested(order) or self.follow(self.running(order) or self.start(order))
        except BaseException:  # AirflowTaskTimeout is one in 2.11
            self.on_kill()
            raise
        self.remove(self.container["Id"])
        return self.finish(context, end)

    def pull(self) -> None:
        """Pull the image where it is not here; before anything is minted, since it takes long."""
        if not self.cli.images(name=self.image):
            self.log.info("pulling %s", self.image)
            for _ in self.cli.pull(self.image, stream=True, decode=True):
                pass

    def left(self, order: Order) -> list[dict[str, Any]]:
        """Return the containers that earlier tries of this task instance left: one, or none."""
        found: list[dict[str, Any]] = self.cli.containers(all=True, filters={"label": f"{KEY}={order.key}"})
        return found

    def harvested(self, order: Order) -> End | None:
        """Return how the container of an earlier try ended, where that is final; remove any other.

        What ended in a way that a retry can mend was that try's failure; this try is its retry.
        """
        for one in self.left(order):
            if one["State"] in RUNNING:
                continue
            self.container = {"Id": one["Id"]}
            end = self.end(one["Id"]) if one["State"] == "exited" else End("container", None, cause=one["State"])
            self.log.info("try %s left a container, which has ended: %s", one["Labels"].get("sankofa.try"), words(end))
            if end.is_final:
                self.follow(one["Id"])  # its log
                return end
            self.remove(one["Id"])
        return None

    def running(self, order: Order) -> str | None:
        """Return the container of an earlier try that still runs: it is adopted."""
        for one in self.left(order):
            self.container = {"Id": one["Id"]}
            self.log.info("container %s of try %s runs: adopted", one["Id"][:12], one["Labels"].get("sankofa.try"))
            return str(one["Id"])
        return None

    def start(self, order: Order) -> str:
        """Make and start the container; what must be minted is minted last."""
        until = int(time.time()) + order.timeout_seconds
        minted = vault.mint(self.settings, order) if self.settings.vault_conn_id else {}
        try:
            self.container = self.cli.create_container(
                image=self.image,
                command=order.arguments,
                name=f"sankofa-{order.key}",
                environment={**self.environment_of_class(), **order.environment, **minted},
                labels={**order.labels, KEY: order.key, UNTIL: str(until), "sankofa.instance": self.settings.instance},
                stop_signal="SIGTERM",
                host_config=self.host_config(order),
            )
        except APIError as error:
            if error.status_code != 409:
                raise
            raise AirflowException("another try of this task has just started its container") from None
        self.cli.start(self.container["Id"])
        self.log.info("container %s started from %s", self.container["Id"][:12], self.image)
        return str(self.container["Id"])

    def environment_of_class(self) -> dict[str, str]:
        """Return the operator's variables: an approle's role_id differs by class, as the role does."""
        own = self.settings.docker_environment
        return {name: self.settings.of_class(str(value), self.privilege) for name, value in own.items()}

    def host_config(self, order: Order) -> Any:
        """Return the limits of the container: nothing to write but its volume and /tmp, no privileges."""
        volume = Mount(target=RESULT_FILE.rsplit("/", 1)[0], source=None, type="volume")
        return self.cli.create_host_config(
            auto_remove=False,
            mounts=[volume, *self.settings.docker_mounts],
            network_mode=self.network_mode,
            read_only=True,
            tmpfs={"/tmp": "size=64m,mode=1777"},  # noqa: S108 (inside the container)
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=order.memory_bytes,
            nano_cpus=int(order.cpu * 1e9) if order.cpu else None,
            log_config=LogConfig(type="json-file", config={"max-size": "50m", "max-file": "2"}),
        )

    def follow(self, container: str) -> End:
        """Stream the log until the container has ended; return how.

        A daemon that goes away is waited for: DAEMON_SECONDS.
        """
        since, lines = 0, Lines(self.log)
        while True:
            try:
                for chunk in self.cli.logs(container, stream=True, follow=True, since=since or None):
                    lines.add(chunk)
                lines.flush()
                self.cli.wait(container)
                return self.end(container)
            except NotFound:
                return End(f"container {container[:12]}", None, cause="lost: it is not there any more")
            except UNREACHABLE as error:
                since = int(time.time())
                self.log.warning("the Docker daemon does not answer (%s): waiting", type(error).__name__)
                self.await_daemon()

    def await_daemon(self) -> None:
        """Wait for the daemon to answer again. Raises AirflowException (retry) after DAEMON_SECONDS."""
        last = time.monotonic() + DAEMON_SECONDS
        while True:
            try:
                self.cli.ping()
                return
            except UNREACHABLE:
                if time.monotonic() > last:
                    text = "the Docker daemon does not answer; a next try adopts what still runs"
                    raise AirflowException(text) from None
                time.sleep(0.5)

    def end(self, container: str) -> End:
        """Return how an ended container ended."""
        state = self.cli.inspect_container(container)["State"]
        cause = "OOM killed" if state.get("OOMKilled") else str(state.get("Error") or "")
        return End(f"container {container[:12]}", int(state["ExitCode"]), self.result(container), cause)

    def result(self, container: str) -> dict[str, Any] | None:
        """Return the result object in the container's volume, None where there is none."""
        try:
            chunks, stat = self.cli.get_archive(container, RESULT_FILE)
            if stat["size"] > RESULT_BYTES:
                return None
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                file = archive.extractfile(stat["name"])
                return result_of(file.read() if file else None)
        except (APIError, tarfile.TarError, KeyError):
            return None

    def remove(self, container: str) -> None:
        """Remove a container with its volume; one that is gone already is no failure."""
        try:
            self.cli.remove_container(container, v=True, force=True)
        except APIError as error:
            if error.status_code not in (404, 409):  # 409: it is being removed
                self.log.warning("cannot remove container %s: %s", container[:12], error.explanation)

    def on_kill(self) -> None:
        """End the container and remove it: SIGTERM, GRACE_SECONDS, SIGKILL."""
        if not self.hook.client_created or not self.container:
            return
        container = self.container["Id"]
        try:
            self.cli.stop(container, timeout=GRACE_SECONDS)
        except UNREACHABLE as error:
            self.log.warning("cannot stop container %s: %s", container[:12], type(error).__name__)
        try:
            self.remove(container)
        except UNREACHABLE:
            self.log.warning("cannot remove container %s: a next task or `sankofa_airflow reap` will", container[:12])

    def sweep(self) -> None:
        """Remove what tasks have left that no try will come back for. See `reap`."""
        from sankofa_airflow.reap import reap_docker

        try:
            for name in reap_docker(self.cli, self.settings.instance):
                self.log.info("removed container %s, left by an earlier task", name)
        except UNREACHABLE as error:
            self.log.warning("cannot look for leftovers: %s", type(error).__name__)
