#!/usr/bin/env bash
# Builds the static binary: one file for any Linux x86_64, without glibc; with its checksum, into dist/.
#
# usage: docker/dist.sh            (make dist; 12 min of 2 cores the first time)
#        docker/dist.sh --check    tries what lies in dist/: its checksum, that it is static, and that it answers in
#                                  a root folder that holds nothing else
#
# Needs: rustup and musl-gcc (both are installed by this where root runs it).
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=x86_64-unknown-linux-musl
to=$checkout/dist

say() { printf 'dist: %s\n' "$*"; }
die() { printf 'dist: cannot %s\n' "$*" >&2; exit 1; }

name() { echo "sankofa-$(sed -n 's/^version = "\(.*\)"/\1/p' "$checkout/Cargo.toml" | head -n 1)-linux-x86_64"; }

need_musl() {
    command -v musl-gcc >/dev/null && return
    [ "$(id -u)" = 0 ] || die "compile for musl: install musl-gcc (Debian: apt-get install musl-tools) and run this again"
    say "installing musl-tools by apt"
    apt-get -qq update >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends musl-tools >/dev/null
}

build() {
    need_musl
    local run=$checkout/tests/testbed/toolchain.sh
    "$run" run rustup target list --installed | grep -qx "$target" || "$run" run rustup target add "$target"
    (cd "$checkout" && "$run" run cargo build --locked --release --target "$target")
    mkdir -p "$to"
    install -m 755 "$checkout/target/$target/release/sankofa" "$to/$(name)"
    (cd "$to" && sha256sum "$(name)" >SHA256SUMS)
}

# In a root that holds the binary alone: as root by chroot, else in a user namespace.
in_empty_root() {
    local root
    root=$(mktemp -d)
    trap 'rm -rf "$root"' RETURN
    cp "$to/$(name)" "$root/sankofa"
    if [ "$(id -u)" = 0 ]; then chroot "$root" /sankofa "$@"; else unshare -r chroot "$root" /sankofa "$@"; fi
}

check() {
    (cd "$to" && sha256sum --quiet -c SHA256SUMS) || die "trust $to: a checksum differs"
    ! grep -q 'ld-linux\|ld-musl' "$to/$(name)" || die "ship $(name): it asks for a loader"
    [ "$(in_empty_root --version)" = "sankofa $(name | cut -d- -f2)" ] || die "run $(name) in an empty root"
    local status=0
    in_empty_root sync >/dev/null 2>&1 || status=$?
    [ $status = 2 ] || die "ship $(name): a usage error ends with $status there, not 2"
    say "$(name): $(stat -c %s "$to/$(name)") bytes, static, answers in an empty root"
}

if [ "${1:-}" != --check ]; then build; fi
check
