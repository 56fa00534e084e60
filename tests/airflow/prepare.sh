# Sourced by the scripts that run tests on a real Airflow: an Airflow, a folder for the tests, our package in it.
#
# usage: . tests/airflow/prepare.sh NAME VERSION PART...     PART: what tests/testbed/airflow.sh is to install
#
# In:    target/debug/sankofa (or SANKOFA_BINARY), the test bed, `set -euo pipefail`.
# Out:   $work, a new folder under /tmp that is removed at the end; $work/site, the package; $bed; $python; and, exported,
#        what the tests and every program that they start go by.
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bed=$(readlink -f "${SANKOFA_TESTBED:-$checkout/.testbed}")
name=$1 version=$2
shift 2

export SANKOFA_BINARY=${SANKOFA_BINARY:-$checkout/target/debug/sankofa}
[ -x "$SANKOFA_BINARY" ] || { echo "$name: cannot find $SANKOFA_BINARY: run \`make build\`" >&2; exit 1; }
"$checkout/tests/testbed/airflow.sh" "$@"
work=$(mktemp -d "/tmp/sankofa-$name.XXXXXX")
chmod 755 "$work"
trap 'umount -l "$work/stage" 2>/dev/null || true; rm -rf "$work"' EXIT # the platform's stage is a disk of its own
trap 'exit 130' INT
trap 'exit 143' TERM

# The package as an operator installs it: built, with its entry points; not the folder itself.
cp -r "$checkout/airflow_dags" "$work/source"
python=$bed/airflow-$version/bin/python
"$bed/bin/uv" pip install --quiet --offline --python "$python" --no-deps --no-build-isolation --target "$work/site" "$work/source"

export SANKOFA_WORK=$work SANKOFA_TESTBED=$bed SANKOFA_CHECKOUT=$checkout SANKOFA_AIRFLOW=$version
export PYTHONPATH=$work/site PYTHONDONTWRITEBYTECODE=1
export PATH=$bed/airflow-$version/bin:$PATH
