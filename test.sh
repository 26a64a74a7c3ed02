#!/usr/bin/env bash
# The whole test suite: .venv, requirements, ruff, pytest. Arguments go to pytest: ./test.sh -m 'not slow'
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$root"

source .ci/venv.sh requirements-test.txt

ruff check .
ruff format --check .
python -m pytest "$@"
