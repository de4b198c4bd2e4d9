# Servers in containers, where an engine answers; to be sourced after state.sh.

# Prints the command that runs docker-compose.test.yml; fails where there is no engine, or where it is not wanted.
compose_command() {
    local engine
    [ -z "${FLOWPERSIST_TEST_NATIVE:-}" ] || return 1
    for engine in docker podman; do
        if "$engine" info >/dev/null 2>&1 && "$engine" compose version >/dev/null 2>&1; then
            printf '%s compose\n' "$engine"
            return 0
        fi
    done
    return 1
}

compose() { $(compose_command) --file "$root/docker-compose.test.yml" "$@"; }

# Starts them all with one command, since two at the same time would make the same network.
start_containers() {
    local name
    compose up --detach --build --wait "$@" || warn "Not every container is healthy."
    for name in "$@"; do
        rm -f "$servers/$name/port"
        touch "$servers/$name/container"
    done
}
