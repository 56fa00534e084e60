# Celery's broker. Nothing in it outlives a restart: tasks that were queued are queued again by the scheduler.
variable "redis_image" {
  type    = string
  default = "redis:7-bookworm"
}

job "redis" {
  type      = "service"
  namespace = "platform"

  group "redis" {
    count = 1

    restart {
      attempts = 10
      interval = "10m"
      delay    = "10s"
      mode     = "delay"
    }

    task "redis" {
      driver = "docker"
      config {
        image        = var.redis_image
        network_mode = "host"
        command      = "redis-server"
        args         = ["/secrets/redis.conf"]
      }
      template {
        destination = "secrets/redis.conf"
        change_mode = "restart"
        data        = <<-EOT
        bind 127.0.0.1
        port 6379
        save ""
        {{ with nomadVar "nomad/jobs/redis" }}requirepass {{ .password }}{{ end }}
        EOT
      }
      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
