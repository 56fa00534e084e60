#!/usr/bin/env bash
# Inside the image's build: installs PostgreSQL's client programs of several majors side by side.
#
# usage: clients.sh MAJOR...
#
# From:  PostgreSQL's own archive (apt.postgresql.org, and apt-archive.postgresql.org for majors that it
#        has dropped), checked with the key that Debian's postgresql-common carries; where that cannot be
#        reached, what Debian's archive of this suite has. A major that nobody has is named, and is left to
#        `sankofa doctor` to name again: backups of such a server end with 78 before anything starts.
# Out:   /usr/lib/postgresql/MAJOR/bin/{pg_dump,pg_dumpall,pg_restore,psql}; /usr/share/sankofa/clients.txt.
# Small: the programs alone, without postgresql-client-common, which would bring Perl (50 MB).
#        dpkg's status.d names them, so that scanners of the image see their versions.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
key=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc
programs=(pg_dump pg_dumpall pg_restore psql)
list=/usr/share/sankofa/clients.txt

say() { printf 'clients: %s\n' "$*" >&2; }

# Adds PostgreSQL's archives, as far as they answer. The key comes out of a Debian package that is not installed.
add_archives() {
    local work=$1 name
    (cd "$work" && apt-get -qq download postgresql-common >/dev/null 2>&1) || return 0
    dpkg -x "$work"/postgresql-common_*.deb "$work/common"
    [ -s "$work/common$key" ] || return 0
    install -D -m 644 "$work/common$key" /etc/apt/keyrings/pgdg.asc
    for name in apt apt-archive; do
        # Both have the same layout; the archive calls its suites SUITE-pgdg-archive.
        echo "deb [signed-by=/etc/apt/keyrings/pgdg.asc] https://$name.postgresql.org/pub/repos/apt $suite-pgdg${name#apt} main" \
            >"/etc/apt/sources.list.d/pgdg-$name.list"
        if ! apt-get -qq update -o Dir::Etc::sourcelist="sources.list.d/pgdg-$name.list" -o Dir::Etc::sourceparts=- \
            -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any -o Acquire::Retries=1 \
            -o Acquire::http::Timeout=10 >/dev/null 2>&1; then
            rm "/etc/apt/sources.list.d/pgdg-$name.list"
            say "$name.postgresql.org cannot be reached: Debian's own packages are taken"
        fi
    done
}

# Unpacks the programs of major $2 and notes them; fails where no archive has them.
install_major() {
    local work=$1 major=$2 package=postgresql-client-$2 version program
    rm -rf "$work/$major" && mkdir -p "$work/$major"
    (cd "$work/$major" && apt-get -qq download "$package" >/dev/null 2>&1) || return 1
    dpkg -x "$work/$major"/*.deb "$work/$major/root"
    install -d "/usr/lib/postgresql/$major/bin" /var/lib/dpkg/status.d
    for program in "${programs[@]}"; do
        install -m 755 "$work/$major/root/usr/lib/postgresql/$major/bin/$program" "/usr/lib/postgresql/$major/bin/"
    done
    dpkg-deb -f "$work/$major"/*.deb >"/var/lib/dpkg/status.d/$package"
    version=$(dpkg-deb -f "$work/$major"/*.deb Version)
    printf '%s %s\n' "$package" "$version" >>"$list"
    # Their libraries, of whichever archive has the newest.
    apt-get -qq install -y --no-install-recommends $(dpkg-deb -f "$work/$major"/*.deb Depends | tr ',' '\n' |
        sed 's/|.*//; s/(.*//; s/ //g' | grep -v -e '^postgresql-client-common$' -e '^sensible-utils$') >/dev/null
    "/usr/lib/postgresql/$major/bin/pg_dump" --version >&2
}

main() {
    local work missing=() major
    work=$(mktemp -d)
    mkdir -p "$(dirname "$list")" && : >"$list"
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends ca-certificates >/dev/null
    add_archives "$work"
    for major in "$@"; do
        install_major "$work" "$major" || missing+=("$major")
    done
    [ ${#missing[@]} = 0 ] || say "!!! NO CLIENT PROGRAMS OF POSTGRESQL ${missing[*]}: no archive that could be reached has them"
    [ -s "$list" ] || { say "cannot go on without any client programs"; exit 1; }
    rm -rf "$work" /etc/apt/sources.list.d/pgdg-* /etc/apt/keyrings/pgdg.asc
}
main "$@"
