"""Print as JSON what Airflow's own backends make of files and of secrets on an AWS and in a Vault.

Usage: airflow_backends.py FOLDER ENDPOINT PREFIX < ids, one a line. FOLDER/<id>.json holds connection `x`. VAULT_ADDR,
VAULT_MOUNT and VAULT_TOKEN name a Vault whose engine of version 2 holds the same ids below `connections`.
Reads: Airflow of the test bed. The Task SDK's connection, as a task sees it, wherever a backend lets us choose.
"""

import json
import logging
import os
import sys

logging.disable(logging.CRITICAL)

from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend  # noqa: E402
from airflow.providers.hashicorp.secrets.vault import VaultBackend  # noqa: E402
from airflow.sdk import Connection  # noqa: E402
from airflow.secrets.local_filesystem import LocalFilesystemBackend  # noqa: E402

FIELDS = ("conn_type", "login", "password", "host", "port", "schema")


def told(ask):
    """Return the fields of what ``ask`` gives, or the name of what it raises."""
    try:
        connection = ask()
        if connection is None:
            return None
        found = {field: getattr(connection, field) for field in FIELDS}
        try:
            found["extra"] = json.loads(connection.extra) if connection.extra else {}
        except ValueError:
            found["extra"] = "no JSON"
        return found
    except Exception as error:
        return {"error": type(error).__name__}


def main():
    folder, endpoint, prefix = sys.argv[1:]
    aws = SecretsManagerBackend(connections_prefix=prefix, region_name="eu-west-1", endpoint_url=endpoint)
    vault = VaultBackend(
        connections_path="connections", mount_point=os.environ["VAULT_MOUNT"], kv_engine_version=2,
        url=os.environ["VAULT_ADDR"], auth_type="token", token=os.environ["VAULT_TOKEN"],
    )
    aws._connection_class = vault._connection_class = Connection
    ids = sys.stdin.read().split()
    files = {one: told(lambda: LocalFilesystemBackend(connections_file_path=f"{folder}/{one}.json").get_connection("x"))
             for one in ids}
    others = {name: {one: told(lambda: backend.get_connection(one)) for one in ids}
              for name, backend in (("aws", aws), ("vault", vault))}
    print(json.dumps({"files": files, **others}))


main()
