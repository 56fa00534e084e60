#!/usr/bin/env bash
# Readers of HCL and YAML for the tests of nomad/ and docker/, from PyPI, into the bed's folder `python`.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
to=${SANKOFA_TESTBED:-$checkout/.testbed}/python
packages=(python-hcl2==8.1.4 PyYAML==6.0.2)
[ "$(cat "$to/.version" 2>/dev/null)" = "${packages[*]}" ] && exit
if ! python3 -m pip --version >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || { echo 'testbed: cannot find pip: install it (Debian: apt-get install python3-pip)' >&2; exit 1; }
    apt-get -qq update >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3-pip >/dev/null
fi
echo "testbed: ${packages[*]} from PyPI"
rm -rf "$to" && mkdir -p "$to"
python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
    --target "$to" "${packages[@]}" 2>/dev/null || python3 -m pip install --quiet --target "$to" "${packages[@]}"
printf '%s' "${packages[*]}" >"$to/.version"
