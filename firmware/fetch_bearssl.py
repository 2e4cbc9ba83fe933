#!/usr/bin/env python3
"""Fetch BearSSL from Debian's source package and unpack it; standard library and apt-get only.

    python3 firmware/fetch_bearssl.py --out .cache/bearssl

The machine's own apt sources are copied into a private folder as deb-src and used from there:
nothing under /etc/apt is edited, and no root is needed. The orig tarball is pinned by its SHA-256,
so it does not matter which mirror, proxy or release it came from.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "bearssl"
ORIG = "bearssl_0.6+dfsg.1.orig.tar.xz"
ORIG_SHA256 = "102a625bd8f6155260867a50c508df8d8c3f796985dd744df1a68e5cd1a79004"
STAMP = ".complete"


class FetchError(Exception):
    """One line for people."""


def deb822_sources(text: str) -> Iterator[str]:
    """Debian's stanzas of a .sources file, as deb-src."""
    for stanza in re.split(r"\n(?:[ \t]*\n)+", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = {
            key.lower(): " ".join(rest.split())
            for key, _, rest in (line.partition(":") for line in lines if not line.startswith((" ", "\t")))
        }
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        if not _debian(fields.get("suites", ""), fields.get("components", "")):
            continue
        yield "\n".join(
            "Types: deb-src" if line.lower().startswith("types:") else line for line in lines if line.strip()
        )


_ONE_LINE = re.compile(r"deb\s+(?P<options>\[[^]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")


def one_line_sources(text: str) -> Iterator[str]:
    """Debian's lines of a .list file, as deb-src."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match and _debian(match["suite"], match["components"]):
            options = re.sub(r"\barch=\S+?(?=[\s\]])", "", match["options"] or "")
            yield f"deb-src {options}{match['uri']} {match['suite']}{match['components']}"


_RELEASES = frozenset(
    ["stable", "oldstable", "testing", "unstable", "sid", "bookworm", "trixie", "forky", "duke"]
)


def _debian(suites: str, components: str) -> bool:
    """Debian's archive and its mirrors serve `main` of a Debian release. A third party that looks
    the same is harmless: a failure there is not looked at, and the tarball is pinned."""
    return "main" in components.split() and any(re.split("[-/]", s)[0] in _RELEASES for s in suites.split())


def write_sources(apt: Path, parts: Path) -> int:
    """Copy the sources configured under `apt` into `parts`; returns how many there are."""
    count = 0
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for number, path in enumerate(path for path in files if path.is_file()):
        text = path.read_text(errors="replace")
        if path.suffix == ".sources":
            found = list(deb822_sources(text))
            target, separator = parts / f"{number:02}.sources", "\n\n"
        elif path.suffix == ".list":
            found = list(one_line_sources(text))
            target, separator = parts / f"{number:02}.list", "\n"
        else:
            continue
        if found:
            target.write_text(separator.join(found) + "\n")
            count += len(found)
    return count


def download(apt: Path, work: Path) -> bytes:
    """The orig tarball. Raises FetchError."""
    parts, lists, cache = work / "parts", work / "lists", work / "cache"
    for folder in (parts, lists / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True)
    if not write_sources(apt, parts):
        raise FetchError(f"no Debian source with a `main` component is configured under {apt}")
    command = ["apt-get", "-q", "-o", "Dir::Etc::SourceList=/dev/null"]
    command += ["-o", f"Dir::Etc::SourceParts={parts}", "-o", f"Dir::State::Lists={lists}"]
    command += ["-o", f"Dir::Cache={cache}", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=2"]
    if os.geteuid() == 0:  # the private folder belongs to root: apt must not drop to _apt
        command += ["-o", "APT::Sandbox::User=root"]
    # A source that fails (a third party's, a mirror without deb-src) makes update exit 100; what
    # the others delivered is enough or the next command says so.
    update = _run([*command, "update"], work)
    source = _run([*command, "source", "--download-only", PACKAGE], work)
    tarball = work / ORIG
    if not tarball.is_file():
        lines = [line for line in (update + source).splitlines() if line.startswith(("E:", "W:"))]
        raise FetchError(f"apt-get brought no {ORIG}: " + (" ".join(lines[-2:]) or "no error was given"))
    return tarball.read_bytes()


def _run(command: list[str], work: Path) -> str:
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError as error:
        raise FetchError("apt-get is not here: BearSSL comes from Debian's source package") from error
    except subprocess.TimeoutExpired as error:
        raise FetchError("apt-get did not answer within 300 s") from error
    return done.stdout + done.stderr


def checked(tarball: bytes) -> bytes:
    """The tarball, if it is the pinned one. Raises FetchError."""
    found = hashlib.sha256(tarball).hexdigest()
    if found != ORIG_SHA256:
        raise FetchError(f"{ORIG}: expected SHA-256 {ORIG_SHA256}, found {found}")
    return tarball


def unpack(tarball: Path, out: Path) -> None:
    """Unpack into `out` by rename, so that it is either whole or absent."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        with tarfile.open(tarball) as archive:
            # Python 3.11.2 (Debian 12) has no filters yet; the bytes are pinned either way.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            archive.extractall(folder)  # noqa: S202
        (root,) = Path(folder).iterdir()
        (root / STAMP).write_text(ORIG_SHA256 + "\n")
        shutil.rmtree(out, ignore_errors=True)
        root.rename(out)


def fetch(out: Path, apt: Path) -> None:
    """Make `out` hold the pinned BearSSL; nothing is fetched when it does already."""
    stamp = out / STAMP
    if stamp.is_file() and stamp.read_text().strip() == ORIG_SHA256:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = out.parent / ORIG
    if not (kept.is_file() and hashlib.sha256(kept.read_bytes()).hexdigest() == ORIG_SHA256):
        with tempfile.TemporaryDirectory() as work:
            tarball = checked(download(apt, Path(work)))
        part = kept.with_suffix(".part")
        part.write_bytes(tarball)
        part.rename(kept)
    unpack(kept, out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="fetch BearSSL's pinned source")
    parser.add_argument("--out", type=Path, required=True, help="folder to unpack to")
    parser.add_argument("--apt", type=Path, default=Path("/etc/apt"), help="where apt's sources are")
    args = parser.parse_args(argv)
    try:
        fetch(args.out.absolute(), args.apt)
    except (FetchError, OSError, tarfile.TarError) as error:
        print(f"fetch_bearssl: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
