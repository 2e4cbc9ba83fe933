#!/usr/bin/env bash
# tools/bare_debian.sh [SUITE] [GOAL]: proves that `make GOAL` (demo) needs nothing but a bare Debian SUITE
# (bookworm). Makes a minimal system in a temporary directory, copies a clean clone of HEAD in and runs
# the goal there twice, as root; the second run must set up nothing. Needs root, debootstrap and git.
# The mirror, apt's network settings and the trusted certificates are those this machine already uses.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:-bookworm} goal=${2:-demo}
[ "$(id -u)" = 0 ] || { echo 'bare_debian: run it as root: debootstrap and chroot need that' >&2; exit 1; }

mirror() { # of Debian itself, not of its security updates
  # shellcheck disable=SC2016  # apt's own placeholders
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p' | head -n 1
}

work=$(mktemp -d -t bare-debian.XXXXXX)
root=$work/root
leave() {
  local mounted
  set +e # tidy up as far as it goes
  for mounted in dev/pts dev proc; do
    ! mountpoint -q "$root/$mounted" || umount "$root/$mounted"
  done
  # Never remove through a mount that would not go away.
  if mountpoint -q "$root/dev" || mountpoint -q "$root/proc"; then
    echo "bare_debian: still mounted, left in place: $root" >&2
  else
    rm -rf --one-file-system "$work"
  fi
}
trap leave EXIT

inside() { # COMMAND...: in the bare system, with none of this machine's environment but its proxies
  chroot "$root" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_CERT=/root/machine-certificates.crt \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"
}

start=$SECONDS
debootstrap --variant=minbase "$suite" "$root" "$(mirror)" >"$work/debootstrap.log" 2>&1 ||
  { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
echo "bare_debian: minimal $suite in $((SECONDS - start)) s"

cp /etc/resolv.conf "$root/etc/resolv.conf"
apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$root/etc/apt/apt.conf.d/99machine" || true
mkdir -p "$root/root"
cp /etc/ssl/certs/ca-certificates.crt "$root/root/machine-certificates.crt"
mount --bind /dev "$root/dev"
mount --bind /dev/pts "$root/dev/pts"
mount -t proc proc "$root/proc"

git clone --quiet --no-local --no-hardlinks . "$root/root/cellward"
# What a person types first on such a machine: it has no make.
inside bash -c 'apt-get -q update && apt-get -q install -y --no-install-recommends make' >"$work/make.log" 2>&1 ||
  { tail -n 20 "$work/make.log" >&2; exit 1; }

for run in first second; do
  start=$SECONDS
  inside make -C /root/cellward "$goal" </dev/null 2>&1 | tee "$work/$run.log"
  echo "bare_debian: $suite, make $goal, $run run: $((SECONDS - start)) s"
done
if grep '^set up:' "$work/second.log"; then
  echo 'bare_debian: the second run set something up again' >&2
  exit 1
fi
