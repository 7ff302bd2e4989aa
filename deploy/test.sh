#!/usr/bin/env bash
# Installs the project with its test extra into .venv and runs every check; arguments go to pytest instead of "tests".
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/environment.sh"
make_environment "$root" test
cd "$root"
if [ $# -gt 0 ]; then
  exec "$VENV/bin/python" -m pytest "$@"
fi
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/mypy"
"$VENV/bin/lint-imports"
exec "$VENV/bin/python" -m pytest tests
