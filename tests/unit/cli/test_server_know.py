"""`server know-tpm` and `server know-agent`: what the server believes afterwards, and what it never does."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from cellward import bootstrap
from cellward.bootstrap.packs import known
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.core.slots import Stage
from tests.support.maker import program
from tests.support.manufacturer import MIDDLE_CERTIFICATE, ROOT_CERTIFICATE
from tests.support.pemfile import of_another_version
from tests.support.running import House

ROOT_PEM = ROOT_CERTIFICATE.public_bytes(Encoding.PEM)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "data")


def run(home: Home, *arguments: str) -> str:
    got = CliRunner().invoke(cellward, ["--data", str(home.root), "server", *arguments])
    assert got.exit_code == 0, got.output
    return got.output


def refused(home: Home, *arguments: str) -> Code:
    with pytest.raises(CellwardError) as error:
        cellward.main(["--data", str(home.root), "server", *arguments], standalone_mode=False)
    assert "\n" not in str(error.value)
    return error.value.code


def test_a_manufacturer_is_known_from_then_on(home: Home, tmp_path: Path) -> None:
    asked = known(home)
    assert asked.manufacturers() == []
    pem = b"".join(c.public_bytes(Encoding.PEM) for c in (ROOT_CERTIFICATE, MIDDLE_CERTIFICATE))
    (tmp_path / "roots.pem").write_bytes(pem)
    said = json.loads(run(home, "know-tpm", str(tmp_path / "roots.pem"), "--json"))
    assert sorted(said["tpm_authorities"]) == ["CN=middle", "CN=root"]
    run(home, "know-tpm", str(tmp_path / "roots.pem"))
    assert set(asked.manufacturers()) == {ROOT_CERTIFICATE, MIDDLE_CERTIFICATE}
    (tmp_path / "root.pem").write_bytes(ROOT_PEM)
    run(home, "know-tpm", "--forget", str(tmp_path / "root.pem"))
    assert asked.manufacturers() == [MIDDLE_CERTIFICATE]


NONE = [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n", of_another_version(ROOT_PEM)]


@pytest.mark.parametrize("data", NONE)
def test_what_is_no_certificate(home: Home, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "good.pem").write_bytes(ROOT_CERTIFICATE.public_bytes(Encoding.PEM))
    (tmp_path / "bad.pem").write_bytes(data)
    files = (str(tmp_path / name) for name in ("good.pem", "bad.pem"))
    assert refused(home, "know-tpm", *files) is Code.ATTEST_CERTIFICATE
    assert known(home).manufacturers() == []


def test_agents_by_digest_by_wheel_and_this_one(home: Home, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cellward.whl", "w") as wheel:
        wheel.writestr("cellward/__init__.py", "")
        wheel.writestr("cellward-1.dist-info/METADATA", "whatever")
    of_wheel = bootstrap.agent_digest((tmp_path / "cellward.whl").read_bytes())
    assert not known(home).agent(of_wheel)
    run(home, "know-agent", "ab" * 32, str(tmp_path / "cellward.whl"))
    run(home, "know-agent")
    asked = known(home)
    for digest in (b"\xab" * 32, of_wheel, bootstrap.agent_digest()):
        assert asked.agent(digest)
    assert not asked.agent(bytes(32))
    run(home, "know-agent", "--forget", "ab" * 32)
    assert [asked.agent(digest) for digest in (b"\xab" * 32, of_wheel)] == [False, True]
    said = json.loads(run(home, "known", "--json"))
    assert said["agents"] == {
        of_wheel.hex(): str(tmp_path / "cellward.whl"),
        bootstrap.agent_digest().hex(): "this installation",
    }


def test_a_file_more_or_another_byte_is_another_agent() -> None:
    def digest(files: dict[str, str]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
        return bootstrap.agent_digest(buffer.getvalue())

    base = {"cellward/a.py": "1", "cellward/b.py": "2"}
    others = [
        {**base, "cellward/c.py": ""},
        {**base, "cellward/b.py": "3"},
        {"cellward/a.py": "1", "cellward/sub/b.py": "2"},
        {"cellward/a.py": "2", "cellward/b.py": "1"},
    ]
    assert len({digest(files) for files in (base, *others)}) == 5
    assert digest(dict(reversed(base.items()))) == digest({**base, "other/x.py": ""}) == digest(base)


@pytest.mark.parametrize("data", [b"", b"PK", b"no wheel"])
def test_what_is_no_wheel(home: Home, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.whl").write_bytes(data)
    assert refused(home, "know-agent", str(tmp_path / "x.whl")) is Code.ATTEST_FORMAT
    assert not home.agents.exists() or not list(home.agents.iterdir())


def test_images_are_known_as_soon_as_they_are_published(tmp_path: Path) -> None:
    house = House(tmp_path / "data")
    house.run("keys", "init")
    house.run("repo", "init")
    (tmp_path / "firmware.bin").write_bytes(program(bytes(range(256)) * 16, "bms-m33", Stage.APP))
    asked, expected = known(Home(house.data)), set[bytes]()
    for version, counter in (("1.3.0", 6), ("1.4.0", 7)):
        name = f"app-{version}.img"
        sign = ("image", "sign", "firmware.bin", "--hardware", "bms-m33", "--version", version)
        house.run(*sign, "--counter", str(counter), "-o", name)
        assert set(asked.images("bms-m33", Stage.APP)) == expected
        house.run("repo", "publish", name)
        expected.add(hashlib.sha256((tmp_path / name).read_bytes()).digest())
        assert set(asked.images("bms-m33", Stage.APP)) == expected
    assert not asked.images("bms-m33", Stage.LOADER)
    assert not asked.images("bms-m33-18s", Stage.APP)
