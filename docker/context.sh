#!/usr/bin/env bash
# Makes the folder that docker/Dockerfile is built from: a few files instead of the whole checkout.
#
# usage: docker/context.sh BINARY FOLDER      prints the version and the revision, one a line
set -euo pipefail
binary=$1 to=$2
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rm -rf "$to" && mkdir -p "$to/docker"
cp "$binary" "$to/sankofa"
cp "$checkout"/docker/{clients,sbom}.sh "$to/docker/"
cp "$checkout/Cargo.lock" "$to/"
sed -n 's/^version = "\(.*\)"/\1/p' "$checkout/Cargo.toml" | head -n 1
git -C "$checkout" rev-parse HEAD 2>/dev/null || echo unknown
