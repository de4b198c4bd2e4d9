# Where a test server's files lie, which port it has, and whether it runs; to be sourced after common.sh.

# Everything is below one directory, so that a test can have servers of its own beside those of the checkout.
servers=${FLOWPERSIST_TEST_SERVERS:-$root/.cache/servers}
# What was downloaded or built is the same for all of them.
# shellcheck disable=SC2034 # for who sources this
builds=$root/.cache/builds
# shellcheck disable=SC2034 # as above
fixtures=$root/tests/fixtures

all_servers=(postgres redis redis_cluster neo4j mongodb ferretdb)
# Started only where it is named: it acknowledges a write when the disk has it, for tests that kill it.
further_servers=(redis_durable)

warn() { printf '%s\n' "$*" >&2; }

is_server() {
    local one
    for one in "${all_servers[@]}" "${further_servers[@]}"; do
        [ "$one" != "$1" ] || return 0
    done
    return 1
}

# The port that a server has where nothing else has taken it. docker-compose.test.yml names the same.
default_port() {
    case $1 in
        postgres) echo 15432 ;;
        redis) echo 16379 ;;
        redis_cluster) echo 16380 ;;
        redis_durable) echo 16381 ;;
        neo4j) echo 17687 ;;
        mongodb) echo 17017 ;;
        ferretdb) echo 17018 ;;
    esac
}

port_of() { cat "$servers/$1/port" 2>/dev/null || default_port "$1"; }

# The URL that tests use, to which they append options. The password is no secret: whoever reaches loopback may have what tests store.
url_of() {
    local port
    port=$(port_of "$1")
    case $1 in
        postgres) echo "postgresql://flowpersist:flowpersist@127.0.0.1:$port/flowpersist" ;;
        redis | redis_cluster | redis_durable) echo "redis://127.0.0.1:$port/0" ;;
        neo4j) echo "bolt://127.0.0.1:$port" ;;
        mongodb | ferretdb) echo "mongodb://127.0.0.1:$port/flowpersist" ;;
    esac
}

variable_of() { echo "FLOWPERSIST_TEST_$(tr '[:lower:]' '[:upper:]' <<<"$1")_URL"; }

in_container() { [ -e "$servers/$1/container" ]; }

# Whether the process that we started for a server still runs. Its number may be another's by now, so its command has to name
# the server's directory.
is_ours() {
    local pid command
    pid=$(cat "$servers/$1/pid" 2>/dev/null) || return 1
    kill -0 "$pid" 2>/dev/null || return 1
    command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || ps -o command= -p "$pid" 2>/dev/null) || return 1
    case $command in
        *"$(data_of "$1")"*) return 0 ;;
    esac
    return 1
}

# Where a server keeps its data. PostgreSQL refuses root, and the user that it has instead may not get below root's home.
data_of() { cat "$servers/$1/where" 2>/dev/null || printf '%s\n' "$servers/$1/data"; }

is_taken() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Whether the server understands what tests will say to it.
answers() {
    in_container "$1" || is_ours "$1" || return 1
    "$python" "$root/scripts/servers/answers.py" "$1" "$(port_of "$1")"
}

# Takes the default port, or one a hundred further where something else is there.
choose_port() {
    local port bus
    port=$(default_port "$1")
    for _ in 1 2 3 4 5 6 7 8 9; do
        bus=$port
        # Nodes of a cluster talk to each other on a second port.
        [ "$1" != redis_cluster ] || bus=$((port + 10000))
        if ! is_taken "$port" && ! is_taken "$bus"; then
            printf '%s\n' "$port" >"$servers/$1/port"
            return 0
        fi
        port=$((port + 100))
    done
    fail "$1: no port is free, from $(default_port "$1") to $port in steps of a hundred"
}
