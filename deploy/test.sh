#!/usr/bin/env bash
# Installs the project with its test extra into .venv and runs every check.
#   bash deploy/test.sh             all but the tests marked long: some 10 minutes on two cores
#   bash deploy/test.sh --fast      style, types, layers, and the tests marked neither slow nor integration: 2 minutes
#   bash deploy/test.sh --long      the long ones too, and the random ones for longer: an hour or more, best as root
#   bash deploy/test.sh ARGUMENTS   pytest with these arguments, and no other check
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/environment.sh"
make_environment "$root" test
cd "$root"
# Processes that the tests start find the sources compiled.
unset PYTHONDONTWRITEBYTECODE
"$VENV/bin/python" -m compileall -qq -j 0 dicom_node pipelines worker tests || true
mode=
case "$#${1:-}" in
  0) ;;
  1--fast | 1--long) mode=$1 ;;
  *) exec "$VENV/bin/python" -m pytest "$@" ;;
esac

logs=$(mktemp -d)
running=
trap 'for id in $running; do kill "$id" 2>/dev/null || true; done; rm -rf "$logs"' EXIT
trap 'exit 130' INT TERM

# usage: start NAME COMMAND...; what it prints comes when it has ended, with finish
start() {
  local name=$1
  shift
  "$@" > "$logs/$name" 2>&1 &
  running="$running $!"
}
finish() {
  local id status=0
  for id in $running; do
    wait "$id" || status=1
  done
  running=
  cat "$logs"/* 2>/dev/null || true
  rm -f "$logs"/*
  return $status
}

"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .

# Threads of torch that wait for each other sleep: spinning, they take the cores that the other tests ask for.
export OMP_WAIT_POLICY=PASSIVE

# Tests that compute: one core for each process, and one process more, since some tests wait; one that has done its own takes
# tests from another.
processes=$("$VENV/bin/python" -c 'import os; print(min(5, 1 + os.cpu_count()))')
compute() { OMP_NUM_THREADS=1 nice "$VENV/bin/python" -m pytest -n "$processes" --dist worksteal --durations 10 --durations-min 1 "$@"; }

# Whole systems mostly wait: they run beside the tests that compute, which leave them the cores that they ask for (nice).
# Those that kill processes at a moment are one lane, one after the other; the rest is another. The long ones are alone.
killing="tests/integration/faults/test_processes.py tests/integration/test_faults.py tests/worker/test_app.py"
ignore() { printf -- '--ignore %s ' "$@"; }
systems=("$VENV/bin/python" -m pytest --durations 10)
failed=0
start types "$VENV/bin/mypy"
start layers "$VENV/bin/lint-imports"
if [ "$mode" = --fast ]; then
  compute tests -m "not slow and not integration" || failed=1
  finish || failed=1
  exit "$failed"
fi
if [ "$mode" != --long ]; then
  start killing "${systems[@]}" $killing
  start systems "${systems[@]}" tests/integration $(ignore $killing)
fi
compute tests $(ignore tests/integration $killing) $mode || failed=1
if [ "$mode" = --long ]; then
  "${systems[@]}" $killing tests/integration --long || failed=1
fi
finish || failed=1
exit "$failed"
