"""Connection type `nomad`: address and ACL token of a Nomad cluster.

In:    a connection: host, port, schema (http, https), password = token; extra `namespace`, `region`,
       `ca_cert`. Type `http` is read alike. Out: a `Nomad`.
"""

from __future__ import annotations

from typing import Any

from sankofa_airflow.compat import BaseHook
from sankofa_airflow.nomad_api import Nomad
from sankofa_airflow.provider import NOMAD_FIELDS


class NomadHook(BaseHook):
    """Opens a connection of type `nomad`."""

    conn_name_attr = "nomad_conn_id"
    default_conn_name = "nomad_default"
    conn_type = "nomad"
    hook_name = "Nomad"

    def __init__(self, nomad_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.nomad_conn_id = nomad_conn_id

    def get_conn(self) -> Nomad:
        """Return the cluster; asks it nothing yet."""
        conn = self.get_connection(self.nomad_conn_id)
        host = str(conn.host or "127.0.0.1")
        scheme = conn.schema or ("http" if host in ("127.0.0.1", "localhost") else "https")
        return Nomad(f"{scheme}://{host}:{conn.port or 4646}", conn.password or "", conn.extra_dejson)

    def test_connection(self) -> tuple[bool, str]:
        """What the button `Test` of the connection page shows."""
        try:
            self.get_conn().children("sankofa-rows", "")
        except Exception as error:  # noqa: BLE001 (shown to a person)
            return False, str(error)
        return True, "Nomad answers, and the token may list jobs"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Fields of the form, for Airflow 2; Airflow 3 reads them from the provider's info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField

        return {
            name: StringField(lazy_gettext(label), widget=BS3TextFieldWidget()) for name, label in NOMAD_FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the usual fields the form shows, and how it calls them."""
        return {
            "hidden_fields": ["login", "extra"],
            "relabeling": {"schema": "http or https", "password": "ACL token"},
            "placeholders": {"host": "nomad.service.consul", "port": "4646", "schema": "https"},
        }
