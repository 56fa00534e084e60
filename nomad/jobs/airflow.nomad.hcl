# Airflow 3: api-server, scheduler, dag-processor, triggerer, worker. Nothing of it starts before airflow-migrate is through.
#
# run: nomad job run nomad/jobs/airflow-migrate.nomad.hcl; then this. Each group waits for the migration by itself
#      (`db check-migrations`; a worker, which has no database, for the api-server's health), so that a reboot
#      of the whole machine in any order comes up too.
variable "airflow_image" {
  type    = string
  default = "sankofa-airflow:latest" # Airflow with the package sankofa_airflow and git: docker/airflow.Dockerfile
}

job "airflow" {
  type      = "service"
  namespace = "platform"

  group "api-server" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "15s"
      mode     = "delay"
    }

    task "wait" {
      driver = "docker"
      lifecycle {
        hook = "prestart"
      }
      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "bash"
        args         = ["-c", "airflow db check-migrations --migration-wait-timeout 300"]
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
        cpu    = 200
        memory = 512
      }
    }

    task "api-server" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "airflow"
        args         = ["api-server", "--port", "8080"]
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

      service {
        name     = "airflow-api"
        provider = "nomad"
        check {
          type     = "http"
          path     = "/api/v2/monitor/health"
          interval = "15s"
          timeout  = "5s"
          port     = "8080"
        }
      }

      logs {
        max_files     = 5
        max_file_size = 20
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }

  group "scheduler" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "15s"
      mode     = "delay"
    }

    task "wait" {
      driver = "docker"
      lifecycle {
        hook = "prestart"
      }
      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "bash"
        args         = ["-c", "airflow db check-migrations --migration-wait-timeout 300"]
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
        cpu    = 200
        memory = 512
      }
    }

    task "scheduler" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "airflow"
        args         = ["scheduler"]
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

      logs {
        max_files     = 5
        max_file_size = 20
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }

  group "dag-processor" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "15s"
      mode     = "delay"
    }

    task "wait" {
      driver = "docker"
      lifecycle {
        hook = "prestart"
      }
      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "bash"
        args         = ["-c", "airflow db check-migrations --migration-wait-timeout 300"]
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
        cpu    = 200
        memory = 512
      }
    }

    task "dag-processor" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "airflow"
        args         = ["dag-processor"]
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

      logs {
        max_files     = 5
        max_file_size = 20
      }

      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }

  group "triggerer" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "15s"
      mode     = "delay"
    }

    task "wait" {
      driver = "docker"
      lifecycle {
        hook = "prestart"
      }
      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "bash"
        args         = ["-c", "airflow db check-migrations --migration-wait-timeout 300"]
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
        cpu    = 200
        memory = 512
      }
    }

    task "triggerer" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "airflow"
        args         = ["triggerer"]
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

      logs {
        max_files     = 5
        max_file_size = 20
      }

      resources {
        cpu    = 200
        memory = 512
      }
    }
  }

  group "worker" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "15s"
      mode     = "delay"
    }

    task "wait" {
      driver = "docker"
      lifecycle {
        hook = "prestart"
      }
      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "bash"
        args         = ["-c", "until curl -fs http://127.0.0.1:8080/api/v2/monitor/health; do sleep 2; done"]
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
      # A worker of Airflow 3 has no access to the metadata database: it speaks to the api-server.
      template {
        destination = "secrets/airflow.env"
        env         = true
        change_mode = "restart"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs/airflow" }}
        AIRFLOW__CORE__FERNET_KEY={{ .fernet_key }}
        AIRFLOW__API_AUTH__JWT_SECRET={{ .jwt_secret }}
        AIRFLOW__CELERY__BROKER_URL={{ .broker_url }}
        AIRFLOW__CELERY__RESULT_BACKEND={{ .result_backend }}
        {{ end }}
        EOT
      }
      resources {
        cpu    = 200
        memory = 512
      }
    }

    task "worker" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      config {
        image        = var.airflow_image
        network_mode = "host"
        command      = "airflow"
        args         = ["celery", "worker", "--concurrency", "8"]
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
      # A worker of Airflow 3 has no access to the metadata database: it speaks to the api-server.
      template {
        destination = "secrets/airflow.env"
        env         = true
        change_mode = "restart"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs/airflow" }}
        AIRFLOW__CORE__FERNET_KEY={{ .fernet_key }}
        AIRFLOW__API_AUTH__JWT_SECRET={{ .jwt_secret }}
        AIRFLOW__CELERY__BROKER_URL={{ .broker_url }}
        AIRFLOW__CELERY__RESULT_BACKEND={{ .result_backend }}
        {{ end }}
        EOT
      }

      logs {
        max_files     = 5
        max_file_size = 20
      }

      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
