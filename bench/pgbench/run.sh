#!/usr/bin/env bash
# Measures Reserve and Commit as stored procedures (schema.sql) under pgbench (load.sql):
#
#   bench/pgbench/run.sh [--tenants N] [--slots N] [--seconds N] [--clients N,N,…] [DATABASE_URL]
#
# DATABASE_URL may be left out: then PGHOST, PGPORT, PGUSER, PGDATABASE and the like say where. The schema
# `tope_pgbench` of that database is dropped and made anew for each number of clients, and dropped at the end.
#
#   --tenants   the calls are spread over so many tenants (100)
#   --slots     each tenant's counters are split into so many rows (64). 1 does not split them: no difference on
#               100 tenants, but the calls of one hot tenant then wait for each other's commit
#   --seconds   how long to measure each number of clients (10)
#   --clients   8,16,32,64,128
#
# After each run the books must balance, or this ends with 1. The last line has the best result:
#
#   best 12345 calls/s with 32 clients, 100 tenants
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

tenants=100
slots=64
seconds=10
clients=8,16,32,64,128
url=""
schema=tope_pgbench
# Never reached, and far from the end of an int64.
day_limit=1000000000000000
month_limit=10000000000000000

fail() {
    printf 'run.sh: %s\n' "$*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
    --tenants | --slots | --seconds | --clients)
        [ $# -ge 2 ] || fail "$1 needs a value"
        declare "${1#--}=$2"
        shift 2
        ;;
    -*) fail "there is no option $1" ;;
    *)
        [ -z "$url" ] || fail "more than one database"
        url="$1"
        shift
        ;;
    esac
done
for number in "$tenants" "$slots" "$seconds" ${clients//,/ }; do
    [[ "$number" =~ ^[1-9][0-9]*$ ]] || fail "$number is not a number above 0"
done
command -v pgbench >/dev/null || fail "pgbench is not here"

# All of a session's work is in the one schema.
export PGOPTIONS="${PGOPTIONS:-} -c search_path=$schema -c client_min_messages=warning"

sql() {
    psql -qXAt -v ON_ERROR_STOP=1 ${url:+-d "$url"} "$@"
}

drop_schema() {
    sql -c "DROP SCHEMA IF EXISTS $schema CASCADE"
}

# Everything is new for each run: rows of an earlier one would make the later ones slower.
make_schema() {
    drop_schema
    sql -c "CREATE SCHEMA $schema"
    sql -f schema.sql
    sql -c "SELECT create_tenant(t, $day_limit, $month_limit, $slots) FROM generate_series(1, $tenants) AS t" >/dev/null
    # Plans that were made while a table is empty would stay; a checkpoint in mid-run would favour some runs.
    sql -c "VACUUM ANALYZE tenants, slots, reservations, closed_counters"
    sql -c "CHECKPOINT" 2>/dev/null || printf 'run.sh: no right to CHECKPOINT; going on without\n' >&2
}

check_books() {
    local faults
    faults="$(sql -c "SELECT count(*) FROM books_at_fault")"
    if [ "$faults" -ne 0 ]; then
        sql -c "SELECT * FROM books_at_fault LIMIT 10" >&2
        fail "the books do not balance: $faults counters at fault"
    fi
}

for setting in server_version fsync synchronous_commit full_page_writes wal_sync_method shared_buffers; do
    value="$(sql -c "SHOW $setting")"
    printf '%s = %s\n' "$setting" "$value"
done

best_rate=0
best_clients=0
for count in ${clients//,/ }; do
    make_schema
    report="$(pgbench -M prepared -n -f load.sql -D tenants="$tenants" -D slots="$slots" \
        -c "$count" -j "$((count < 2 ? count : 2))" -T "$seconds" ${url:+"$url"} 2>&1)" ||
        fail "pgbench failed: $report"
    # A transaction of pgbench is one run of the script: two calls.
    rate="$(awk '/^tps = /{printf "%d", 2 * $3}' <<<"$report")"
    [ -n "$rate" ] || fail "pgbench has no figure: $report"
    check_books
    printf '%s calls/s with %s clients; the books balance\n' "$rate" "$count"
    if [ "$rate" -gt "$best_rate" ]; then
        best_rate="$rate"
        best_clients="$count"
    fi
done
drop_schema
printf 'best %s calls/s with %s clients, %s tenants\n' "$best_rate" "$best_clients" "$tenants"
