"""Attacks on the running server, over real TLS, with the keys in a real token.

Each looks at the state after the refusal: the registry, the repository, whether others are served.
"""

import json
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from cellward.adapters.http import HttpTransport
from cellward.core.errors import CellwardError, Code
from cellward.core.metadata import Ecu
from cellward.core.slots import Stage
from tests.fakes.tls import Authority
from tests.support.maker import manifest, program
from tests.support.running import House, Pack, Server, enrol, server

TIMESTAMP = "/v1/image/timestamp.json"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("maker")
    made = House(folder / "data")
    made.run("keys", "init")
    made.run("repo", "init")
    (folder / "firmware.bin").write_bytes(program(bytes(range(256)) * 16, "bms-m33", Stage.APP))
    for version, counter in (("1.3.0", 6), ("1.4.0", 7), ("1.5.0", 8)):
        sign = ["image", "sign", "firmware.bin", "--hardware", "bms-m33"]
        made.run(*sign, "--version", version, "--counter", str(counter), "-o", f"app-{version}.img")
    made.run("repo", "publish", "app-1.3.0.img")
    return made


@pytest.fixture(scope="module")
def running(house: House) -> Iterator[Server]:
    with server(house) as found:
        yield found


@pytest.fixture(scope="module")
def pack(running: Server) -> Pack:
    return enrol(running, "PACK-1")


def dump(house: House) -> list[str]:
    """Everything the registry holds."""
    with sqlite3.connect(f"file:{house.data / 'cellward.db'}?mode=ro", uri=True) as db:
        found = list(db.iterdump())
    db.close()
    return found


def context(running: Server, tmp_path: Path, pair: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=running.house.server_ca.decode())
    if pair is not None:
        path = tmp_path / "pair.pem"
        path.write_bytes(pair[0] + pair[1])
        made.load_cert_chain(path)
    return made


def say(port: int, tls: ssl.SSLContext, data: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """What the server answers until it hangs up. Raises ssl.SSLError for its alert."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        tls.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(data)
        answer = b""
        while chunk := wrapped.recv(65536):
            answer += chunk
        return answer


def still_serves(running: Server, pack: Pack) -> bool:
    with pack.transport(running) as transport:
        return b"".join(transport.get(TIMESTAMP, 65536)).startswith(b"{")


def refused(pack: Pack, running: Server, path: str = TIMESTAMP) -> Code:
    with pack.transport(running) as transport, pytest.raises(CellwardError) as error:
        list(transport.get(path, 65536))
    return error.value.code


# --- who is let in


def test_no_client_certificate(running: Server, pack: Pack, tmp_path: Path) -> None:
    before = dump(running.house)
    with pytest.raises(ssl.SSLError) as alert:
        say(running.devices, context(running, tmp_path))
    assert alert.value.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert dump(running.house) == before
    assert still_serves(running, pack)


def test_certificate_of_another_authority(running: Server, pack: Pack, tmp_path: Path) -> None:
    before = dump(running.house)
    certificate, key = Authority("Cellward device-ca").pair("PACK-1")
    with pytest.raises(ssl.SSLError) as alert:
        say(running.devices, context(running, tmp_path, (certificate, key)))
    assert alert.value.reason == "TLSV1_ALERT_UNKNOWN_CA"
    assert dump(running.house) == before
    assert still_serves(running, pack)


def test_tls_1_2_on_both_listeners(running: Server, pack: Pack, tmp_path: Path) -> None:
    for port in (running.devices, running.enrolment):
        old = context(running, tmp_path)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError) as alert:
            say(port, old)
        assert alert.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"
    assert still_serves(running, pack)


def test_revoked_between_two_requests_of_one_connection(running: Server, pack: Pack) -> None:
    other = enrol(running, "PACK-2", Ecu("m2/app", "bms-m33"))
    with other.transport(running) as transport:
        assert list(transport.get(TIMESTAMP, 65536))
        running.house.run("server", "revoke", "PACK-2")
        before = dump(running.house)
        with pytest.raises(CellwardError) as error:
            list(transport.get(TIMESTAMP, 65536))
        assert error.value.code is Code.TLS_CLIENT_CERTIFICATE
    assert refused(other, running) is Code.TLS_CLIENT_CERTIFICATE
    with other.transport(running) as transport, pytest.raises(CellwardError):
        transport.post("/v1/report", manifest(other.hand, "PACK-2", ecus=(Ecu("m2/app", "x"),)), 65536)
    assert dump(running.house) == before
    assert still_serves(running, pack)


def test_revoked_while_a_session_may_be_resumed(running: Server, pack: Pack, tmp_path: Path) -> None:
    """A resumed session shows no certificate, and TLS alone would let it in."""
    other = enrol(running, "PACK-6", Ecu("m6/app", "bms-m33"))
    tls = context(running, tmp_path, (other.pair.certificate, other.pair.key))
    request = f"GET {TIMESTAMP} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

    def ask(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", running.devices), timeout=10) as raw,
            tls.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped,
        ):
            wrapped.sendall(request)
            status = wrapped.recv(65536).split(b"\r\n", 1)[0]
            return status, wrapped.session, wrapped.session_reused

    status, session, _ = ask(None)
    assert status.endswith(b"200 OK")
    status, session, resumed = ask(session)
    assert (status.endswith(b"200 OK"), resumed) == (True, True)
    running.house.run("server", "revoke", "PACK-6")
    status, _, resumed = ask(session)
    assert (status.split()[1], resumed) == (b"403", True)
    assert still_serves(running, pack)


def test_certificate_of_the_server_authority(running: Server, pack: Pack, tmp_path: Path) -> None:
    """The server's own certificate opens nothing, even with its key in hand: another CA, another purpose."""
    authority = Authority("Cellward server-ca")
    with pytest.raises(ssl.SSLError):
        say(running.devices, context(running, tmp_path, authority.pair("PACK-1")))
    assert still_serves(running, pack)


# --- what is said over a good connection


def test_what_is_no_http(running: Server, pack: Pack, tmp_path: Path) -> None:
    tls = context(running, tmp_path)
    for data in (
        b"\0\1\2\3\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\nX" * 30,
    ):
        answer = say(running.enrolment, tls, data)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in head
        assert json.loads(body)["code"] == Code.REQUEST_FORMAT
    assert still_serves(running, pack)


def test_endless_header(running: Server, pack: Pack, tmp_path: Path) -> None:
    """Cut off when it is larger than any head may be, whether it is one line or many."""
    tls = context(running, tmp_path)
    for filler in (b"x" * 16384, b"a: b\r\n" * 2000):
        with (
            socket.create_connection(("127.0.0.1", running.enrolment), timeout=10) as raw,
            tls.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(b"GET / HTTP/1.1\r\nx: ")
            with pytest.raises(OSError, match=r"."):
                send_for(10, wrapped, filler)
    assert still_serves(running, pack)


def send_for(seconds: float, wrapped: ssl.SSLSocket, data: bytes) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        wrapped.sendall(data)


def test_body_that_is_larger_than_it_may_be(running: Server, pack: Pack, tmp_path: Path) -> None:
    tls = context(running, tmp_path)
    head = b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    for stated in (65537, 10**17, 10**25):
        answer = say(running.enrolment, tls, head % stated + b"x" * 1000)
        assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    assert still_serves(running, pack)


def test_smuggled_second_request(running: Server, pack: Pack, tmp_path: Path) -> None:
    """Content-Length against Transfer-Encoding: one of them would be read by nobody in front of us."""
    both = (
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /v1/enrol HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert say(running.enrolment, context(running, tmp_path), both).startswith(b"HTTP/1.1 400 ")
    assert still_serves(running, pack)


def test_the_log_has_no_token_and_no_line_of_the_clients(running: Server, pack: Pack) -> None:
    token = running.house.run("server", "enrol-token", "PACK-3", "--software-identity").strip()
    with pack.transport(running) as transport:
        for path in (
            "/v1/image/%0aforged%20line",
            "/%0aforged",
            "/v1/artefacts/%0aforged/%0aforged",
            "/v1/image/%1b%5b31m",
            f"/v1/image/{'x' * 500}",
        ):
            with pytest.raises(CellwardError):
                list(transport.get(path, 65536))
    log = running.log.read_text()
    assert token not in log
    assert not any(line.startswith("forged") for line in log.splitlines())
    assert "\x1b" not in log
    assert "x" * 300 not in log
    assert "Traceback" not in log


# --- killed


def test_killed_in_the_middle_of_reports(house: House) -> None:
    """What was acknowledged is remembered; what was not may be either, but never half."""
    ecus = (Ecu("m5/app", "bms-m33"),)
    with server(house, "killed") as running:
        pack = enrol(running, "PACK-5", *ecus)
        with pack.transport(running) as transport:
            threading.Timer(0.3, running.kill).start()
            acknowledged = report_until_it_fails(transport, pack, ecus)
    assert acknowledged > 0
    db = sqlite3.connect(house.data / "cellward.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    counter = db.execute("SELECT counter FROM last_report WHERE vehicle_id = 'PACK-5'").fetchone()[0]
    db.close()
    assert counter in (acknowledged, acknowledged + 1)
    with server(house, "again") as running, pack.transport(running) as transport:
        with pytest.raises(CellwardError) as error:
            transport.post("/v1/report", manifest(pack.hand, "PACK-5", counter, ecus), 65536)
        assert error.value.code is Code.REPORT_REPLAYED
        transport.post("/v1/report", manifest(pack.hand, "PACK-5", counter + 1, ecus), 65536)
        assert running.stop() == 0


def report_until_it_fails(transport: HttpTransport, pack: Pack, ecus: tuple[Ecu, ...]) -> int:
    """How many were acknowledged."""
    for counter in range(1, 100_000):
        try:
            transport.post("/v1/report", manifest(pack.hand, pack.vehicle_id, counter, ecus), 65536)
        except CellwardError:
            return counter - 1
    raise AssertionError("it was never killed")


class Folder(FetcherInterface):
    """python-tuf's client over our files: a reader that is not ours."""

    def __init__(self, data: Path) -> None:
        self._folders = {"metadata": data / "images", "targets": data / "artefacts"}

    def _fetch(self, url: str) -> Iterator[bytes]:
        from tuf.api.exceptions import DownloadHTTPError

        kind, _, name = url.removeprefix("https://x/").partition("/")
        path = self._folders[kind] / name
        if not path.is_file():
            raise DownloadHTTPError("none", 404)
        yield path.read_bytes()


def updater(house: House, folder: Path) -> Updater:
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    return Updater(
        metadata_dir=str(folder),
        metadata_base_url="https://x/metadata/",
        target_dir=str(folder / "targets"),
        target_base_url="https://x/targets/",
        fetcher=Folder(house.data),
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=(house.data / "images" / "1.root.json").read_bytes(),
    )


def test_python_tufs_client_follows_the_image_repository(house: House, tmp_path: Path) -> None:
    client = updater(house, tmp_path)
    found = client.get_targetinfo("bms-m33/app-1.3.0.img")
    assert found is not None
    assert found.custom["release_counter"] == 6
    fetched = client.download_target(found)
    assert Path(fetched).read_bytes() == (house.data.parent / "app-1.3.0.img").read_bytes()
    assert client.get_targetinfo("bms-m33/app-9.9.9.img") is None


@pytest.mark.parametrize("milliseconds", [400, 700, 850, 1000, 1150])
def test_killed_in_the_middle_of_publishing(house: House, tmp_path: Path, milliseconds: int) -> None:
    """python-tuf's client finds a whole repository, before or after, and the next publication works."""
    publishing = house.start("repo", "publish", "app-1.4.0.img")
    threading.Timer(milliseconds / 1000, publishing.kill).start()
    publishing.communicate()
    client = updater(house, tmp_path / "before")
    info = client.get_targetinfo("bms-m33/app-1.4.0.img")
    if info is not None:
        client.download_target(info)
    house.run("repo", "publish", "app-1.4.0.img")
    assert updater(house, tmp_path / "after").get_targetinfo("bms-m33/app-1.4.0.img") is not None


def test_every_refusal_of_the_command_line_is_one_line(house: House) -> None:
    sign = ["image", "sign", "firmware.bin", "--hardware", "bms-m33", "--fill-gaps"]
    house.run(*sign, "--version", "1.2.0", "--counter", "5", "-o", "older.img")
    other = program(b"other firmware" * 64, "bms-m33", Stage.APP)
    (house.data.parent / "other.bin").write_bytes(other)
    sign[2] = "other.bin"
    house.run(*sign, "--version", "1.3.0", "--counter", "9", "-o", "other.img")
    folder, before = house.data.parent, (dump(house), house.run("repo", "list"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for code, command in (
            ("storage.exists", f"repo publish {folder}/other.img"),
            ("image.counter", f"repo publish {folder}/older.img"),
            ("storage.missing", f"repo publish {folder}/nothing.img"),
            ("vehicle.unknown", "repo assign PACK-9 bms-m33/app-1.3.0.img"),
            ("target.missing", "repo assign PACK-1 bms-m33/app-9.9.9.img"),
            ("vehicle.unknown", "server revoke PACK-9"),
            ("metadata.format", "server enrol-token a/b"),
            ("config.invalid", f"repo factory -o {folder}/f.json --url http://plain"),
            ("server.address", f"server run --devices {address} --enrolment 127.0.0.1:0"),
        ):
            assert house.refused(*command.split()) == code
    assert (dump(house), house.run("repo", "list")) == before
    assert not (folder / "f.json").exists()
