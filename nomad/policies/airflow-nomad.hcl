# Nomad's ACL policy of Airflow's token: it starts, follows and stops runs of the parents in namespace `sankofa`.
# A capability holds for a whole namespace, so what Airflow must not start (drills, restores, the platform itself)
# lives in another one (`platform`). Recorded on a real 2.0.5: without deregister-job nothing can be cancelled;
# a policy that names a capability that is none is refused, a token that names a policy that is none gets 403 everywhere.
#
# nomad acl policy apply airflow nomad/policies/airflow-nomad.hcl
# nomad acl token create -name airflow -policy airflow
namespace "sankofa" {
  capabilities = ["list-jobs", "read-job", "dispatch-job", "read-logs", "deregister-job"]
}
