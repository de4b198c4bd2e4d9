# Functions that the scripts share; to be sourced, from bash.
# Every environment is made by venv and pip alone, so that a machine with Python and nothing else is enough.

# A first run compiles the tests; the next ones need not.
unset PYTHONDONTWRITEBYTECODE

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Whether an interpreter runs and is of the wanted version ("3.12"), or at least 3.11 where none is given. A pyenv shim can
# be on PATH and refuse to run, so it is asked rather than looked for.
is_python() {
    "$1" - "${2:-}" 2>/dev/null <<'PYTHON'
import sys
wanted = sys.argv[1]
version = "%d.%d" % sys.version_info[:2]
sys.exit(not (version == wanted if wanted else sys.version_info >= (3, 11)))
PYTHON
}

# Prints a CPython of the version given (any from 3.11 on where none is), from $PYTHON, PATH or pyenv; fails where there is none.
find_python() {
    local version=${1:-} candidate
    local candidates=()
    if [ -z "$version" ]; then
        [ -z "${PYTHON:-}" ] || candidates+=("$PYTHON")
        candidates+=(python3.11 python3 python3.12 python3.13)
    else
        candidates+=("python$version")
    fi
    for candidate in "${candidates[@]}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"${version:-3.11}"*/bin/python3; do
        if is_python "$candidate" "$version"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# environment DIRECTORY PYTHON WHAT…: a virtual environment in which WHAT is installed, editable as given to pip. It is kept, and
# installed into again only when the package's metadata or WHAT has changed.
environment() {
    local directory=$1 python=$2
    shift 2
    if [ ! -x "$directory/bin/python" ]; then
        say "Making $directory" >&2
        "$python" -m venv "$directory"
    fi
    local stamp=$directory/.flowpersist-stamp wanted
    wanted=$(cksum <"$root/pyproject.toml")" $*"
    if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
        say "Installing $*" >&2
        (cd "$root" && "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@") >&2
        printf '%s' "$wanted" >"$stamp"
    fi
}

# The environment of the tests and checks: .venv in the checkout, or the one that $VENV names.
development_environment() {
    venv=${VENV:-$root/.venv}
    local python pyright=()
    python=$(find_python) || fail "No Python from 3.11 on was found. Install one, or name it: PYTHON=/path/to/python3 $0"
    # pyright runs on node: it comes from PyPI where the machine has none.
    command -v node >/dev/null || pyright=("pyright[nodejs]")
    environment "$venv" "$python" -e '.[dev]' ${pyright[@]+"${pyright[@]}"}
    PATH=$venv/bin:$PATH
    export PATH
}
