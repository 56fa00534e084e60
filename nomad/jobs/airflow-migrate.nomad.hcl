# Migrates Airflow's metadata database: one batch job, count 1, before any service. Several at once fail (measured).
#
# run: nomad job run nomad/jobs/airflow-migrate.nomad.hcl     again after each upgrade of the image
variable "airflow_image" {
  type    = string
  default = "sankofa-airflow:latest" # Airflow with the package sankofa_airflow and git: docker/airflow.Dockerfile
}

job "airflow-migrate" {
  type      = "batch"
  namespace = "platform"

  group "migrate" {
    count = 1

    restart {
      attempts = 3
      delay    = "15s"
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "migrate" {
      driver = "docker"
      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "airflow"
        args         = ["db", "migrate"]
      }
      env {
        AIRFLOW__CORE__EXECUTOR                       = "CeleryExecutor"
        AIRFLOW__CORE__LOAD_EXAMPLES                  = "False"
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL       = "http://127.0.0.1:8080/execution/"
        AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL = "10"
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH = "/alloc/data/bundles"
        # Airflow follows the ref that the analysts' CI moves, every 5 minutes; a run keeps its version.
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST = <<-EOT
        [{"name": "sankofa", "classpath": "sankofa_airflow.bundle.DeployedBundle", "kwargs": {"git_conn_id": "sankofa_git", "tracking_ref": "deployed", "subdir": "airflow_dags", "refresh_interval": 300}}]
        EOT
        AIRFLOW__SANKOFA__LAUNCHER                    = "nomad"
        AIRFLOW__SECRETS__BACKEND                     = "airflow.providers.hashicorp.secrets.vault.VaultBackend"
      }
      # Secrets: `nomad var put nomad/jobs/airflow sql_alchemy_conn=... fernet_key=... jwt_secret=... broker_url=...`
      template {
        destination = "secrets/airflow.env"
        env         = true
        change_mode = "restart"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs/airflow" }}
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN={{ .sql_alchemy_conn }}
        AIRFLOW__CORE__FERNET_KEY={{ .fernet_key }}
        AIRFLOW__API_AUTH__JWT_SECRET={{ .jwt_secret }}
        AIRFLOW__CELERY__BROKER_URL={{ .broker_url }}
        AIRFLOW__CELERY__RESULT_BACKEND={{ .result_backend }}
        {{ end }}
        EOT
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }
}
