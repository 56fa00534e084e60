#!/usr/bin/env bash
# Installs readers of HCL and YAML for the tests of nomad/ and docker/, into the bed's folder `python`.
#
# usage: tests/testbed/python.sh
#
# Cost: 3 s on a quiet machine, 0.1 s again; 6 MB. Every package is pinned.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bed=${SANKOFA_TESTBED:-$here/../../.testbed}
wanted=(python-hcl2==8.1.4 lark==1.3.1 regex==2026.11.15 PyYAML==6.0.2)
mkdir -p "$bed"
exec "$here/pypi.sh" "$bed" python 'readers of HCL and YAML' "${wanted[@]}"
