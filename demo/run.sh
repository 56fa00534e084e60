#!/usr/bin/env bash
# Shows Sankofa at work: three small databases of a law school (PostgreSQL 16) are loaded into one
# warehouse (PostgreSQL 18), changed, and loaded again. Then one of them is backed up, proven by a
# drill, dropped, and brought back. Takes about a minute once it is built.
#
# usage: make demo        or demo/run.sh, where target/debug/sankofa is built
#        DEMO_KEEP=1      leaves the servers running at the end, to look around in
#
# Where:  all data lies in one new folder under /tmp; it is removed at the end and on Ctrl-C.
#         PostgreSQL itself is put into .testbed/ by tests/testbed/install.sh, and stays there.
# Root:   servers refuse to run as root, so they run as `postgres` or `nobody`.
# Secrets: only in AIRFLOW_CONN_* and AIRFLOW_VAR_* of this process; the passwords are no secrets.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$here")
bed=${SANKOFA_TESTBED:-$checkout/.testbed}
sankofa=$checkout/target/debug/sankofa
password=not-a-secret-demo
databases=(hr records service_desk)
home=

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die() { printf 'demo: cannot %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }
account() { getent passwd postgres >/dev/null && echo postgres || echo nobody; }
as_server() { if is_root; then runuser -u "$(account)" -- "$@"; else "$@"; fi; }

clean_up() {
    local status=$?
    trap '' INT TERM
    if [ -n "$home" ] && { [ -z "${DEMO_KEEP:-}" ] || [ $status -ne 0 ]; }; then
        stop source 16
        stop warehouse 18
        rm -rf "$home"
        say "demo: servers stopped, $home removed"
    fi
    exit $status
}

stop() {
    [ ! -e "$home/$1/postmaster.pid" ] ||
        as_server "$bed/postgresql/$2/bin/pg_ctl" -D "$home/$1" -m immediate -w stop >/dev/null || true
}

free_port() {
    local port
    for port in $(shuf -i 20000-29999 -n 50); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    die "find a free port"
}

# start NAME MAJOR PORT: a cluster of its own that listens on 127.0.0.1 only.
start() {
    local data=$home/$1 bin=$bed/postgresql/$2/bin
    as_server "$bin/initdb" -D "$data" -U postgres --auth=scram-sha-256 --pwfile="$home/password" \
        --encoding=UTF8 --no-locale --no-sync >"$home/$1.log" 2>&1 || { cat "$home/$1.log" >&2; die "make cluster $1"; }
    as_server "$bin/pg_ctl" -D "$data" -l "$data/server.log" -w -o \
        "-p $3 -h 127.0.0.1 -k '' -c fsync=off -c shared_buffers=32MB" start >/dev/null ||
        { cat "$data/server.log" >&2; die "start cluster $1"; }
}

# psql_on PORT DATABASE ARGUMENTS
psql_on() {
    local port=$1 database=$2
    shift 2
    PGPASSWORD=$password PGCONNECT_TIMEOUT=10 "$bed/clients/16/bin/psql" -X -q -v ON_ERROR_STOP=1 \
        "host=127.0.0.1 port=$port user=postgres dbname=$database" "$@"
}

make_sources() {
    psql_on "$source_port" postgres -c "CREATE ROLE sankofa_rows LOGIN PASSWORD '$password' IN ROLE pg_read_all_stats"
    local database
    for database in "${databases[@]}"; do
        psql_on "$source_port" postgres -c "CREATE DATABASE $database"
        psql_on "$source_port" "$database" -1 -f "$here/$database.sql" -f "$here/grants.sql" -c ANALYZE >/dev/null
    done
}

make_warehouse() {
    psql_on "$warehouse_port" postgres -c "CREATE DATABASE warehouse"
    psql_on "$warehouse_port" warehouse -v password="$password" -f "$here/warehouse.sql"
}

connect_all() {
    local database
    for database in "${databases[@]}"; do
        export "AIRFLOW_CONN_${database^^}_DB=postgres://sankofa_rows:$password@127.0.0.1:$source_port/$database"
    done
    export AIRFLOW_CONN_WAREHOUSE="postgres://sankofa:$password@127.0.0.1:$warehouse_port/warehouse"
    export AIRFLOW_VAR_HMAC_KEY=not-a-secret-demo-key-of-32-bytes
    export SANKOFA_DEMO_STAGE=$home/stage
    # The bucket is a folder here; a backup needs to read everything, a restore to make databases.
    export SANKOFA_DEMO_STORE=$home/offsite SANKOFA_PG_BIN=$bed/clients/16/bin
    export AIRFLOW_CONN_HR_BACKUP="postgres://postgres:$password@127.0.0.1:$source_port/hr"
    export AIRFLOW_CONN_DRILL_SERVER="postgres://postgres:$password@127.0.0.1:$warehouse_port/postgres"
}

# run COMMAND...: quiet when it goes well.
run() {
    say "\$ sankofa $*"
    "$sankofa" --project "$here/project" -q "$@" >"$home/out" 2>"$home/err" || {
        local status=$?
        cat "$home/err" >&2
        say "exit status $status"
        exit $status
    }
}

# The plan of the next run; its table is for a terminal, so that is what it is given.
plan() {
    say "\$ sankofa plan $*"
    if [ -t 1 ]; then
        "$sankofa" --project "$here/project" -q plan "$@"
    elif command -v script >/dev/null; then
        script -qec "'$sankofa' --project '$here/project' -q plan $*" /dev/null </dev/null | tr -d '\r'
    else
        "$sankofa" --project "$here/project" -q plan "$@"
    fi
}

# What the runs so far have done, as the ledger in the warehouse tells it.
figures() {
    psql_on "$warehouse_port" warehouse -P footer=off -P null= -c "
        SELECT t.pipeline || '.' || split_part(t.target, '.', 2) AS \"table\", t.mode, t.rows_read AS read,
               t.rows_inserted AS inserted, t.rows_updated AS updated, t.rows_deleted AS deleted, t.live_rows AS live
        FROM sankofa.tables t JOIN sankofa.runs r ON r.id = t.run
        WHERE t.run_id = '$1' ORDER BY 1"
}

main() {
    [ -x "$sankofa" ] || die "find target/debug/sankofa: run \`make demo\`"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    step "Three databases (PostgreSQL 16) and a warehouse (PostgreSQL 18)"
    home=$(mktemp -d /tmp/sankofa-demo.XXXXXX)
    chmod 755 "$home"
    printf '%s\n' "$password" >"$home/password"
    ! is_root || chown "$(account)" "$home" "$home/password"
    source_port=$(free_port)
    start source 16 "$source_port"
    warehouse_port=$(free_port)
    start warehouse 18 "$warehouse_port"
    make_sources
    make_warehouse
    connect_all
    say "made: hr, records, service_desk; roles sankofa_rows (reads), sankofa (writes), metabase, marts"
    rounds
    backups
    look_around
}

rounds() {
    local database
    step "First run: everything is read"
    for database in "${databases[@]}"; do run sync "$database" --run first; done
    figures first
    step "A day at the school: people join and leave, students graduate, tickets close"
    for database in "${databases[@]}"; do psql_on "$source_port" "$database" -1 -f "$here/changes.sql"; done
    say "changed: demo/changes.sql"
    step "What the second run would do"
    plan hr --table public.employee
    step "Second run: only what is new is read; what is gone is found; nothing else is written"
    run sync hr --run second
    run sync records --run second
    for database in extract validate load; do run "$database" service_desk --run second; done
    figures second
}

# show COMMAND...: as a person on a terminal sees it.
show() {
    say "\$ sankofa $*"
    local line="'$sankofa' --project '$here/project' -q $*"
    if [ -t 1 ] || ! command -v script >/dev/null; then
        eval "$line" || exit
    else
        script -qec "$line" /dev/null </dev/null >"$home/shown" || { cat "$home/shown" >&2; exit 1; }
        tr -d '\r' <"$home/shown"
    fi
}

backups() {
    step "A backup: dumped, proven, compressed, encrypted, stored; the manifest comes last"
    run keygen --out "$home/identity"
    SANKOFA_DEMO_RECIPIENT=$(sed -n 's/^# public key: //p' "$home/identity")
    export SANKOFA_DEMO_RECIPIENT
    show backup hr --run night
    (cd "$home/offsite" && find . -type f -printf '%10s  %P\n' | sort -k2)
    step "A drill: restored on another server, every row compared with the proof, dropped"
    show drill hr --identity-file "$home/identity"
    step "A disaster: database hr is dropped, and comes back"
    psql_on "$source_port" postgres -c "DROP DATABASE hr (FORCE)"
    show restore hr --into hr_backup --identity-file "$home/identity"
    psql_on "$source_port" hr -P footer=off -c "SELECT count(*) AS employees FROM employee"
    show backups list hr
}

look_around() {
    step "What readers see (role metabase)"
    psql_on "$warehouse_port" warehouse -P footer=off -c "SET ROLE metabase" -c "
        SELECT id, first_name, left(last_name, 12) || '...' AS last_name, birth_date, grade, _sankofa_deleted_at IS NOT NULL AS gone
        FROM hr.employee WHERE id IN (9, 17, 901) ORDER BY id" -c "SELECT * FROM marts.course_marks ORDER BY mean_points DESC LIMIT 3"
    step "Where to look"
    say "project    demo/project/: sankofa.yaml, pipelines/*.yaml, sql/*.sql"
    say "sources    PGPASSWORD=$password $bed/clients/16/bin/psql -h 127.0.0.1 -p $source_port -U postgres hr"
    say "warehouse  PGPASSWORD=$password $bed/clients/16/bin/psql -h 127.0.0.1 -p $warehouse_port -U postgres warehouse"
    say "           try: TABLE sankofa.runs; TABLE sankofa.watermarks; TABLE sankofa.checks;"
    if [ -n "${DEMO_KEEP:-}" ]; then
        say "kept       $home; to remove it:"
        say "           kill -QUIT \$(head -qn1 $home/*/postmaster.pid); rm -rf $home"
    else
        say "It all goes now; DEMO_KEEP=1 make demo leaves it running."
    fi
}
main
