#!/usr/bin/env bash
# Switch each defence of the threat model off, one at a time, in a copy of this checkout, and show the tests that go red. No server is needed.
#
#   scripts/mutants.sh                every mutant of scripts/mutants.toml
#   scripts/mutants.sh --list         what would be switched off, and by which tests that is noticed
#   scripts/mutants.sh --only NAME    that mutant, or those of that defence, alone; may be repeated
#   scripts/mutants.sh --jobs N       so many at a time (one for each core)
#   scripts/mutants.sh --markdown     the table of docs/reliability.md
#
# Exits with 1 where a mutant survives or can't be tried, and with 130 where it was interrupted. The checkout stays as it is.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

development_environment
cd "$root"
# In the place of this shell, so that a signal reaches what must end the tests.
exec python scripts/mutants.py "$@"
