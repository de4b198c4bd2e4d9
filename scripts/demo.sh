#!/usr/bin/env bash
# Reviews the licences of what is installed, in several processes: the first awaits the reviewers and is killed, others answer.
# Needs Python 3.11 or later; makes an environment of its own and works in .cache/demo.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

work=$root/.cache/demo
mkdir -p "$work"
python=$(find_python) || fail "No Python from 3.11 on was found. Install one, or name it: PYTHON=/path/to/python3 $0"
environment "$work/venv" "$python" -e '.[cli]'
PATH=$work/venv/bin:$PATH

cd "$root"
rm -f "$work"/flows.db* "$work"/keys "$work"/*.out "$work"/report.md
export FLOWPERSIST_URL=sqlite:///$work/flows.db
unset FLOWPERSIST_KEYS
export FLOWPERSIST_KEYS_FILE=$work/keys
# Where the checkout lies is no part of the story.
tidy() { sed "s#$work/##g; s#$root/##g"; }

# Prints a command as a person would type it, and runs it.
try() {
    local word line='$'
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./:=+-]+$ ]] || word="'$word'"
        line+=" $word"
    done
    printf '\n%s\n' "$line" | tidy
    "$@" 2>&1 | tidy
}

# The same for a command that must fail with this exit code.
refused() {
    local wanted=$1 code=0
    shift
    try "$@" || code=$?
    [ "$code" -eq "$wanted" ] || fail "This should have exited with $wanted, not $code."
    printf '(exit code %s)\n' "$code"
}

say "A keyring, so that the states are encrypted"
try flowpersist keygen --output "$FLOWPERSIST_KEYS_FILE"

say "The first process: reads what is installed, asks about what the policy does not allow, and stays"
first=(flowpersist run examples/licence_review.json --tools examples/licence_review.py
    --input policy=examples/licence_policy.json --wait)
printf '\n$ %s &\n' "${first[*]}"
PYTHONUNBUFFERED=1 "${first[@]}" >"$work/first.out" 2>&1 &
process=$!
# Whatever happens, nothing of ours goes on running.
trap 'kill -9 "$process" 2>/dev/null || true' EXIT
# So that the shell does not announce its end.
disown "$process"
keys=()
for _ in $(seq 300); do
    kill -0 "$process" 2>/dev/null || break
    announced=$(sed -n 's/^run .* awaits \([0-9]*\) answers\{0,1\}:$/\1/p' "$work/first.out")
    mapfile -t keys < <(grep -o 'df_susp_[0-9A-Za-z]*' "$work/first.out" || true)
    [ -z "$announced" ] || [ "${#keys[@]}" -ne "$announced" ] || break
    sleep 0.1
done
cat "$work/first.out"
[ "${#keys[@]}" -ge 2 ] || fail "The policy should leave two packages in doubt at least, not ${#keys[@]}."
mapfile -t packages < <(sed -n 's/^.*: May we use \([^ ]*\) .*$/\1/p' "$work/first.out")

say "It dies without a word. What it was doing is durable"
printf '\n$ kill -9 %s\n' "$process"
kill -9 "$process"
while kill -0 "$process" 2>/dev/null; do sleep 0.1; done
trap - EXIT
try flowpersist list

say "An answer that breaks the schema is refused, and the review goes on waiting"
refused 4 flowpersist answer "${keys[0]}" --by ana --set decision=maybe --set reason=fine --set until=soon
try flowpersist list --status waiting

# What a reviewer says about a package: a decision and a reason.
decide() {
    case $1 in
        cffi) answer=(--set decision=approve --set "reason=MIT without even the attribution clause") ;;
        typing_extensions) answer=(--set decision=approve --set "reason=Permissive, as Python itself") ;;
        *) answer=(--set decision=reject --set "reason=Nobody has read this licence yet") ;;
    esac
    answer+=(--set until=2027-12-31 --set "reviewer=$2" --by "$2")
}

say "Reviewers answer from processes of their own, at the same time"
reviewers=(ana ben chen dora)
last=$((${#keys[@]} - 1))
answering=()
for index in $(seq 0 $((last - 1))); do
    decide "${packages[$index]}" "${reviewers[$((index % 4))]}"
    try flowpersist answer "${keys[$index]}" "${answer[@]}" >"$work/answer$index.out" &
    answering+=($!)
done
for one in "${answering[@]}"; do wait "$one"; done
for index in $(seq 0 $((last - 1))); do cat "$work/answer$index.out"; done

say "The last answer comes with the flow's tools: this process goes on and ends the run"
decide "${packages[$last]}" "${reviewers[$((last % 4))]}"
try flowpersist resume "${keys[$last]}" --tools examples/licence_review.py "${answer[@]}" | tee "$work/resume.out"
sed -n '/^# Licence review/,$p' "$work/resume.out" >"$work/report.md"

say "Answering a used key reports how the wait ended"
decide "${packages[0]}" dora
refused 6 flowpersist answer "${keys[0]}" "${answer[@]}"
try flowpersist list

for index in "${!packages[@]}"; do
    grep -q "^| ${packages[$index]} .* ${reviewers[$((index % 4))]} " "$work/report.md" ||
        fail "The report does not tell who decided on ${packages[$index]}."
done
say "The report is in ${work#"$root"/}/report.md"
