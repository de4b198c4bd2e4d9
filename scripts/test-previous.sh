#!/usr/bin/env bash
# The registries of model SDKs' classes with the minor releases before the current ones, in an environment of their own.
# pip installs the latest release below each bound; raise a bound when the package has a new minor release.
#
#   scripts/test-previous.sh [pytest's own arguments]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

previous=(
    'anthropic<2.14'
    'google-genai<3.6'
    'langchain-core<1.8'
    'mcp<2.3'
    'openai-agents<0.24'
    'openai<3.57'
    'pydantic-ai-slim<2.68'
)

venv=$root/.cache/venv-previous
python=$(find_python) || fail "No Python from 3.11 on was found. Install one, or name it: PYTHON=/path/to/python3 $0"
environment "$venv" "$python" -e '.[all]' "${previous[@]}"
cd "$root"
exec "$venv/bin/python" -m pytest tests/integration/test_sdk_registries.py -p no:cacheprovider "$@"
