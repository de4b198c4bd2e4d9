#!/usr/bin/env bash
# What is tested with packages that do not install beside the others, each group in an environment of its own:
#
#   scripts/test-sdks.sh previous   the registries of model SDKs' classes, with the minor releases before the current ones
#   scripts/test-sdks.sh agents     the forms of Strands, which needs an older mcp, and of Google's ADK
#   scripts/test-sdks.sh ray        tools of flows on a cluster of Ray, which takes 300 MB
#
# Further arguments are pytest's own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# pip installs the latest release below each bound; raise a bound when the package has a new minor release.
previous=(
    'anthropic<2.14'
    'google-genai<3.6'
    'langchain-core<1.8'
    'mcp<2.3'
    'openai-agents<0.24'
    'openai<3.57'
    'pydantic-ai-slim<2.68'
)
agents=('google-adk~=2.13.0' 'strands-agents~=1.62.0')
ray=('ray~=2.60.0')

name=${1:-}
case $name in
    previous) packages=("${previous[@]}") tests=tests/integration/test_sdk_registries.py ;;
    agents) packages=("${agents[@]}") tests=tests/agents ;;
    ray) packages=("${ray[@]}") tests=tests/clusters ;;
    *) fail "Usage: scripts/test-sdks.sh previous|agents|ray [pytest's own arguments]" ;;
esac
shift

venv=$root/.cache/venv-$name
python=$(find_python) || fail "No Python from 3.11 on was found. Install one, or name it: PYTHON=/path/to/python3 $0"
environment "$venv" "$python" -e '.[all]' "${packages[@]}"
cd "$root"
exec "$venv/bin/python" -m pytest "$tests" -p no:cacheprovider "$@"
