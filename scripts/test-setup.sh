#!/usr/bin/env bash
# The servers that tests need: in containers where an engine answers, else as processes of this machine.
#
#   scripts/test-setup.sh start [NAME…]     starts what does not run (all, or those named), installs what is missing, and returns
#                                           when all answer; with CI=true it fails where one can't be had
#   scripts/test-setup.sh env [NAME…]       lines to export, for those that answer: eval "$(scripts/test-setup.sh env)"
#   scripts/test-setup.sh status            what runs, where, and what could not be had
#   scripts/test-setup.sh logs NAME         how it was set up and what it says
#   scripts/test-setup.sh stop [NAME…]      ends them, and removes what they stored
#   scripts/test-setup.sh test-container    the whole suite inside a container beside the servers; needs an engine
#
# Names: postgres, redis, redis_cluster, neo4j, mongodb, ferretdb, and redis_durable, which starts only where it is named.
# FLOWPERSIST_TEST_NATIVE=1 leaves a container engine alone, FLOWPERSIST_TEST_SERVERS names another directory than .cache/servers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/servers/state.sh"
source "$root/scripts/servers/containers.sh"

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
    exit "$1"
}

# The names given, or all.
chosen() {
    local name
    for name in "$@"; do
        is_server "$name" || fail "There is no server $name; there are ${all_servers[*]} ${further_servers[*]}."
    done
    [ $# -gt 0 ] && printf '%s\n' "$@" || printf '%s\n' "${all_servers[@]}"
}

# Starts one and leaves in its directory either nothing or the reason why it can't be had.
start_one() {
    local directory=$servers/$1
    if [ -n "$containers" ]; then
        for _ in $(seq 300); do
            ! answers "$1" || break
            sleep 0.2
        done
    fi
    if [ -z "$containers" ] && ! "$BASH" "$root/scripts/servers/start-native.sh" "$1" >"$directory/setup.log" 2>&1; then
        tail -n 1 "$directory/setup.log" >"$directory/missing"
    elif ! answers "$1"; then
        echo "its container does not answer" >"$directory/missing"
    fi
    if [ -e "$directory/missing" ]; then
        return 1
    fi
    printf '%-14s answers on port %s after %s s\n' "$1" "$(port_of "$1")" "$SECONDS"
}

start() {
    local name pids=() missing=()
    # Two starts at once would both find a server missing.
    exec 9>"$servers/lock"
    ! command -v flock >/dev/null || flock 9
    local wanted=()
    for name in "$@"; do
        mkdir -p "$servers/$name"
        rm -f "$servers/$name/missing"
        if answers "$name"; then
            printf '%-14s runs already, on port %s\n' "$name" "$(port_of "$name")"
        else
            wanted+=("$name")
        fi
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    containers=$(compose_command || true)
    [ -z "$containers" ] || start_containers "${wanted[@]}"
    SECONDS=0
    for name in "${wanted[@]}"; do
        start_one "$name" &
        pids+=($!)
    done
    for index in "${!pids[@]}"; do
        wait "${pids[$index]}" || missing+=("${wanted[$index]}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    for name in "${missing[@]}"; do
        warn "MISSING: $name: $(cat "$servers/$name/missing"). See: scripts/test-setup.sh logs $name"
    done
    warn "Tests that need ${missing[*]} can't run here."
    [ "${CI:-}" != true ]
}

stop_native() {
    local name=$1 pid data signal=TERM
    # PostgreSQL waits for its clients otherwise.
    [ "$name" != postgres ] || signal=INT
    if is_ours "$name"; then
        pid=$(cat "$servers/$name/pid")
        kill -s "$signal" "$pid"
        for _ in $(seq 100); do
            is_ours "$name" || break
            sleep 0.1
        done
        ! is_ours "$name" || kill -s KILL "$pid"
    fi
    data=$(data_of "$name")
    rm -rf "$data" "$data.password"
    # The directory that was made for a user who can't get here.
    [ ! -e "$servers/$name/where" ] || [ "$data" = "$servers/$name/data" ] || rmdir "$(dirname "$data")"
    rm -f "$servers/$name"/{pid,port,where,missing}
}

stop() {
    local name
    for name in "$@"; do
        [ -d "$servers/$name" ] || continue
        if in_container "$name"; then
            compose rm --stop --force --volumes "$name" || true
            rm -f "$servers/$name"/{container,missing}
        else
            stop_native "$name"
        fi
        printf '%-14s stopped\n' "$name"
    done
}

status() {
    local name state
    for name in "$@"; do
        if answers "$name"; then
            state="answers on port $(port_of "$name"), "
            in_container "$name" && state+="in a container" || state+="process $(cat "$servers/$name/pid")"
        elif [ -e "$servers/$name/missing" ]; then
            state="MISSING: $(cat "$servers/$name/missing")"
        elif is_ours "$name"; then
            state="runs and does not answer, process $(cat "$servers/$name/pid")"
        else
            state="not started"
        fi
        printf '%-14s %s\n' "$name" "$state"
    done
}

exports() {
    local name
    for name in "$@"; do
        ! answers "$name" || printf "export %s='%s'\n" "$(variable_of "$name")" "$(url_of "$name")"
    done
}

logs() {
    [ -d "$servers/$1" ] || fail "$1 was never started here."
    if in_container "$1"; then
        compose logs "$1"
        return
    fi
    for file in setup.log log; do
        [ ! -s "$servers/$1/$file" ] || { say "$file" && cat "$servers/$1/$file"; }
    done
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    start | stop | status | env | logs | test-container) ;;
    help | --help | -h) usage 0 ;;
    *) usage 2 >&2 ;;
esac
mkdir -p "$servers" "$builds"
python=$(find_python) || fail "No Python from 3.11 on was found. Install one, or name it: PYTHON=/path/to/python3 $0"
names=$(chosen "$@")
mapfile -t names <<<"$names"

case $command in
    start) start "${names[@]}" ;;
    env) [ $# -gt 0 ] || names+=("${further_servers[@]}") && exports "${names[@]}" ;;
    status) [ $# -gt 0 ] || names+=("${further_servers[@]}") && status "${names[@]}" ;;
    stop) [ $# -gt 0 ] || names+=("${further_servers[@]}") && stop "${names[@]}" ;;
    logs)
        [ $# -eq 1 ] || fail "Name one server."
        logs "$1"
        ;;
    test-container)
        compose_command >/dev/null || fail "No container engine answers here; scripts/test.sh runs the suite without one."
        compose --profile tests run --rm --build tests
        ;;
esac
