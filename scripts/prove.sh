#!/usr/bin/env bash
# The long forms of all that docs/reliability.md promises, one after another, against real servers. A line of JSON for each, then a table.
#
#   scripts/prove.sh                  each figure once, however long it takes
#   scripts/prove.sh HOURS            again and again, until so many hours are over (a soak)
#   scripts/prove.sh --list           what would be run
#   scripts/prove.sh --short          the short forms, as CI runs them
#   scripts/prove.sh --local          without servers: what needs one is skipped
#   scripts/prove.sh --only FIGURE    that figure alone; may be repeated
#   scripts/prove.sh --output FILE    where the lines go (.cache/proofs/TIME.jsonl)
#
# Exits with 1 where something failed or nothing ran for a figure, and with 130 where it was interrupted: the lines of what had ended are
# there, and the table. Servers that it starts go on running; scripts/test-setup.sh stop ends them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/servers/state.sh"
source "$root/scripts/servers/provide.sh"

development_environment
cd "$root"
case " $* " in
    *' --list '* | *' --local '* | *' --help '* | *' -h '*) ;;
    *)
        missing=$(mktemp)
        trap 'rm -f "$missing"' EXIT
        provide "$missing" "${all_servers[@]}"
        rm -f "$missing"
        ;;
esac

# In the place of this shell, so that a signal reaches what must end the tests.
exec python scripts/prove.py "$@"
