# Servers for who runs tests; to be sourced after state.sh.

# provide FILE SERVER…: starts what is not named by the environment, and names it there. What can't be had is told, and written to the file.
provide() {
    local name missing=$1 wanted=()
    shift
    for name in "$@"; do
        [ -n "$(printenv "$(variable_of "$name")" || true)" ] || wanted+=("$name")
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    local code=0
    "$root/scripts/test-setup.sh" start "${wanted[@]}" 2>"$missing" || code=$?
    cat "$missing" >&2
    [ "$code" -eq 0 ] || exit "$code"
    eval "$("$root/scripts/test-setup.sh" env "${wanted[@]}")"
}
