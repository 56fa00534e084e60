# Metabase reads the warehouse as the role `metabase`: the marts, and schema sankofa's views of the platform itself.
variable "metabase_image" {
  type    = string
  default = "metabase/metabase:v0.50.36"
}

job "metabase" {
  type      = "service"
  namespace = "platform"

  group "metabase" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "30s"
      mode     = "delay"
    }

    task "metabase" {
      driver = "docker"
      config {
        image        = var.metabase_image
        network_mode = "host"
      }
      template {
        destination = "secrets/metabase.env"
        env         = true
        change_mode = "restart"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs/metabase" }}
        MB_DB_TYPE=postgres
        MB_DB_CONNECTION_URI={{ .connection_uri }}
        MB_ENCRYPTION_SECRET_KEY={{ .encryption_key }}
        {{ end }}
        EOT
      }
      env {
        MB_JETTY_HOST = "127.0.0.1"
        MB_JETTY_PORT = "3000"
        JAVA_OPTS     = "-Xmx1g"
      }
      service {
        name     = "metabase"
        provider = "nomad"
        check {
          type     = "http"
          path     = "/api/health"
          interval = "30s"
          timeout  = "5s"
          port     = "3000"
        }
      }
      resources {
        cpu    = 500
        memory = 1536
      }
    }
  }
}
