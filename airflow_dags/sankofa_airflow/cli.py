"""`sankofa_airflow doctor | reap`; on Airflow 3 `airflow sankofa doctor | reap` too.

In:    words of the command line. Out: lines for a person; exit status 0, 1 (reap failed) or 78 (doctor
       found what is missing).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sankofa_airflow import __version__
from sankofa_airflow import settings as all_settings


def main(words: list[str] | None = None) -> int:
    """Run the command that `words` name."""
    parser = argparse.ArgumentParser("sankofa_airflow", description="Sankofa beside an Airflow that is there.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="print what is missing on this machine; touches nothing")
    reaping = commands.add_parser("reap", help="end and remove what tasks have left, past its time")
    reaping.add_argument("--all", action="store_true", help="what has ended too, without waiting for a next try")
    args = parser.parse_args(words)
    return doctor() if args.command == "doctor" else reap(everything=args.all)


def doctor(args: Any = None) -> int:
    """Print every finding; 78 where one is wrong."""
    from sankofa_airflow.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok    ' if finding.is_ok else 'WRONG '} {finding.what}")
        if finding.hint and not finding.is_ok:
            print(f"        {finding.hint}")
    return 0 if all(finding.is_ok for finding in findings) else 78


def reap(args: Any = None, *, everything: bool = False) -> int:
    """Remove what is past its time; print each."""
    from sankofa_airflow import reap as reaping

    settings = all_settings.read()
    keep = 0 if everything or getattr(args, "all", False) else reaping.KEEP_SECONDS
    try:
        for name in of_launcher(settings, keep):
            print(f"removed {name}")
    except Exception as error:  # noqa: BLE001 (told to a person)
        print(f"error: cannot reap: {error}", file=sys.stderr)
        return 1
    return 0


def of_launcher(settings: all_settings.Settings, keep: int) -> Any:
    """Return what the launcher's reaper removes, one by one."""
    from sankofa_airflow import reap as reaping

    if settings.launcher == "docker":
        import docker

        client = docker.APIClient(base_url=settings.docker_url) if settings.docker_url else docker.from_env().api
        return reaping.reap_docker(client, settings.instance, keep)
    if settings.launcher == "nomad":
        from sankofa_airflow.nomad_hook import NomadHook

        nomad = NomadHook(settings.nomad_conn_id).get_conn()
        parents = [settings.of_class(settings.nomad_job, one) for one in ("rows", "backup")]
        age = settings.timeout_minutes * 60 + reaping.MARGIN_SECONDS
        return (name for parent in parents for name in reaping.reap_nomad(nomad, parent, age))
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    client = KubernetesHook(conn_id=settings.kubernetes_conn_id).core_v1_client
    return reaping.reap_pods(client, settings.kubernetes_namespace, settings.instance, keep)


def airflow_commands() -> list[Any]:
    """Return `airflow sankofa ...`, for Airflow's own command line (3.x reads it from the provider)."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    commands = [
        ActionCommand(name="doctor", help="Print what Sankofa lacks on this machine", func=airflow_doctor, args=()),
        ActionCommand(name="reap", help="Remove what Sankofa's tasks have left", func=airflow_reap, args=()),
    ]
    return [GroupCommand(name="sankofa", help="Sankofa's launchers", subcommands=commands)]


def airflow_doctor(args: Any) -> None:
    """`airflow sankofa doctor`."""
    sys.exit(doctor())


def airflow_reap(args: Any) -> None:
    """`airflow sankofa reap`."""
    sys.exit(reap())


if __name__ == "__main__":
    sys.exit(main())
