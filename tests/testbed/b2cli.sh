#!/usr/bin/env bash
# Installs Backblaze's own command line into folder $1/b2cli: it fetches backups without us.
#
# usage: tests/testbed/b2cli.sh FOLDER        (called by install.sh)
#
# Cost: 10 s on a quiet machine, 0.1 s again; 21 MB. Every package is pinned.
set -euo pipefail
wanted=(
    b2==5.0.0 b2sdk==2.13.1 annotated-types==0.8.0 argcomplete==3.7.2 arrow==1.4.0 certifi==2026.10.18
    charset-normalizer==3.5.2 docutils==0.21.2 idna==3.20 logfury==1.0.1 platformdirs==4.14.7
    python-dateutil==2.9.0.post0 requests==2.34.2 rst2ansi==0.1.5 six==1.17.0 tabulate==0.9.0 tqdm==4.70.1
    typing_extensions==4.16.0 tzdata==2026.6 urllib3==2.8.0
)
exec "$(dirname "${BASH_SOURCE[0]}")/pypi.sh" "$1" b2cli "Backblaze's own client" "${wanted[@]}"
