#!/usr/bin/env bash
# All tests, in an environment that this script makes where it is missing, against servers that it starts where they don't run.
#
#   scripts/test.sh                   every test; all but those marked "untraced" with branch coverage of the package, which
#                                     must be 90 % at least
#   scripts/test.sh --fast            the unit tests alone, which need no server
#   scripts/test.sh BACKEND           the tests of postgres, redis, mongodb, neo4j, sqlite, filesystem or memory alone
#   scripts/test.sh [--fast|BACKEND] ARGS…   the same with pytest's own arguments; a part of the tests has no bound on coverage
#
# A server that can't be had is told of at the beginning and at the end, and its tests are skipped; with CI=true that is a failure.
# Up to ten tests that fail while others run beside them are run again alone; those that pass then are named at the end.
# Where FLOWPERSIST_TEST_POSTGRES_URL or another such variable is set, that server is used and none is started in its place.
# The servers go on running, for the next time; scripts/test-setup.sh stop ends them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/servers/state.sh"
source "$root/scripts/servers/provide.sh"

# The servers that a backend's tests need.
servers_of() {
    case $1 in
        postgres | neo4j) echo "$1" ;;
        redis) echo redis redis_cluster ;;
        mongodb) echo mongodb ferretdb ;;
    esac
}

# What pytest is to run for a backend: the files that bear its name, and its part of those that go through all backends.
select_backend() {
    local word=$1
    [ "$word" != mongodb ] || word="mongodb or motor or ferretdb"
    mapfile -t selected < <(compgen -G "tests/*/test_*$1*.py" || true)
    [ "$1" != mongodb ] || mapfile -t -O "${#selected[@]}" selected < <(compgen -G 'tests/*/test_*motor*.py' || true)
    mapfile -t -O "${#selected[@]}" selected < <(compgen -G 'tests/*/test_each_*.py' || true)
    selected+=(-k "$word")
}

# How many failed tests are run again: more are no matter of a busy machine.
most_again=10

# part NAME ARGS…: runs one part of all tests, and what failed in it again, alone.
part() {
    local name=$1 code=0 again
    shift
    rm -rf ".cache/pytest-$name"
    python -m pytest -o cache_dir=".cache/pytest-$name" "$@" || code=$?
    [ "$code" -eq 1 ] || return "$code"
    mapfile -t again < <(python -c 'import json, sys; sys.stdout.writelines(f"{name}\n" for name in json.load(open(sys.argv[1])))' \
        ".cache/pytest-$name/v/cache/lastfailed" || true)
    [ "${#again[@]}" -ge 1 ] && [ "${#again[@]}" -le "$most_again" ] || return 1
    say "Running ${#again[@]} failed tests again, alone"
    python -m pytest -p no:cacheprovider "${again[@]}" || return 1
    printf 'FAILED BESIDE OTHERS, PASSED ALONE: %s\n' "${again[@]}" >>"$told"
}

what=all
case ${1:-} in
    --fast | postgres | redis | mongodb | neo4j | sqlite | filesystem | memory)
        what=$1
        shift
        ;;
esac

development_environment
cd "$root"
told=$(mktemp)
trap 'rm -f "$told"' EXIT
selected=()
code=0
case $what in
    --fast) exec python -m pytest tests/unit "$@" ;;
    all)
        provide "$told" "${all_servers[@]}"
        # Most tests wait for a server: files run beside each other, in the order of tests/conftest.py, the tests of a file one after another.
        selected=(--numprocesses=4 --dist=loadfile --no-loadscope-reorder)
        if [ $# -eq 0 ]; then
            # All but the unit tests and those of properties.
            whole=(tests/crash tests/chaos tests/race tests/integration)
            # Tracing would double the time of those that go over what the others cover; tests/conftest.py marks them.
            part untraced -m untraced "${selected[@]}" tests/property "${whole[@]}" || code=$?
            part traced -m "not untraced" "${selected[@]}" --cov --cov-report= --cov-fail-under=0 tests/unit "${whole[@]}" || code=$?
            python -m coverage report || code=$?
            cat "$told" >&2
            exit "$code"
        fi
        ;;
    *)
        # shellcheck disable=SC2046 # several words
        provide "$told" $(servers_of "$what")
        select_backend "$what"
        ;;
esac

python -m pytest --cov --cov-fail-under=0 ${selected[@]+"${selected[@]}"} "$@" || code=$?
cat "$told" >&2
exit "$code"
