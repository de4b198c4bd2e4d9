#!/usr/bin/env bash
# Fuzzes the codec and the sealer with atheris, each for so many seconds (300 where none is said), from the corpus in tests/fuzz.
#
#   scripts/fuzz.sh [SECONDS]       fails where something was found; the input lies in .cache/fuzz
#   scripts/fuzz.sh --keep          adds to the corpus, of what was found meanwhile, the inputs that reach new code
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

work=$root/.cache/fuzz
corpus=$root/tests/fuzz/corpus
seconds=${1:-300}
python=$(find_python) || fail "No Python from 3.11 on was found. Install one, or name it: PYTHON=/path/to/python3 $0"
environment "$root/.cache/venv-fuzz" "$python" -e '.[fuzz]'
# An input is small, since code is reached by shapes and not by sizes; the limits of the targets are as low.
limits=(-max_len=4096 -timeout=20 -rss_limit_mb=1024)
fuzz=("$root/.cache/venv-fuzz/bin/python" "$root/tests/fuzz/fuzz.py")

for target in codec sealer; do
    found=$work/$target
    mkdir -p "$found" "$corpus/$target"
    if [ "$seconds" = --keep ]; then
        "${fuzz[@]}" "$target" "$found" "${limits[@]}" -merge=1 "$corpus/$target" "$found"
        continue
    fi
    say "Fuzzing the $target for $seconds seconds"
    "${fuzz[@]}" "$target" "$found" "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 \
        -artifact_prefix="$work/$target-" "$found" "$corpus/$target" 2>"$work/$target.log" || {
        tail -n 60 "$work/$target.log" >&2
        fail "The $target did what it must not. Run it again: ${fuzz[*]} $target $found INPUT, with the input that is named above."
    }
    grep -E '^(stat::number_of_executed_units|stat::average_exec_per_sec|stat::peak_rss_mb|Done)' "$work/$target.log"
done
