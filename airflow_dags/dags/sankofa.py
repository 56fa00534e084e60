"""Every pipeline of `pipelines/`, and the backups that Airflow starts, as DAGs.

Nothing is changed here: write `pipelines/<name>.yaml`, run `sankofa config compile`, commit both.
Owner: data platform. Rerun: always safe, a run that is loaded already changes nothing.
"""

from sankofa_airflow.factory import build_dags

globals().update(build_dags(__file__))
