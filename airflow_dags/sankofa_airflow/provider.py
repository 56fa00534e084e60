"""What Airflow is told about this package: plain data, nothing imported.

In:    nothing. Out: `INFO`.
"""

from __future__ import annotations

from typing import Any

from sankofa_airflow import __version__
from sankofa_airflow.settings import OPTIONS

NOMAD_FIELDS = {
    "namespace": "Namespace that the parent jobs are in",
    "region": "Region; empty: the agent's own",
    "ca_cert": "Path, on the workers, of the CA that signed the agent's certificate",
}

INFO: dict[str, Any] = {
    "package-name": "sankofa-airflow",
    "name": "Sankofa",
    "description": "Starts Sankofa in Docker, on Nomad, in Kubernetes.",
    "versions": [__version__],
    "connection-types": [
        {
            "connection-type": "nomad",
            "hook-class-name": "sankofa_airflow.nomad_hook.NomadHook",
            "hook-name": "Nomad",
            "ui-field-behaviour": {
                "hidden-fields": ["login"],
                "relabeling": {"schema": "http or https", "password": "ACL token"},
                "placeholders": {"host": "nomad.service.consul", "port": "4646", "schema": "https"},
            },
            "conn-fields": {
                name: {"label": label, "schema": {"type": ["string", "null"]}} for name, label in NOMAD_FIELDS.items()
            },
        }
    ],
    "cli": ["sankofa_airflow.cli.airflow_commands"],
    "notifications": ["sankofa_airflow.notify.SankofaNotifier"],
    "config": {
        "sankofa": {
            "description": "How Sankofa is started, and who is told. Set by the operator; DAGs cannot.",
            "options": {
                name: {
                    "description": option.meaning,
                    "version_added": "0.1.0",
                    "type": "string",
                    "example": option.example,
                    # Airflow fills braces in a default, and ours are no fields of its own.
                    "default": None if "{" in (option.default or "") else option.default,
                }
                for name, option in OPTIONS.items()
            },
        }
    },
}
