"""Holders, an approver, a stranger and a maker with real tokens, and a key register that they agreed on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core import ceremony, register
from cellward.core.errors import CellwardError, Code
from cellward.core.register import Document
from cellward.sign.ceremony import custody
from cellward.sign.documents import sign_document
from tests.support import hsm

HOLDERS = ("ada", "ben", "cem")
KEYS = ("firmware", "firmware-dev", "firmware-2", "release", "release-2", "approval", "time", "root")
ONLINE = ("targets", "snapshot", "timestamp", "director", "server-ca", "device-ca")
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@dataclass
class World:
    folder: Path
    homes: dict[str, Home]

    def run(self, who: str, *arguments: str) -> None:
        cellward.main(["--data", str(self.homes[who].root), *arguments], standalone_mode=False)

    def keys(self, who: str, *arguments: str) -> None:
        self.run(who, "keys", *arguments)

    def sign(self, who: str, file: str, fingerprint: str | None = None) -> None:
        agreed = fingerprint or drafted(file).draft.fingerprint
        self.keys(who, "ceremony", "sign", file, "--holder", who, "--fingerprint", agreed)

    def finish(self, file: str) -> None:
        self.keys("maker", "ceremony", "finish", file)

    def draft(self, file: str = "draft.jsonl", key: str = "time") -> str:
        self.keys("maker", "revoke", key, "--reason", "lost", "--even-last", "-o", file)
        return file

    @property
    def newest(self) -> Document:
        return register.decode(bootstrap.register_versions(self.homes["maker"])[-1])

    def signed(self, draft: register.Register, *who: str) -> bytes:
        """A version and its records, by the tokens themselves: what no command would sign."""
        document = register.unsigned(draft)
        made, lines = document.envelope, {}
        for name in who:
            store = hsm.store_of(self.homes[name])
            stored, signer = store.find("root"), store.signer("root")
            assert stored is not None
            made = sign_document(made, signer)
            said = custody(store, stored)
            fingerprint = stored.public_key.fingerprint
            record = ceremony.Record(draft.version, document.fingerprint, name, fingerprint, said, NOW)
            lines[fingerprint] = sign_document(record.envelope(), signer).encode()
        return made.encode() + b"".join(lines[each] for each in sorted(lines))

    def rules(self, changes: Mapping[str, Mapping[str, object]]) -> None:
        """Put in force version 2, with entries changed by name."""
        first = self.newest
        entries = tuple(replace(e, **changes.get(e.name, {})) for e in first.register.entries)  # type: ignore[arg-type]
        draft = replace(
            first.register,
            version=2,
            previous=first.sha256,
            entries=entries,
            issued=max(NOW, first.register.issued),
        )
        Path("rules.jsonl").write_bytes(first.data + self.signed(draft, "ada", "ben"))
        self.finish("rules.jsonl")

    def state(self) -> dict[str, bytes]:
        """Everything but the tokens themselves, which logging in rewrites."""
        aside = {"tokens", "pin", "softhsm2.conf"}
        roots = [Path(), *(home.root for home in self.homes.values())]
        found = (path for root in roots for path in root.rglob("*") if path.is_file())
        return {
            str(path): path.read_bytes()
            for path in found
            if not aside & set(path.parts) and not path.name.endswith("lock")
        }


def drafted(file: str) -> ceremony.Ceremony:
    return ceremony.decode(Path(file).read_bytes())


def make_world(folder: Path) -> World:
    """Version 1 is in force: two of three holders must agree; Dora may approve."""
    homes = {name: hsm.make_home(folder / name, "root") for name in (*HOLDERS, "eve")}
    homes["dora"] = hsm.make_home(folder / "dora", "approval")
    homes["maker"] = hsm.make_home(folder / "maker", *KEYS, *ONLINE)
    world, files = World(folder, homes), {name: str(folder / f"{name}.json") for name in (*HOLDERS, "dora")}
    world.run("maker", "repo", "init")
    for name in HOLDERS:
        world.keys(name, "attest", "root", "-o", files[name])
    world.keys("dora", "attest", "approval", "-o", files["dora"])
    draft = str(folder / "first.jsonl")
    roots = [word for name in HOLDERS for word in ("--root", f"{name}={files[name]}")]
    more = "--key", f"approval=Dora={files['dora']}", "--threshold", "2", "--development", "firmware-dev"
    world.keys("maker", "ceremony", "begin", *roots, *more, "-o", draft)
    for name in ("ada", "ben"):
        world.sign(name, draft)
    world.finish(draft)
    return world


@contextmanager
def at_version_one(world: World) -> Iterator[World]:
    """What a test puts in force is taken back after it."""
    home = world.homes["maker"]
    held = home.key_register.read_bytes()
    yield world
    home.key_register.write_bytes(held)
    for path in home.ceremonies.iterdir():
        if path.name != "1.jsonl":
            path.unlink()
    for name in HOLDERS:
        world.homes[name].key_register.unlink(missing_ok=True)


def refuses(world: World, code: Code, attack: Callable[..., object], *arguments: object) -> CellwardError:
    before = world.state()
    with pytest.raises(CellwardError) as error:
        attack(*arguments)
    assert error.value.code is code, error.value
    assert "\n" not in str(error.value)
    assert world.state() == before
    return error.value
