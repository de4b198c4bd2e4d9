#!/usr/bin/env bash
# Starts one server without a container: start-native.sh NAME. Returns when it answers; what it says is for its log.
# A process of its own, so that whatever fails ends it, which a function in a condition does not do.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$root/scripts/servers/state.sh"
source "$root/scripts/servers/install.sh"
source "$root/scripts/servers/native.sh"

name=$1
directory=$servers/$name
python=$(find_python) || fail "No Python from 3.11 on was found."

# In a group of its own and deaf to the terminal's end, or whoever interrupts the tests would interrupt the servers.
launch() {
    (
        trap '' HUP
        # Whoever waits for the end of a pipe of ours would wait for the server's.
        for descriptor in {3..200}; do eval "exec $descriptor>&-"; done
        set -m
        "run_$name" "$port" "$data" </dev/null >>"$directory/log" 2>&1 &
        printf '%s\n' "$!" >"$directory/pid"
    )
}

# What a kill leaves behind, such as PostgreSQL's processes that have not yet noticed, may refuse the first attempts.
await() {
    local readied=
    for _ in $(seq 600); do
        if ! is_ours "$name"; then
            sleep 0.5
            is_ours "$name" || launch
        elif answers "$name"; then
            return 0
        elif [ -z "$readied" ] && is_taken "$port" && declare -F "ready_$name" >/dev/null; then
            "ready_$name" "$port" && readied=yes
        fi
        sleep 0.2
    done
    return 1
}

rm -f "$directory/container"
"prepare_$name"
data=$(data_of "$name")
mkdir -p "$data"
port=$(cat "$directory/port" 2>/dev/null || true)
if ! is_ours "$name"; then
    { [ -n "$port" ] && ! is_taken "$port"; } || choose_port "$name"
    port=$(port_of "$name")
    launch
fi
await || fail "it was started and does not answer on port $port: $(tail -n 3 "$directory/log" | tr '\n' ' ')"
