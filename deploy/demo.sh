#!/usr/bin/env bash
# Installs the project into .venv and runs the demonstration; arguments go to "dicom-node demo".
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/environment.sh"
make_environment "$root"
exec "$VENV/bin/dicom-node" demo "$@"
