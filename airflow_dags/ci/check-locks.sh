#!/usr/bin/env bash
# What the analysts' CI runs on every push: the YAML is sound, the locks are those of the YAML, and the
# DAG file loads. Where it is green on the main branch, CI moves the ref that Airflow follows.
#
# usage: ci/check-locks.sh                 needs `sankofa` in PATH (the release's static binary)
#        ci/check-locks.sh deploy COMMIT   moves `deployed`; only CI's own key may push that ref
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sankofa config compile --check
if python3 -c 'import airflow' 2>/dev/null; then
    python3 - <<'PYTHON'
from sankofa_airflow.factory import build_dags

broken = [dag.dag_id for dag in build_dags("dags/sankofa.py").values() if "broken" in dag.tags]
raise SystemExit(f"error: cannot deploy: broken {', '.join(broken)}" if broken else 0)
PYTHON
fi
if [ "${1:-}" = deploy ]; then
    git push origin "${2:?COMMIT}:refs/heads/deployed"
fi
