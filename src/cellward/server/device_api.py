"""The listener for enrolled vehicles (docs/formats/uptane.md). The vehicle is the certificate's."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cellward.core import attestedtime
from cellward.core.errors import CellwardError, FormatRefused
from cellward.core.metadata import MAX_MANIFEST_SIZE, Role, file_name, parse_file_name
from cellward.ports.registry import Certificate, Registry, Vehicle
from cellward.ports.store import RangedStore, Store
from cellward.publish.director import Director
from cellward.publish.images import ImageRepository
from cellward.publish.servercas import Statements
from cellward.rollout import inventory
from cellward.rollout.measured import PROVEN, Measured
from cellward.server import artefacts
from cellward.server.app import application
from cellward.server.lane import Lane
from cellward.server.problem import not_found
from cellward.server.requests import Peer, peer_of, read_body

RENEWAL_SECONDS = 1.0
logger = logging.getLogger("cellward.server")
Clock = Callable[[], datetime]
AttestTime = Callable[[bytes, datetime], bytes]  # a signed answer to this nonce


@dataclass(frozen=True)
class Repositories:
    """Everything the devices' listener serves from."""

    registry: Registry
    director: Director
    images: ImageRepository
    image_metadata: Store
    artefacts: RangedStore
    measured: Measured
    attest: AttestTime
    server_cas: Statements


class DeviceApi:
    def __init__(self, repositories: Repositories, lane: Lane, clock: Clock) -> None:
        self._it = repositories
        self._lane = lane
        self._clock = clock
        self._image_timestamp = (b"", 0)  # the file and its version
        self._looked_at = -RENEWAL_SECONDS

    def app(self) -> Starlette:
        return application(
            Route("/v1/report", self.report, methods=["POST"]),
            Route("/v1/time", self.time, methods=["POST"]),
            Route("/v1/server-cas", self.server_cas, methods=["GET"]),
            Route("/v1/director/{name}", self.director, methods=["GET"]),
            Route("/v1/image/{name}", self.image, methods=["GET"]),
            Route("/v1/artefacts/{hardware}/{file}", self.artefact, methods=["GET"]),
        )

    async def report(self, request: Request) -> Response:
        body = await read_body(request, MAX_MANIFEST_SIZE)
        return JSONResponse(await self._lane.run(self._report, peer_of(request), body))

    async def time(self, request: Request) -> Response:
        body = await read_body(request, attestedtime.MAX_SIZE)
        data = await self._lane.run(self._attest_time, peer_of(request), body)
        return Response(data, headers={"Cache-Control": "no-store"}, media_type="application/json")

    async def server_cas(self, request: Request) -> Response:
        data = await self._lane.run(self._server_cas, peer_of(request))
        return Response(data, headers={"Cache-Control": "no-cache"}, media_type="application/json")

    async def director(self, request: Request) -> Response:
        name = request.path_params["name"]
        data = await self._lane.run(self._director_file, peer_of(request), name)
        return _metadata(name, data, "private")

    async def image(self, request: Request) -> Response:
        name = request.path_params["name"]
        data = await self._lane.run(self._image_file, peer_of(request), name)
        return _metadata(name, data, "public")

    async def artefact(self, request: Request) -> Response:
        name = f"{request.path_params['hardware']}/{request.path_params['file']}"
        await self._lane.run(self._artefact, peer_of(request), name)
        return artefacts.answer(request, self._it.artefacts, name)

    # --- in the lane

    def _authenticate(self, peer: Peer) -> Certificate:
        return inventory.authenticate(self._it.registry, peer.serial, peer.common_name, self._clock())

    def _artefact(self, peer: Peer, name: str) -> None:
        certificate = self._authenticate(peer)
        inventory.check_scope(self._it.registry, certificate, name, self._it.images.targets)

    def _vehicle(self, peer: Peer) -> tuple[Certificate, Vehicle]:
        certificate = self._authenticate(peer)
        return certificate, inventory.known_vehicle(self._it.registry, certificate.vehicle_id)

    def _report(self, peer: Peer, body: bytes) -> dict[str, object]:
        certificate, vehicle = self._vehicle(peer)
        now = self._clock()
        manifest = inventory.accept_report(self._it.registry, certificate, vehicle, body, now)
        for serial, verdict in self._it.measured.note(manifest).items():
            if verdict.code not in ("", PROVEN):
                said = f"expected {verdict.expected}, found {verdict.found}"
                logger.warning("module %s is not what it says [%s]: %s", serial, verdict.code, said)
        issue = self._it.director.current(vehicle, now)
        root = self._it.director.roots.newest().signed.version
        newest = self._it.server_cas.newest()
        return {
            "director": {"root": root, "timestamp": issue.version},
            "image": self._image_versions(now),
            **({"server_cas": newest.version} if newest else {}),
        }

    def _attest_time(self, peer: Peer, body: bytes) -> bytes:
        self._authenticate(peer)
        nonce = attestedtime.decode_request(body)
        return self._it.attest(nonce, self._clock())

    def _server_cas(self, peer: Peer) -> bytes:
        certificate = self._authenticate(peer)
        newest = self._it.server_cas.newest()
        if newest is None:
            raise not_found("statement on server CAs")
        self._it.registry.took_server_cas(certificate.vehicle_id, newest.version)
        return newest.data

    def _director_file(self, peer: Peer, name: str) -> bytes | None:
        _, vehicle = self._vehicle(peer)
        return self._it.director.file(vehicle, _checked(name), self._clock())

    def _image_file(self, peer: Peer, name: str) -> bytes | None:
        self._authenticate(peer)
        if parse_file_name(_checked(name))[0] is Role.TIMESTAMP:
            self._renew_images(self._clock())
        return self._it.image_metadata.read(name)

    def _image_versions(self, now: datetime) -> dict[str, int]:
        """The newest there are; what is about to expire is renewed first."""
        self._renew_images(now)
        data = self._it.image_metadata.read(file_name(Role.TIMESTAMP, 1)) or b""
        if data != self._image_timestamp[0]:  # another process may have published
            self._image_timestamp = data, self._it.images.timestamp().version
        root = self._it.images.roots.newest().signed.version
        return {"root": root, "timestamp": self._image_timestamp[1]}

    def _renew_images(self, now: datetime) -> None:
        if time.monotonic() - self._looked_at < RENEWAL_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            self._it.images.renew_online(now)
        except CellwardError as error:
            logger.warning("%s", error)  # what there is stays good for half of its lifetime


def _checked(name: str) -> str:
    try:
        parse_file_name(name)
    except FormatRefused as error:
        raise not_found(f"metadata {name[:80]!r}") from error
    return name


def _metadata(name: str, data: bytes | None, scope: str) -> Response:
    if data is None:
        raise not_found(f"metadata {name}")
    fixed = name != file_name(Role.TIMESTAMP, 1)
    caching = f"{scope}, max-age=31536000, immutable" if fixed else "no-cache"
    return Response(data, headers={"Cache-Control": caching}, media_type="application/json")
