"""Locks: what `sankofa config compile` has made of the analysts' YAML.

In:    `locks/<pipeline>.lock.json`, `backups.lock.json`. Out: `Section`, `Database`.
Holds: a lock that is torn, of another kind or of another version is one `LockError` that says what to
       type, never a half-read pipeline. Nothing is asked of the network.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sankofa_airflow import __version__

SCHEMA = 1
"""The newest version of a lock's fields that this package reads; it reads all older ones."""

ENVIRONMENT_BYTES = 128 * 1024 - len("SANKOFA_PIPELINE=") - 1
"""Linux takes no longer string in an environment (MAX_ARG_STRLEN, its NUL included)."""

ORDER_OF_UPGRADE = "Upgrade sankofa-airflow first, then the image, then compile the locks with the new version."


class LockError(ValueError):
    """A lock cannot be used; what a run of it would end with is 78."""


@dataclass(frozen=True)
class Section:
    """One pipeline in one environment."""

    name: str
    environment: str
    fields: dict[str, Any]

    @property
    def tables(self) -> list[dict[str, str]]:
        """Its tables: `name` at the source, `target` in the warehouse, `mode`."""
        return list(self.fields["tables"])

    def packed(self) -> str:
        """Return the pipeline for SANKOFA_PIPELINE: gzip and base64, the same text each time.

        Packed always, since Nomad replaces `${...}` in what it is given. Raises LockError where it is
        longer than an environment can hold (about 1 MiB of JSON).
        """
        text = json.dumps(self.fields["pipeline"], separators=(",", ":"), ensure_ascii=False)
        packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
        if len(packed) > ENVIRONMENT_BYTES:
            raise LockError(
                f"cannot start {self.name}: packed, it has {len(packed)} bytes, and an environment holds"
                f" {ENVIRONMENT_BYTES}. Split the pipeline in two."
            )
        return packed


@dataclass(frozen=True)
class Database:
    """A database that Airflow backs up."""

    name: str
    expected_every_seconds: int


def read_pipeline(path: Path, environment: str) -> Section:
    """Read the section of `environment` from the lock at `path`, the file itself where it has none.

    Raises LockError. Costs one small file.
    """
    lock = _read(path, "pipeline")
    name, sections = lock.get("name"), lock.get("environments")
    if path.name != f"{name}.lock.json":
        raise LockError(f"cannot use {path.name}: it is the lock of {name}. Compile it again; locks are not renamed.")
    fields = (sections or {}).get(environment or "default") or (sections or {}).get("default")
    wanted = ("pipeline", "tables", "warehouse_schema", "config_hash", "source")
    if not isinstance(fields, dict) or any(key not in fields for key in wanted):
        raise LockError(f"cannot use {path.name}: it is not whole. Run `sankofa config compile {name}`.")
    return Section(str(name), environment, fields)


def read_backups(path: Path) -> list[Database]:
    """Read the databases that Airflow backs up. Raises LockError."""
    databases = _read(path, "backups").get("databases")
    try:
        return [Database(str(one["name"]), int(one["expected_every_seconds"])) for one in databases or []]
    except (TypeError, KeyError, ValueError):
        raise LockError(f"cannot use {path.name}: run `sankofa config compile --backups`") from None


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        lock = json.loads(path.read_bytes())
    except OSError as error:
        raise LockError(f"cannot read {path.name}: {error.strerror}") from None
    except ValueError:
        raise LockError(f"cannot read {path.name}: it is not JSON. Run `sankofa config compile`.") from None
    if not isinstance(lock, dict) or lock.get("kind") != kind:
        raise LockError(f"cannot read {path.name}: it is no lock of {kind}. Run `sankofa config compile`.")
    schema, fits = lock.get("schema"), lock.get("fits") or {}
    if not isinstance(schema, int) or schema > SCHEMA or _version(fits.get("package")) > _version(__version__):
        raise LockError(
            f"cannot read {path.name}: it is of schema {schema} and fits sankofa-airflow {fits.get('package')}"
            f" or newer, this is {__version__} and reads {SCHEMA}. {ORDER_OF_UPGRADE}"
        )
    return lock


def _version(text: object) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in str(text or "0").split("-")[0].split("+")[0].split("."))
    except ValueError:
        return (0,)
