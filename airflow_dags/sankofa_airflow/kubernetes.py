"""Kubernetes: one task, one pod, followed to its end.

In:    a task of a DAG; connection `kubernetes_conn_id`; service accounts `sankofa-rows`, `sankofa-backup`.
Out:   the result, or what `contract` raises; the pod deleted.
Holds: a name has one pod, so two tries never run side by side; a pod that an earlier try left is adopted
       while it runs, and harvested once when it has ended (the stock operator deletes an ended pod and
       runs the work again, or takes an old failure for this try's). The result is the termination
       message: no sidecar, no exec. The pod's spec is never printed. `activeDeadlineSeconds` ends an orphan.
Not here: what status means what (`contract`); how the API server is asked (`kubernetes_pod`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import models as k8s

from sankofa_airflow.compat import AirflowException
from sankofa_airflow.contract import words
from sankofa_airflow.kubernetes_pod import CONTAINER, UNREACHABLE, Away, Pod, end_of, refused
from sankofa_airflow.launch import MARGIN, Launch

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from sankofa_airflow.compat import Context
    from sankofa_airflow.contract import End
    from sankofa_airflow.order import Order

MESSAGE = "/dev/termination-log"
TOKEN_DIRECTORY = "/var/run/secrets/sankofa"
WRITABLE = {"tmp": "/tmp", "run": "/run/sankofa"}  # noqa: S108 (inside the pod)
STAGE = "/stage"
IMAGE_GROUP = 10001
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
            random_name_suffix=False,
            do_xcom_push=False,
            deferrable=False,  # whatever [operators] default_deferrable says: it ends by another way
            termination_grace_period=GRACE_SECONDS,
            active_deadline_seconds=self.timeout_seconds + int(MARGIN.total_seconds()),
            labels={"sankofa-instance": settings.instance},
            **base,
        )
        self.taken: Pod | None = None
        """The pod that this try has started or adopted."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Start or find the pod, follow it, delete it, and say how it ended."""
        order = self.make_order(context)
        self.fill(order)
        pod = self.task_pod()
        self.sweep()
        try:
            end = self.harvested(pod) or self.followed(pod, context)
        except Away:
            raise  # a next try adopts what still runs
        except UNREACHABLE as error:
            self.on_kill()
            raise refused(error, pod.name) from None
        except BaseException:  # AirflowTaskTimeout is one in 2.11
            self.on_kill()
            raise
        pod.delete()
        return self.finish(context, end)

    def task_pod(self) -> Pod:
        """Return the pod of this task instance, whether it is there or not."""
        return Pod(self.client, str(self.namespace), str(self.name), self.log)

    def harvested(self, pod: Pod) -> End | None:
        """Return how the pod of an earlier try ended, where that is final; delete any other.

        What ended in a way that a retry can mend was that try's failure; this try is its retry.
        """
        found = pod.read()
        if found is None:
            return None
        end = end_of(found)
        if found.metadata.deletion_timestamp is not None:
            self.log.info("pod %s of an earlier try is being deleted: waiting for its end", pod.name)
        elif end is None:
            return None
        else:
            self.log.info("try %s left a pod, which has ended: %s", try_of(found), words(end))
            if end.is_final:
                pod.stream()
                return end
            pod.delete()
        if not pod.is_gone():
            raise AirflowException(f"pod {pod.name} of an earlier try is still there; a next try looks again")
        return None

    def followed(self, pod: Pod, context: Context) -> End:
        """Start the pod, or adopt what runs, and follow it to its end."""
        found = pod.read()
        if found is not None:
            self.taken = pod
            self.log.info("pod %s of try %s runs: adopted", pod.name, try_of(found))
            return pod.follow()
        body = self.build_pod_request_obj(context)
        self.taken = pod  # before it is there: whatever ends this try from here on deletes it
        # By the plain client: the stock operator's own prints the whole spec where it is refused.
        if not pod.create(body):
            self.taken = None
            raise AirflowException("another try of this task has just started its pod")
        self.log.info("pod %s started from %s", pod.name, self.image)
        return pod.follow()

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
            run_as_non_root=True,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
            fs_group=IMAGE_GROUP if self.settings.kubernetes_stage_claim else None,
        )
        self.container_security_context = k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        )
        self.volumes, self.volume_mounts = self.mounts()
        self.annotations = {**(self.annotations or {}), **order.labels}

    def mounts(self) -> tuple[list[Any], list[Any]]:
        """Return what the image writes to, the token that Vault is shown, the operator's sankofa.yaml, the stage."""
        token = k8s.V1ServiceAccountTokenProjection(
            audience=self.settings.kubernetes_audience, path="token", expiration_seconds=600
        )
        projected = k8s.V1ProjectedVolumeSource(sources=[k8s.V1VolumeProjection(service_account_token=token)])
        memory = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit="64Mi")
        volumes = [k8s.V1Volume(name=name, empty_dir=memory) for name in WRITABLE]
        mounts = [k8s.V1VolumeMount(name=name, mount_path=path) for name, path in WRITABLE.items()]
        volumes.append(k8s.V1Volume(name="token", projected=projected))
        mounts.append(k8s.V1VolumeMount(name="token", mount_path=TOKEN_DIRECTORY, read_only=True))
        if self.settings.kubernetes_config_map:
            source = k8s.V1ConfigMapVolumeSource(name=self.settings.kubernetes_config_map)
            volumes.append(k8s.V1Volume(name="project", config_map=source))
            mounts.append(k8s.V1VolumeMount(name="project", mount_path="/etc/sankofa", read_only=True))
        if self.settings.kubernetes_stage_claim:
            claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=self.settings.kubernetes_stage_claim)
            volumes.append(k8s.V1Volume(name="stage", persistent_volume_claim=claim))
            mounts.append(k8s.V1VolumeMount(name="stage", mount_path=STAGE))
        return volumes, mounts

    def on_kill(self) -> None:
        """End the pod and delete it: SIGTERM, GRACE_SECONDS, SIGKILL."""
        if self.taken is not None:
            self.taken.delete(GRACE_SECONDS)

    def sweep(self) -> None:
        """Delete what tasks have left that no try will come back for. See `reap`."""
        from sankofa_airflow.reap import reap_pods

        try:
            for name in reap_pods(self.client, str(self.namespace), self.settings.instance):
                self.log.info("deleted pod %s, left by an earlier task", name)
        except UNREACHABLE as error:
            self.log.warning("cannot look for leftovers: %s", type(error).__name__)


def try_of(pod: Any) -> str:
    """Return the try that started a pod."""
    return str((pod.metadata.labels or {}).get("try_number", "?"))
