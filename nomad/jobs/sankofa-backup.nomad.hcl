# The parent of every run of class `backup`: dumps and encrypts; cannot decrypt and cannot delete.
#
# run:      nomad job run -var image=sankofa@sha256:... nomad/jobs/sankofa-backup.nomad.hcl
# dispatch: meta `args` is a JSON list of the words after `sankofa`.
# Holds:    a command of another class ends with 77, whatever `args` says; the token that Vault makes is of this
#           parent's name (a child's identity names its parent), so one class is one parent.
variable "image" {
  type    = string
  default = "sankofa:latest"
}
variable "vault_addr" {
  type    = string
  default = "http://127.0.0.1:8200"
}

job "sankofa-backup" {
  type      = "batch"
  namespace = "sankofa"

  parameterized {
    payload       = "forbidden"
    meta_required = ["args"]
    meta_optional = ["pipeline"]
  }

  group "run" {
    max_run_duration = "24h" # beyond --deadline of any run: for what never ends

    # Whoever started it tries again, not Nomad. A lost node's allocation is replaced all the same; its lock waits.
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "sankofa" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "10s" # it is gone within 4

      config {
        image           = var.image
        network_mode    = "host"
        readonly_rootfs = true
        cap_drop        = ["ALL"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 256
      }

      # The token is in a file alone: what stands in the environment, `docker inspect` shows.
      vault {
        role        = "sankofa-backup"
        change_mode = "noop"
        env         = false
      }
      identity {
        name = "vault_default"
        aud  = ["vault.io"]
        ttl  = "1h"
      }

      env {
        SANKOFA_CONFIG      = "/local/sankofa.yaml"
        SANKOFA_COMMANDS    = "backup, backups coverage, backups list, backups verify, status"
        SANKOFA_ARGUMENTS   = "${NOMAD_META_args}"
        SANKOFA_RESULT_LINE = "1"
        SANKOFA_LAUNCHER    = "airflow" # which alerts itself
        VAULT_ADDR          = var.vault_addr
      }

      # The operator's half of the project: `nomad var put nomad/jobs sankofa_yaml=@sankofa.yaml`
      template {
        destination = "local/sankofa.yaml"
        change_mode = "noop"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs" }}{{ .sankofa_yaml }}{{ end }}
        EOT
      }

      logs {
        max_files     = 10
        max_file_size = 50 # MB: offsets into a rotated log lie, so a run's log must fit
      }

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
