#!/usr/bin/env bash
# Installs an SMTP server for the tests, aiosmtpd, from PyPI into folder $1/smtp.
#
# usage: tests/testbed/smtp.sh FOLDER        (called by install.sh)
#
# Needs python3 with pip. Cost: 3 s on a quiet machine, 0.1 s again; 2 MB. Every package is pinned.
set -euo pipefail
wanted=(aiosmtpd==1.4.6 atpublic==6.0.1 attrs==25.3.0)
to=$1/smtp

[ "$(cat "$to/.version" 2>/dev/null)" != "${wanted[*]}" ] || exit 0
printf 'testbed: an SMTP server: PyPI %s\n' "${wanted[0]}"
work=$(mktemp -d "$1/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Into a folder rather than a virtual environment: it can be moved, and needs no python3-venv.
if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --no-warn-script-location --target "$work/smtp" "${wanted[@]}" >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    printf 'testbed: !!! NO SMTP: %s could not be installed\n' "${wanted[0]}"
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
printf '%s\n' "${wanted[*]}" >"$work/smtp/.version"
chmod -R go+rX "$work/smtp"
rm -rf "$to"
mv -T "$work/smtp" "$to"
