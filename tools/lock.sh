#!/usr/bin/env bash
# Writes requirements/*.txt from pyproject.toml: every package with its version and hashes, no addresses.
# run.txt is the core; module.txt, tpm.txt, build.txt, lab.txt and dev.txt add to it; tpm-build.txt is what
# tpm2-pytss is built with, lock.txt the tool for this script.
# Pins that still fit are kept; `make lock UPGRADE=1` takes the newest releases instead.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly tool=.cache/lock
if ! cmp -s requirements/lock.txt "$tool/lock.txt"; then
  "${PYTHON:-/usr/bin/python3}" -m venv --clear "$tool"
  "$tool/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes --requirement requirements/lock.txt
  cp requirements/lock.txt "$tool/lock.txt"
fi

upgrade=()
[ -z "${UPGRADE:-}" ] || upgrade=(--upgrade)

compile() { # FILE ARGUMENTS...
  local file=requirements/$1
  shift
  # One file for Python 3.11 and everything newer, on every platform (markers instead of copies).
  UV_NO_CONFIG=1 "$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
    "${upgrade[@]}" --output-file "$file" "$@"
}

adding_to() { # FILES...: arguments that hold a file to the versions of these and leave out what they have
  local file
  for file in "$@"; do
    printf '%s\n' --constraints "requirements/$file"
    sed -nE 's/^([a-z0-9-]+)==.*/--no-emit-package\n\1/p' "requirements/$file"
  done
}

compile run.txt pyproject.toml
mapfile -t without < <(adding_to run.txt)
compile module.txt "${without[@]}" --extra module pyproject.toml
compile tpm.txt "${without[@]}" --extra tpm pyproject.toml
mapfile -t without < <(adding_to run.txt tpm.txt)
compile tpm-build.txt "${without[@]}" --group pyproject.toml:tpm-build
compile build.txt "${without[@]}" --group pyproject.toml:build
mapfile -t without < <(adding_to run.txt module.txt)
compile lab.txt "${without[@]}" --extra lab pyproject.toml
mapfile -t without < <(adding_to run.txt module.txt tpm.txt build.txt lab.txt)
compile dev.txt "${without[@]}" --group pyproject.toml:dev
compile lock.txt --group pyproject.toml:lock

if grep -nE '://|--(index-url|extra-index-url|find-links|trusted-host)' requirements/*.txt; then
  echo 'make lock: the lines above name a place to download from; lock files must not' >&2
  exit 1
fi
