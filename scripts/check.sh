#!/usr/bin/env bash
# Format, lint, types, layers and the scripts themselves. Each check is run even where one before it has failed; any failure fails the whole.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

development_environment
cd "$root"
failed=()
check() {
    say "$*"
    "$@" || failed+=("$1")
}

# pyright takes as long as all others together, so it runs beside them. The wheel holds it; it must not look for a newer one.
output=$(mktemp)
trap 'rm -f "$output"' EXIT
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright --pythonpath "$venv/bin/python" >"$output" 2>&1 &
typing=$!

check ruff format --check .
check ruff check .
check mypy
check lint-imports --no-cache
check shellcheck scripts/*.sh scripts/servers/*.sh examples/orchestrator/*.sh .ci/run

# Prints what pyright said, and ends as it did.
pyright_result() {
    local code=0
    wait "$typing" || code=$?
    cat "$output"
    return "$code"
}
check pyright_result

[ ${#failed[@]} -eq 0 ] || fail "Failed: ${failed[*]}"
say "All checks passed"
