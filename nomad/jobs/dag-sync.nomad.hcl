# Airflow 2.11 only: brings the ref `deployed` of the analysts' repository to a folder on the host, every 5 minutes.
# Airflow 3 needs none of this: its GitDagBundle does it, and pins the version of each run (airflow.nomad.hcl).
#
# Holds: the folder is switched in one rename; a remote that is away or a forced push that cannot be read leaves the
#        last good version. The script is nomad/dag-sync.sh: `nomad var put nomad/jobs/dag-sync script=@nomad/dag-sync.sh`
variable "repository" {
  type    = string
  default = "https://git.example/data-office/pipelines.git"
}
variable "git_image" {
  type    = string
  default = "sankofa-airflow:latest"
}

job "dag-sync" {
  type      = "batch"
  namespace = "platform"

  periodic {
    crons            = ["*/5 * * * *"]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "sync" {
    max_run_duration = "4m"

    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "sync" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "10s"
      config {
        image        = var.git_image
        network_mode = "host"
        entrypoint   = ["/bin/bash"]
        args         = ["/local/dag-sync.sh", "${var.repository}", "deployed", "/dags"]
        volumes      = ["/srv/airflow/dags:/dags"]
      }
      template {
        destination = "local/dag-sync.sh"
        change_mode = "noop"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs/dag-sync" }}{{ .script }}{{ end }}
        EOT
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
