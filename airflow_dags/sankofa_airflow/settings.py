"""What the operator has set: section `[sankofa]` of airflow.cfg, or AIRFLOW__SANKOFA__<KEY>.

In:    Airflow's configuration. Out: `Settings`.
Holds: DAGs have no way to set any of it; no value is a secret; a value that cannot be read is told
       with its key. Reading costs no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One key of `[sankofa]`."""

    meaning: str
    default: str | None = None
    example: str | None = None


OPTIONS: dict[str, Option] = {
    "launcher": Option("What starts the containers: docker, nomad or kubernetes.", "docker"),
    "image": Option("The image, best by digest; not used on Nomad, whose parent jobs name it.", "sankofa:latest"),
    "environment": Option("Section of the locks that is run, and `--env` of every command.", "", "prod"),
    "instance": Option("Name of this Airflow, where several share one Docker, Nomad or cluster.", "airflow"),
    "warehouse": Option("Name of the warehouse in assets: sankofa://<warehouse>/<schema>.", "warehouse"),
    "locks": Option("Directory of the locks; default: `locks` beside the DAG file's folder.", ""),
    "backups": Option("Path of backups.lock.json, made by `sankofa config compile --backups`.", ""),
    "backups_schedule": Option("When the backups that Airflow starts run.", "0 1 * * *"),
    "pool": Option("Pool of all tasks, which must be there.", "default_pool"),
    "retries": Option("Tries after the first, where a pipeline does not say.", "2"),
    "retry_delay_seconds": Option("Wait before the second try, where a pipeline does not say; doubled each time.", "300"),
    "timeout_minutes": Option("Longest run, where a pipeline does not say.", "720"),
    "notify": Option("Connections that are told of failures, by comma: http (webhook), slack, msteams, smtp.", ""),
    "mail_to": Option("Who gets the mail, by comma.", "", "data-office@school.example"),
    "late_after_minutes": Option("On Airflow 3.1+, tell too when a run takes longer; 0: never.", "0"),
    "docker_url": Option("The Docker daemon; default: DOCKER_HOST, else its usual socket.", ""),
    "docker_network": Option("Network of the containers.", "", "sankofa"),
    "docker_conn_id": Option("Connection with the login of the image's registry.", ""),
    "docker_environment": Option("Variables of the containers, JSON, {class} is filled in; never a secret.", "{}", '{"VAULT_ADDR": "..."}'),
    "docker_mounts": Option("Mounts, JSON list of docker's own fields.", "[]", '[{"Source": "/srv/stage", ...}]'),
    "vault_conn_id": Option("Docker only: connection by which a wrapped secret_id is asked for.", ""),
    "vault_role": Option("Docker only: approle that it is for; {class} is rows or backup.", "sankofa-{class}"),
    "nomad_conn_id": Option("Connection to Nomad.", "nomad_default"),
    "nomad_job": Option("Parent job; {class} is rows or backup.", "sankofa-{class}"),
    "nomad_task": Option("Its task that runs Sankofa.", "sankofa"),
    "nomad_placement_minutes": Option("How long an allocation may wait to be placed.", "15"),
    "kubernetes_conn_id": Option("Connection to the cluster.", "kubernetes_default"),
    "kubernetes_namespace": Option("Namespace of the pods.", "sankofa"),
    "kubernetes_service_account": Option("Service account; {class} is rows or backup.", "sankofa-{class}"),
    "kubernetes_audience": Option("Audience of the token that Vault is shown.", "vault"),
    "kubernetes_pull_secrets": Option("Image pull secrets, by comma.", ""),
    "kubernetes_environment": Option("Variables of the pods, JSON; never a secret.", "{}"),
    "kubernetes_config_map": Option("ConfigMap with sankofa.yaml, mounted at /etc/sankofa.", ""),
    "kubernetes_stage_claim": Option("PersistentVolumeClaim (ReadWriteMany) of the stage, mounted at /stage.", ""),
}

LAUNCHERS = ("docker", "nomad", "kubernetes")


class SettingsError(ValueError):
    """A key of `[sankofa]` cannot be read; the DAG is red until it can."""


@dataclass(frozen=True)
class Settings:
    """`[sankofa]`, read."""

    launcher: str = "docker"
    image: str = "sankofa:latest"
    environment: str = ""
    instance: str = "airflow"
    warehouse: str = "warehouse"
    locks: str = ""
    backups: str = ""
    backups_schedule: str = "0 1 * * *"
    pool: str = "default_pool"
    retries: int = 2
    retry_delay_seconds: int = 300
    timeout_minutes: int = 720
    notify: tuple[str, ...] = ()
    mail_to: tuple[str, ...] = ()
    late_after_minutes: int = 0
    docker_url: str = ""
    docker_network: str = ""
    docker_conn_id: str = ""
    docker_environment: dict[str, str] = field(default_factory=dict)
    docker_mounts: list[dict[str, Any]] = field(default_factory=list)
    vault_conn_id: str = ""
    vault_role: str = "sankofa-{class}"
    nomad_conn_id: str = "nomad_default"
    nomad_job: str = "sankofa-{class}"
    nomad_task: str = "sankofa"
    nomad_placement_minutes: int = 15
    kubernetes_conn_id: str = "kubernetes_default"
    kubernetes_namespace: str = "sankofa"
    kubernetes_service_account: str = "sankofa-{class}"
    kubernetes_audience: str = "vault"
    kubernetes_pull_secrets: tuple[str, ...] = ()
    kubernetes_environment: dict[str, str] = field(default_factory=dict)
    kubernetes_config_map: str = ""
    kubernetes_stage_claim: str = ""

    def of_class(self, template: str, privilege: str) -> str:
        """Fill the privilege class (`rows`, `backup`) into the name of a job, role or account."""
        return template.replace("{class}", privilege)


_held: ContextVar[Settings | None] = ContextVar("held", default=None)


@contextmanager
def held() -> Iterator[Settings]:
    """Read once for everything inside: a look-up costs 0.3 ms a key, and 600 tasks would pay it each."""
    settings = read()
    token = _held.set(settings)
    try:
        yield settings
    finally:
        _held.reset(token)


def read() -> Settings:
    """Return `[sankofa]` as it is set now.

    Raises SettingsError naming the key; costs a few dictionary look-ups.
    """
    known = _held.get()
    if known is not None:
        return known
    from sankofa_airflow.compat import conf

    found = tuple((name, conf.get("sankofa", name, fallback=option.default) or "") for name, option in OPTIONS.items())
    return _read(found)


@lru_cache(maxsize=8)
def _read(found: tuple[tuple[str, str], ...]) -> Settings:
    kinds = {one.name: str(one.type) for one in fields(Settings)}
    settings = Settings(**{name: _value(name, text, kinds[name]) for name, text in found})
    if settings.launcher not in LAUNCHERS:
        raise SettingsError(f"cannot read [sankofa] launcher: it is none of {', '.join(LAUNCHERS)}")
    return settings


def _value(name: str, text: str, kind: str) -> Any:
    text = text.strip() or (OPTIONS[name].default or "")
    try:
        if kind == "int":
            return int(text)
        if kind.startswith("tuple"):
            return tuple(word.strip() for word in text.split(",") if word.strip())
        if kind.startswith(("dict", "list")):
            value = json.loads(text)
            if not isinstance(value, dict if kind.startswith("dict") else list):
                raise ValueError
            return value
    except ValueError:
        wanted = "a number" if kind == "int" else "JSON: an object" if kind.startswith("dict") else "JSON: a list"
        raise SettingsError(f"cannot read [sankofa] {name}: it is not {wanted}") from None
    return text
