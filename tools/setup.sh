#!/usr/bin/env bash
# tools/setup.sh demo|test: installs and builds what is missing in this checkout, one line each.
# When nothing is missing it prints nothing. Settings: PYTHON (the interpreter), SKIP_APT=1.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MFLAGS MAKELEVEL

readonly python=${PYTHON:-/usr/bin/python3} venv=.venv log=.cache/setup.log
case ${1:-} in
  demo) lists=(demo) locks=(run module build) goals=(all) ;;
  test) lists=(demo test) locks=(run module build lab dev) goals=(all host) ;;
  *) echo 'usage: tools/setup.sh demo|test' >&2; exit 2 ;;
esac
readonly want=$1 lists locks goals

say() { printf 'set up: %s\n' "$*"; }

step() { # TEXT COMMAND...: one line with the time it took; the end of the log if it fails
  local text=$1 start=$SECONDS
  shift
  printf 'set up: %s … ' "$text"
  if ! "$@" >"$log" 2>&1; then
    printf 'failed\n'
    tail -n 12 "$log" >&2
    say "the whole of it is in $log" >&2
    exit 1
  fi
  printf '%d s\n' $((SECONDS - start))
}

# --- system packages: asked of dpkg each time, so there is no stamp that could be wrong

missing_packages() {
  local names files=("${lists[@]/#/tools/system/}")
  names=$(sed 's/#.*//' "${files[@]/%/.txt}" | tr -s ' \n' '\n' | sed '/^$/d' | sort -u)
  # shellcheck disable=SC2086,SC2016  # one argument a name; dpkg's own placeholders
  comm -23 <(echo "$names") \
    <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $names 2>/dev/null | sed -n 's/ installed$//p' | sort -u)
}

apt() { "${as_root[@]}" apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"; }

install_packages() {
  apt update
  apt install -y --no-install-recommends "$@"
}

system_packages() {
  [ -z "${SKIP_APT:-}" ] || return 0
  if ! command -v dpkg-query >/dev/null; then
    say 'this is no Debian. Install what tools/system/*.txt names in its way, then set SKIP_APT=1' >&2
    exit 1
  fi
  local missing as_root=(env DEBIAN_FRONTEND=noninteractive)
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      say "system packages are missing. As root, or with sudo, this installs them:
sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo -n "${as_root[@]}")
  fi
  step "system packages (${missing[*]})" install_packages "${missing[@]}"
}

# --- Python: .venv, each layer with a stamp that holds the hash of what it was made from

stamped() { [ "$(cat "$venv/.cellward-$1" 2>/dev/null)" = "$2" ]; } # NAME HASH
stamp() { echo "$2" >"$venv/.cellward-$1"; }
digest() { cat -- "$@" | sha256sum | cut -d' ' -f1; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

environment() {
  local version home
  if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null); then
    say "Cellward needs Python 3.11 or newer; $python is ${version:-not there}" >&2
    exit 1
  fi
  home="$PWD $python $version"
  if stamped home "$home"; then
    "$venv/bin/python" -c 'import pip' 2>/dev/null && return
  elif [ ! -e "$venv/.cellward-home" ] && pip --version >/dev/null 2>&1; then
    stamp home "$home" # made by hand: taken as it is
    return
  fi
  [ ! -L "$venv" ] || rm "$venv" # what a link leads to is another tree's: not ours to clear
  step "virtual environment ($venv, Python $version)" "$python" -m venv --clear "$venv"
  stamp home "$home"
}

python_packages() {
  local files=("${locks[@]/#/requirements/}") hash
  files=("${files[@]/%/.txt}")
  hash=$(digest "${files[@]}" requirements/tpm.txt)
  ! stamped "$want" "$hash" || return 0
  # Wheels only: a source build would fetch build tools that no hash vouches for. No dependencies: the
  # locks have them all, and pip would ask for the newest release of one that is wanted with an extra.
  step "Python packages (${locks[*]}, by hash)" \
    pip install --quiet --no-deps --only-binary :all: --require-hashes "${files[@]/#/--requirement=}"
  tpm_wheel
  step 'Python packages of the TPM' pip install --quiet --no-deps --no-index "$tpm_wheels"/*.whl
  step 'Python packages fit each other' pip check
  stamp "$want" "$hash"
  # What the tests need holds what the demo needs.
  [ "$want" = demo ] || stamp demo "$(digest requirements/{run,module,build,tpm}.txt)"
}

# tpm2-pytss is the one package without a wheel. It is built once, from the locked source with locked build
# tools (in a folder of their own, without isolation), and kept under what it was built from and for.
tpm_wheel() {
  local key
  key=$({ cat requirements/{run,tpm,tpm-build}.txt; "$venv/bin/python" -VV; uname -m
    pkg-config --modversion tss2-esys; } | sha256sum | cut -c1-16)
  tpm_wheels=.cache/tpm/$key
  [ ! -e "$tpm_wheels/complete" ] || return 0
  step 'TPM library (tpm2-pytss, from source)' build_tpm_wheel
}

build_tpm_wheel() {
  rm -rf .cache/tpm
  mkdir -p .cache/tpm/tools "$tpm_wheels"
  pip install --quiet --no-deps --only-binary :all: --require-hashes --target .cache/tpm/tools \
    --requirement requirements/tpm-build.txt
  # -O0: it is glue around a C library, and half of its build would be optimising.
  CFLAGS=-O0 PYTHONPATH=$PWD/.cache/tpm/tools pip wheel --quiet --no-deps --no-build-isolation \
    --require-hashes --wheel-dir "$tpm_wheels" --requirement requirements/tpm.txt
  rm -rf .cache/tpm/tools
  touch "$tpm_wheels/complete"
}

cellward_itself() {
  local hash
  hash=$(digest pyproject.toml)
  ! stamped editable "$hash" || return 0
  step 'cellward (editable)' pip install --quiet --no-index --no-deps --no-build-isolation --editable .
  stamp editable "$hash"
}

# --- firmware: make knows what is out of date

firmware() {
  local build=(make -C firmware PYTHON3="$python" "${goals[@]}")
  ! "${build[@]}" --silent --question >/dev/null 2>&1 || return 0
  step 'firmware (ROM, loader, app for the Cortex-M33)' "${build[@]}"
}

hand_over() { # after `sudo make …` the files belong to the tree's owner, who can then do without sudo
  local owner path
  owner=$(stat -c %u:%g .)
  [ "$(id -u)" = 0 ] && [ "${owner%:*}" != 0 ] || return 0
  for path in .venv .cache firmware/build src/cellward/vbms/firmware; do
    [ ! -e "$path" ] || chown -R "$owner" "$path"
  done
}

mkdir -p .cache
exec 9>.cache/setup.lock
flock 9 # two makes at once must not fill the same .venv
trap hand_over EXIT
system_packages
environment
python_packages
cellward_itself
firmware
