"""What is missing on this machine before the first DAG is green.

In:    `[sankofa]`, Airflow's connections, the launcher. Out: findings, each with what to do.
Holds: touches nothing; asks each outside system once; never prints a value of a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sankofa_airflow import __version__, lock
from sankofa_airflow import settings as all_settings


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_ok: bool = True
    hint: str = ""


def examine() -> list[Finding]:
    """Return everything that was found, the order of setting it up."""
    try:
        settings = all_settings.read()
    except all_settings.SettingsError as error:
        return [Finding(str(error), False, "Mend it in airflow.cfg, or AIRFLOW__SANKOFA__<KEY>.")]
    found = [Finding(f"sankofa-airflow {__version__}, Airflow {version('apache-airflow')}")]
    looks: list[Callable[[all_settings.Settings], Iterator[Finding]]] = [
        packages,
        locks,
        LAUNCHERS[settings.launcher],
        alerts,
    ]
    for look in looks:
        try:
            found += look(settings)
        except Exception as error:  # noqa: BLE001 (a finding)
            text = f"{look.__name__}: {type(error).__name__}: {str(error)[:300]}"
            found.append(Finding(text, False, "See docs/airflow.md for what must be there."))
    return found


def version(package: str) -> str:
    """Return the version of an installed package, or `none`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def packages(settings: all_settings.Settings) -> Iterator[Finding]:
    """The provider that the launcher needs."""
    needed = {"docker": "docker", "kubernetes": "cncf-kubernetes"}.get(settings.launcher)
    if needed:
        package = f"apache-airflow-providers-{needed}"
        hint = f"pip install 'sankofa-airflow[{settings.launcher}]'"
        yield Finding(f"launcher {settings.launcher}: {package} {version(package)}", version(package) != "none", hint)


def locks(settings: all_settings.Settings) -> Iterator[Finding]:
    """The locks, where their place is known."""
    if settings.locks:
        home = Path(settings.locks)
        paths = [path for path in sorted(home.glob("*.lock.json")) if path.name != "backups.lock.json"]
        yield Finding(f"{len(paths)} locks in {home}", bool(paths), "Run `sankofa config compile` in the project.")
        for path in paths:
            yield of_lock(path.name, lambda path=path: lock.read_pipeline(path, settings.environment))
    if settings.backups:
        path = Path(settings.backups)
        yield of_lock(path.name, lambda: lock.read_backups(path))


def of_lock(name: str, read: Callable[[], Any]) -> Finding:
    """Whether one lock can be read."""
    try:
        read()
    except lock.LockError as error:
        return Finding(f"lock {name}: {error}", False)
    return Finding(f"lock {name}")


def docker(settings: all_settings.Settings) -> Iterator[Finding]:
    """The daemon, and the image there."""
    import docker as client

    api = client.APIClient(base_url=settings.docker_url) if settings.docker_url else client.from_env().api
    yield Finding(f"Docker {api.version()['Version']} at {settings.docker_url or 'its usual place'}")
    is_here = bool(api.images(name=settings.image))
    yield Finding(f"image {settings.image}{'' if is_here else ' is not here'}", is_here, "The first task pulls it.")
    yield Finding("docker.sock: who writes DAGs can become root on this worker; see docs/security.md")
    if settings.vault_conn_id:
        yield of_connection(settings.vault_conn_id)


def nomad(settings: all_settings.Settings) -> Iterator[Finding]:
    """The connection, the token's rights as far as they can be seen, the parent jobs."""
    from sankofa_airflow.nomad_api import NomadError
    from sankofa_airflow.nomad_hook import NomadHook

    api = NomadHook(settings.nomad_conn_id).get_conn()
    for privilege in ("rows", "backup"):
        parent = settings.of_class(settings.nomad_job, privilege)
        job = {one["ID"]: one for one in api.json("list jobs", "GET", "/v1/jobs", {"prefix": parent})}.get(parent)
        is_ready = bool(job and job.get("ParameterizedJob") and not job.get("Stop"))
        yield Finding(f"parent job {parent}", is_ready, f"nomad job run nomad/{parent}.nomad.hcl")
    try:
        api.allocations("sankofa-doctor")
        yield Finding("the token may read jobs")
    except NomadError as error:
        yield Finding(str(error), False, "Apply the policy of nomad/policies to Airflow's token.")


def kubernetes(settings: all_settings.Settings) -> Iterator[Finding]:
    """The cluster, what Airflow's account may do in the namespace, the service accounts."""
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client import AuthorizationV1Api

    hint = "Apply docs/grants/kubernetes.yaml."
    api = KubernetesHook(conn_id=settings.kubernetes_conn_id).core_v1_client
    namespace, may = settings.kubernetes_namespace, AuthorizationV1Api(api.api_client)
    for resource, verbs in KUBERNETES_RIGHTS.items():
        kind, _, part = resource.partition("/")
        for verb in verbs:
            about = {"namespace": namespace, "verb": verb, "resource": kind, "subresource": part}
            asked = may.create_self_subject_access_review({"spec": {"resourceAttributes": about}})
            yield Finding(f"namespace {namespace}: may {verb} {resource}", bool(asked.status.allowed), hint)
            if resource == "serviceaccounts" and not asked.status.allowed:
                return
    names = {one.metadata.name for one in api.list_namespaced_service_account(namespace).items}
    for privilege in ("rows", "backup"):
        name = settings.of_class(settings.kubernetes_service_account, privilege)
        yield Finding(f"service account {name}", name in names, hint)


KUBERNETES_RIGHTS = {"pods": ("create", "get", "list", "watch", "delete"), "pods/log": ("get",), "serviceaccounts": ("list",)}
"""What docs/grants/kubernetes.yaml gives Airflow's account, and no more."""


def alerts(settings: all_settings.Settings) -> Iterator[Finding]:
    """Who is told of failures."""
    hint = "Set [sankofa] notify to a connection; a failed run is seen by nobody who does not look."
    yield Finding(f"told of failures: {', '.join(settings.notify) or 'nobody'}", bool(settings.notify), hint)
    for conn_id in settings.notify:
        finding = of_connection(conn_id)
        yield finding


def of_connection(conn_id: str) -> Finding:
    """Whether a connection is there."""
    from sankofa_airflow.notify import connection

    try:
        conn = connection(conn_id)
    except Exception as error:  # noqa: BLE001 (a finding; its text may quote the connection)
        return Finding(f"connection {conn_id}: {type(error).__name__}", False, f"airflow connections add {conn_id} ...")
    return Finding(f"connection {conn_id}, type {conn.conn_type}")


LAUNCHERS = {"docker": docker, "nomad": nomad, "kubernetes": kubernetes}
