# Airflow's image for this platform: Airflow 3.3, the package sankofa_airflow, git for DAG bundles. Every process of
# Airflow runs from it: api-server, scheduler, dag-processor, triggerer, worker, and the migration.
#
# build:  make airflow-image                          (IMAGE=..., AIRFLOW_BASE=... change it)
#         docker build -f docker/airflow.Dockerfile -t sankofa-airflow:local airflow_dags
#         The context is airflow_dags/: the package is built from it. The DAGs themselves are not in the image: they are
#         mounted (docker/compose.yaml) or fetched by git (nomad/, GitDagBundle).
# base:   the slim image of Airflow, or any with Python 3.11 or 3.12 and a user `airflow`; what is missing is installed.
# Upgrade: the package first, then Sankofa's image, then the locks. Versions here are those of tests/testbed/airflow/3.txt.
ARG BASE=apache/airflow:slim-3.3.2-python3.11
FROM ${BASE}
ARG AIRFLOW=3.3.2
ARG DOCKER_PROVIDER=4.6.1
ARG KUBERNETES_PROVIDER=10.25.0
ARG CELERY_PROVIDER=3.26.0
ARG GIT_PROVIDER=1.0.1
USER root
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends ca-certificates curl git openssh-client >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY pyproject.toml README.md /build/
COPY sankofa_airflow /build/sankofa_airflow
RUN chown -R airflow /build
USER airflow
# One resolution of everything: a provider never changes Airflow's own version.
RUN pip install --no-cache-dir --disable-pip-version-check \
        "apache-airflow==${AIRFLOW}" \
        "apache-airflow-providers-docker==${DOCKER_PROVIDER}" \
        "apache-airflow-providers-cncf-kubernetes==${KUBERNETES_PROVIDER}" \
        "apache-airflow-providers-celery==${CELERY_PROVIDER}" \
        "apache-airflow-providers-git==${GIT_PROVIDER}" \
        "celery[redis]" psycopg2-binary asyncpg \
        "/build[docker,nomad,kubernetes]"
LABEL org.opencontainers.image.title="sankofa-airflow" \
      org.opencontainers.image.description="Airflow ${AIRFLOW} with the package sankofa_airflow" \
      org.opencontainers.image.licenses="Apache-2.0"
