#!/usr/bin/env bash
# Installs an SMTP server for the tests, aiosmtpd, into folder $1/smtp.
#
# usage: tests/testbed/smtp.sh FOLDER        (called by install.sh)
#
# Cost: 3 s on a quiet machine, 0.1 s again; 2 MB. Every package is pinned.
set -euo pipefail
wanted=(aiosmtpd==1.4.6 atpublic==6.0.1 attrs==25.3.0)
exec "$(dirname "${BASH_SOURCE[0]}")/pypi.sh" "$1" smtp 'an SMTP server' "${wanted[@]}"
