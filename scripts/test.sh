#!/usr/bin/env bash
# All tests, in an environment that this script makes where it is missing.
#
#   scripts/test.sh                 every test, with branch coverage of the package, which must be 90 % at least
#   scripts/test.sh --fast          the unit tests alone
#   scripts/test.sh [--fast] ARGS…  the same with pytest's own arguments; a part of the tests has no bound on coverage
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

fast=
if [ "${1:-}" = --fast ]; then
    fast=yes
    shift
fi

development_environment
cd "$root"
if [ -n "$fast" ]; then
    exec python -m pytest tests/unit "$@"
elif [ $# -gt 0 ]; then
    exec python -m pytest --cov --cov-fail-under=0 "$@"
fi
exec python -m pytest --cov
