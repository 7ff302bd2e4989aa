#!/usr/bin/env bash
# Installs the project with its test extra into .venv and runs every check.
#   bash deploy/test.sh             all but the tests marked long: some 20 minutes on two cores
#   bash deploy/test.sh --long      those too, and the random ones for longer: an hour or more, best as root
#   bash deploy/test.sh ARGUMENTS   pytest with these arguments, and no other check
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/environment.sh"
make_environment "$root" test
cd "$root"
long=
if [ "${1:-}" = --long ] && [ $# -eq 1 ]; then
  long=--long
elif [ $# -gt 0 ]; then
  exec "$VENV/bin/python" -m pytest "$@"
fi
"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/mypy"
"$VENV/bin/lint-imports"
# Most tests run side by side, on one core each; those that start programs of their own and kill them run one after the other.
alone="tests/worker tests/integration tests/deploy"
OMP_NUM_THREADS=1 "$VENV/bin/python" -m pytest tests $(printf -- '--ignore %s ' $alone) -n auto --maxprocesses 4 --dist loadfile $long
exec "$VENV/bin/python" -m pytest $alone $long
