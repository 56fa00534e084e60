"""Kubernetes: one task, one pod, followed to its end by the stock operator.

In:    a task of a DAG; connection `kubernetes_conn_id`; service accounts `sankofa-rows`, `sankofa-backup`.
Out:   the result, or what `contract` raises; the pod deleted.
Holds: the result is the termination message: no sidecar, no exec. A pod that an earlier try left is
       adopted while it runs, and harvested once when it has ended (`keep_pod` until its end is read:
       with `delete_pod` the stock operator deletes an ended pod and runs the work again). The pod's spec
       is never printed. `activeDeadlineSeconds` ends an orphan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from sankofa_airflow.contract import End, result_of
from sankofa_airflow.launch import MARGIN, Launch

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from sankofa_airflow.compat import Context
    from sankofa_airflow.order import Order

CONTAINER = "base"
MESSAGE = "/dev/termination-log"
TOKEN_DIRECTORY = "/var/run/secrets/sankofa"
GRACE_SECONDS = 5


class SankofaKubernetesOperator(Launch, KubernetesPodOperator):
    """Run one `sankofa` command in a pod of its class's service account.

    XCom: the command's result object, a dict. Exit 99 skips the task; 2, 65, 77 and 78 fail it without
    retry; any other status is retried. No credential passes through here: the pod shows Vault its own
    projected token.
    """

    template_fields = (*Launch.step_fields,)
    template_ext = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {}

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
        settings = self.settings
        super().__init__(
            image=settings.image,
            namespace=settings.kubernetes_namespace,
            kubernetes_conn_id=settings.kubernetes_conn_id,
            service_account_name=settings.of_class(settings.kubernetes_service_account, self.privilege),
            automount_service_account_token=False,
            image_pull_secrets=[k8s.V1LocalObjectReference(name) for name in settings.kubernetes_pull_secrets],
            base_container_name=CONTAINER,
            do_xcom_push=False,
            deferrable=False,  # whatever [operators] default_deferrable says: it ends by another way
            on_finish_action="keep_pod",
            log_pod_spec_on_failure=False,
            startup_check_interval_seconds=1,
            termination_grace_period=GRACE_SECONDS,
            active_deadline_seconds=self.timeout_seconds + int(MARGIN.total_seconds()),
            labels={"sankofa-instance": settings.instance},
            **base,
        )
        self.finished: dict[str, Any] | None = None
        self.is_over = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Start or find the pod, follow it, delete it, and say how it ended."""
        order = self.make_order(context)
        self.fill(order)
        try:
            super().execute(context)
        except BaseException:
            if not self.is_over and self.pod is not None:
                self.on_kill()
            raise
        context["ti"].xcom_push(key="return_value", value=self.finished or {})
        return self.finished or {}

    def fill(self, order: Order) -> None:
        """Write `order` into the fields that the stock operator makes a pod of."""
        self.name = f"sankofa-{order.key}"
        self.arguments = order.arguments
        variables = {**self.settings.kubernetes_environment, **order.environment, "SANKOFA_RESULT_FILE": MESSAGE}
        self.env_vars = [k8s.V1EnvVar(name=name, value=value) for name, value in variables.items()]
        limits = {"cpu": order.cpu and str(order.cpu), "memory": order.memory_bytes and str(order.memory_bytes)}
        limits = {name: value for name, value in limits.items() if value}
        self.container_resources = k8s.V1ResourceRequirements(limits=limits, requests=limits) if limits else None
        self.security_context = k8s.V1PodSecurityContext(
            run_as_non_root=True, seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault")
        )
        self.container_security_context = k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        )
        self.volumes, self.volume_mounts = self.mounts()
        self.annotations = {**(self.annotations or {}), **order.labels}

    def mounts(self) -> tuple[list[Any], list[Any]]:
        """Return /tmp, the token that Vault is shown, and the operator's sankofa.yaml."""
        token = k8s.V1ServiceAccountTokenProjection(
            audience=self.settings.kubernetes_audience, path="token", expiration_seconds=600
        )
        projected = k8s.V1ProjectedVolumeSource(sources=[k8s.V1VolumeProjection(service_account_token=token)])
        volumes = [
            k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit="64Mi")),
            k8s.V1Volume(name="token", projected=projected),
        ]
        mounts = [
            k8s.V1VolumeMount(name="tmp", mount_path="/tmp"),  # noqa: S108 (inside the pod)
            k8s.V1VolumeMount(name="token", mount_path=TOKEN_DIRECTORY, read_only=True),
        ]
        if self.settings.kubernetes_config_map:
            source = k8s.V1ConfigMapVolumeSource(name=self.settings.kubernetes_config_map)
            volumes.append(k8s.V1Volume(name="project", config_map=source))
            mounts.append(k8s.V1VolumeMount(name="project", mount_path="/etc/sankofa", read_only=True))
        return volumes, mounts

    def cleanup(
        self, pod: Any, remote_pod: Any, xcom_result: dict[str, Any] | None = None, context: Context | None = None
    ) -> None:
        """In place of the stock operator's: read the end, delete the pod, tell Airflow."""
        if self._killed or remote_pod is None or context is None:
            return
        end = end_of(remote_pod)
        if end.status is None and not end.cause:
            return  # it has not ended: whatever was raised says why
        self.is_over = True
        self.delete(remote_pod)
        self.finished = self.finish(context, end)

    def delete(self, pod: Any) -> None:
        """Delete an ended pod; one that is gone already is no failure."""
        try:
            self.client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
        except ApiException as error:
            if error.status != 404:
                self.log.warning("cannot delete pod %s: %s", pod.metadata.name, error.reason)
                self.patch_already_checked(pod, reraise=False)


def end_of(pod: Any) -> End:
    """Read how a pod ended; a pod that has not ended has neither status nor cause."""
    where = f"pod {pod.metadata.name}"
    statuses = pod.status.container_statuses or []
    base = next((one for one in statuses if one.name == CONTAINER), None)
    ended = base.state.terminated if base is not None and base.state else None
    reason = str(pod.status.reason or "")
    if ended is None:
        return End(where, None, cause=reason.lower() if pod.status.phase == "Failed" else "")
    cause = {"OOMKilled": "OOM killed", "ContainerCannotRun": "the container could not be started"}.get(
        str(ended.reason or ""), ""
    )
    if reason in ("Evicted", "DeadlineExceeded", "NodeLost", "Preempting"):
        cause = cause or reason
    return End(where, int(ended.exit_code), result_of(ended.message), cause)
