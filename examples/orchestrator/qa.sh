#!/usr/bin/env bash
# The QA agent: checks each round that is completed, and passes or rejects it. It takes part by the shell command alone.
# FLOWPERSIST_URL, FLOWPERSIST_KEYS and FLOWPERSIST_PROJECT say where.
set -euo pipefail
export FLOWPERSIST_AGENT=${FLOWPERSIST_AGENT:-qa}

declare -A checks=(
    [tokens]='from tokens import tokens; assert tokens("2+3*4") == ["2", "+", "3", "*", "4"]'
    [evaluate]='from evaluate import evaluate; assert evaluate(["2", "+", "3", "*", "4"]) == 14'
    [report]='from report import report; assert report("2+3*4", 14) == "2+3*4 = 14"'
)

# Prints a JSON list of texts.
list() {
    local text
    text=$(printf ',"%s"' "$@")
    printf '[%s]' "${text:1}"
}

check() {
    local module failed=()
    # Another QA agent may have been first.
    flowpersist signal get COMPLETED >/dev/null || return 0
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    for module in tokens evaluate report; do
        flowpersist artifact open "$module.py" --output "$place/$module.py"
        (cd "$place" && python -B -c "${checks[$module]}" 2>/dev/null) || failed+=("$module")
    done
    if [ ${#failed[@]} -gt 0 ]; then
        flowpersist observe add --value "{\"event\": \"rejects\", \"modules\": $(list "${failed[@]}")}" >/dev/null
        flowpersist signal apply --set "REJECTED=$(list "${failed[@]}")" --clear COMPLETED --clear QA_PASSED >/dev/null
    else
        flowpersist observe add --value '{"event": "passes"}' >/dev/null
        flowpersist signal apply --set QA_PASSED=true --critical --clear COMPLETED --clear REJECTED >/dev/null
    fi
}

if [ "${1:-}" = check ]; then
    check
    exit
fi

# A signal is handled between two commands, so none of them waits for long.
trap 'exit 143' TERM
while true; do
    code=0
    said=$(flowpersist signal wait COMPLETED --timeout 10s 2>&1) || code=$?
    case $code in
        0) flowpersist lock run qa --wait 5m -- bash "${BASH_SOURCE[0]}" check ;;
        3) ;; # not yet
        *)
            printf '%s\n' "$said" >&2
            exit "$code"
            ;;
    esac
done
