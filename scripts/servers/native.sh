# Servers without containers: how each is installed, prepared and started; to be sourced after install.sh.
#
# prepare_NAME installs and builds. run_NAME PORT DATA becomes the server, in the foreground. ready_NAME PORT, where there is one,
# does what is left when it runs.

# Debian keeps the commands of each major version in a directory of its own; elsewhere they are on PATH.
postgres_bin() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    if [ -x "$newest/initdb" ]; then
        printf '%s\n' "$newest"
    elif command -v initdb >/dev/null; then
        dirname "$(command -v initdb)"
    else
        return 1
    fi
}

# as_postgres COMMAND…: becomes the command, as a user that PostgreSQL does not refuse.
as_postgres() {
    if [ "$(id -u)" -ne 0 ]; then
        exec "$@"
    fi
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
}

prepare_postgres() {
    local data=$servers/postgres/data
    postgres_bin >/dev/null || apt_install postgresql
    postgres_bin >/dev/null || fail "there is no initdb: install PostgreSQL"
    # One test goes through a pooler of connections. Elsewhere than in CI it is skipped where there is none.
    [ "${CI:-}" != true ] || [ -x /usr/sbin/pgbouncer ] || apt_install pgbouncer
    if [ "$(id -u)" -eq 0 ] && [ ! -e "$servers/postgres/where" ]; then
        (as_postgres test -x "$servers") || data=$(mktemp -d "${TMPDIR:-/tmp}/flowpersist-postgres-XXXXXX")/data
        mkdir -p "$data"
        chown postgres "$data" "$(dirname "$data")"
        printf '%s\n' "$data" >"$servers/postgres/where"
    fi
    data=$(data_of postgres)
    # The last line that is written here.
    ! grep -q "^include 'test.conf'" "$data/postgresql.conf" 2>/dev/null || return 0
    rm -rf "${data:?}"/*
    # A password, although nobody else gets here, so that tests see the real dialogue and can get it wrong.
    echo flowpersist >"$data.password"
    (as_postgres "$(postgres_bin)/initdb" --pgdata="$data" --username=flowpersist --pwfile="$data.password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-instructions)
    # Without a server that anybody could reach meanwhile.
    echo "CREATE DATABASE flowpersist" | (as_postgres "$(postgres_bin)/postgres" --single -D "$data" postgres)
    (as_postgres tee "$data/test.conf" <"$fixtures/postgres/test.conf" >/dev/null)
    echo "include 'test.conf'" | (as_postgres tee -a "$data/postgresql.conf" >/dev/null)
}
run_postgres() { as_postgres "$(postgres_bin)/postgres" -D "$2" -p "$1"; }

prepare_redis() { need redis-server redis-server; }
run_redis() { exec redis-server "$fixtures/redis/redis.conf" --bind 127.0.0.1 --port "$1" --dir "$2"; }

prepare_redis_durable() { prepare_redis; }
run_redis_durable() { exec redis-server "$fixtures/redis/redis_durable.conf" --bind 127.0.0.1 --port "$1" --dir "$2"; }

prepare_redis_cluster() { prepare_redis; }
run_redis_cluster() { exec redis-server "$fixtures/redis/redis_cluster.conf" --bind 127.0.0.1 --port "$1" --dir "$2"; }
ready_redis_cluster() { redis-cli -p "$1" CLUSTER ADDSLOTSRANGE 0 16383; }

# Tests end before the second compiler has paid for itself: half of the CPU time that Neo4j took went into it.
short_lived=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC)

# The engine reaches into these, as its own launcher lets it.
run_neo4j() {
    exec java -Xmx512m "${short_lived[@]}" \
        --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.io=ALL-UNNAMED \
        --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/java.util.concurrent=ALL-UNNAMED \
        -cp "$builds/neo4j/lib/*:$builds/neo4j/classes" TestServer "$1" "$2"
}
prepare_neo4j() { java_build neo4j; }

prepare_mongodb() { java_build mongodb-java; }
run_mongodb() {
    exec java -Xmx768m "${short_lived[@]}" -cp "$builds/mongodb-java/lib/*:$builds/mongodb-java/classes" TestServer "$1" "$2"
}

prepare_ferretdb() {
    local from=$fixtures/ferretdb
    local sources=("$from/go.mod" "$from/go.sum" "$from/main.go")
    ! built ferretdb "${sources[@]}" || return 0
    need go golang-go
    (cd "$from" && go build -o "$builds/ferretdb/ferretdb" .)
    keep_build ferretdb "${sources[@]}"
}
run_ferretdb() { exec "$builds/ferretdb/ferretdb" "127.0.0.1:$1" "$2"; }
