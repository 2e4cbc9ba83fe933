#!/usr/bin/env bash
# tools/wheel_check.sh WHEEL: installs the wheel with its extra `module` into a new environment outside the
# tree and boots a module from it, with no ARM compiler on PATH; then the extra `lab`, and cuts the power.
# Shows that the wheel is complete.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(realpath "$1")
tree=$PWD

work=$(mktemp -d -t wheel-check.XXXXXX)
trap 'rm -rf "$work"' EXIT

# The repository's own files, and then what the firmware's build adds.
python=$work/venv/bin/python
"${PYTHON:-/usr/bin/python3}" -m venv "$work/venv"
git ls-files src/cellward | sed 's|^src/||' | sort >"$work/expected"
"$python" -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' "$wheel" |
  sort >"$work/packed"
lacking=$(comm -23 "$work/expected" "$work/packed")
[ -z "$lacking" ] || { printf 'wheel-check: the wheel lacks\n%s\n' "$lacking" >&2; exit 1; }

"$python" -m pip install -qq --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  --requirement requirements/run.txt --requirement requirements/module.txt
# No index: whatever the wheel asks for must already be there, or the lock files have fallen behind.
"$python" -m pip install -qq --disable-pip-version-check --no-index "cellward[module] @ file://$wheel"

mkdir "$work/bin" "$work/plant"
ln -s "$(command -v softhsm2-util)" "$work/bin/"
inside() { (cd "$work/plant" && env -i HOME="$work/plant" LANG=C.UTF-8 PATH="$work/venv/bin:$work/bin" "$@"); }

! inside "$BASH" -c 'command -v arm-none-eabi-gcc' || { echo 'wheel-check: there is a compiler on PATH' >&2; exit 1; }
home=$(inside "$python" -c 'import cellward; print(cellward.__file__)')
[[ $home == "$work"/* && $home != "$tree"/* ]] || { echo "wheel-check: imported $home" >&2; exit 1; }

cellward() { inside cellward "$@" >>"$work/log"; }
sign() { # STAGE: the packaged firmware of version 1.3.0
  cellward image sign "build/$1-1.3.0.elf" --stage "$1" --version 1.3.0 --counter 6 --hardware bms-m33 -o "$1.img"
}
cellward keys init
cellward keys export firmware -o firmware.pem
cellward module firmware build
sign loader
sign app
cellward module create --state m1.module --hardware bms-m33 --serial M0001
cellward module provision --state m1.module --firmware-key firmware.pem --loader loader.img --app app.img \
    --register m1.registration
inside cellward module boot --state m1.module
inside cellward module boot --state m1.module --json >"$work/boot.json"
grep -q '"outcome": "running"' "$work/boot.json"

inside cellward lab powercut --smoke --scenario revert >"$work/without" 2>&1 && exit 1
grep -q 'install cellward\[lab\]' "$work/without"
"$python" -m pip install -qq --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  --requirement requirements/lab.txt
"$python" -m pip install -qq --disable-pip-version-check --no-index "cellward[lab] @ file://$wheel"
inside cellward lab powercut --smoke --scenario revert >>"$work/log"
echo "wheel-check: $(basename "$wheel") boots a module outside the tree, without a compiler"
