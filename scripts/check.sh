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

check ruff format --check .
check ruff check .
check mypy
# The wheel holds pyright itself; it must not look for a newer one.
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 check pyright --pythonpath "$venv/bin/python"
check lint-imports --no-cache
check shellcheck scripts/*.sh scripts/servers/*.sh examples/orchestrator/*.sh .ci/run

[ ${#failed[@]} -eq 0 ] || fail "Failed: ${failed[*]}"
say "All checks passed"
