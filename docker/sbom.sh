#!/usr/bin/env bash
# Inside the image's build: what the image is made of, as CycloneDX 1.5 JSON on stdout.
#
# usage: sbom.sh VERSION CARGO_LOCK          Reads: dpkg's database, its status.d, Cargo.lock.
set -euo pipefail
version=$1 lock=$2

component() { # type, name, version, purl
    printf '%s{"type":"%s","name":"%s","version":"%s","purl":"%s"}' "$comma" "$1" "$2" "$3" "$4"
    comma=$',\n'
}

main() {
    local comma='' name rest
    printf '{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"metadata":{"component":'
    printf '{"type":"container","name":"sankofa","version":"%s"}},"components":[\n' "$version"
    while read -r name rest; do
        component library "$name" "$rest" "pkg:deb/debian/$name@$rest"
    done < <(dpkg-query -W -f '${Package} ${Version}\n' && cat /usr/share/sankofa/clients.txt)
    while read -r name rest; do
        component library "$name" "$rest" "pkg:cargo/$name@$rest"
    done < <(sed -n 's/^name = "\(.*\)"/\1/p; s/^version = "\(.*\)"/\1/p' "$lock" | paste -d ' ' - -)
    printf '\n]}\n'
}
main
