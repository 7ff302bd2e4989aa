# Sourced by demo.sh and test.sh: makes .venv beside pyproject.toml and installs the project in it, with pinned versions.
# A second run finds it as it was left, unless pyproject.toml, constraints.txt or the Python have changed.

say() { printf '%s\n' "$*" >&2; }

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  say "Python 3.11 or newer is needed and was not found: install it (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv), or name it: PYTHON=/path/to/python3.11 bash $0"
  return 1
}

# usage: make_environment [extra]
make_environment() {
  local root python extra stamp wanted
  root=$1
  extra=${2:-}
  python=$(find_python) || return 1
  if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    say "$python has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv), then run this again."
    return 1
  fi
  VENV=${DICOM_NODE_VENV:-$root/.venv}
  stamp=$VENV/installed${extra:+-$extra}
  wanted=$({ "$python" -V; echo "$root"; cat "$root/pyproject.toml" "$root/deploy/constraints.txt"; } | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  say "Installing into $VENV (once; a few minutes where torch has to be downloaded)"
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$VENV" || return 1
  rm -f "$VENV"/installed*
  if ! "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
      --constraint "$root/deploy/constraints.txt" --editable "$root${extra:+[$extra]}"; then
    say "The installation failed: see pip's lines above. Behind a proxy, set https_proxy; without internet, set PIP_FIND_LINKS to a folder of wheels."
    return 1
  fi
  # pip would compile one file after the other; this uses every core, and leaves out the libraries' own tests and what nothing
  # here imports: more than a third of all source.
  "$VENV/bin/python" -m compileall -qq -j 0 \
    -x '/(tests|sympy|mpmath|networkx|fontTools|pip|setuptools|mypyc?|torchgen|torch/(_inductor|_dynamo|testing|onnx))/' \
    "$VENV/lib" >/dev/null 2>&1 || true
  printf '%s\n' "$wanted" > "$stamp"
  [ -z "$extra" ] || printf '%s\n' "$wanted" > "$VENV/installed"
}
