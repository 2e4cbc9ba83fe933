"""The listener for controllers that have no certificate yet: a one-time token gets one.

TPM enrolment will stand beside it; the token then only introduces the pack to the fleet.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cellward.core.errors import Code, FormatRefused
from cellward.core.metadata import Ecu
from cellward.core.strictjson import Fields, decode
from cellward.ports.registry import Registry
from cellward.rollout import inventory
from cellward.server.app import application
from cellward.server.ca import Authority, csr_key
from cellward.server.device_api import Clock
from cellward.server.lane import Lane
from cellward.server.requests import read_body

MAX_BODY = 64 * 1024
MAX_TOKEN = 128
MAX_CSR = 16 * 1024


class EnrolmentApi:
    def __init__(self, registry: Registry, device_ca: Authority, lane: Lane, clock: Clock) -> None:
        self._registry = registry
        self._device_ca = device_ca
        self._lane = lane
        self._clock = clock

    def app(self) -> Starlette:
        return application(Route("/v1/enrol", self.enrol, methods=["POST"]))

    async def enrol(self, request: Request) -> Response:
        body = await read_body(request, MAX_BODY)
        return JSONResponse({"certificate": await self._lane.run(self._enrol, body)})

    def _enrol(self, body: bytes) -> str:
        text, csr, ecus = _decode(body)
        now = self._clock()
        token = inventory.open_token(self._registry, text, now)
        key = csr_key(csr)
        inventory.check_ecus(ecus)
        certificate, pem = self._device_ca.issue_client(key, token.vehicle_id, now)
        self._registry.enrol(token.digest, certificate, ecus, now)
        return pem.decode("ascii")


def _decode(body: bytes) -> tuple[str, bytes, tuple[Ecu, ...]]:
    """Token, CSR in PEM, ECUs. Raises FormatRefused (request.format); it never repeats the token."""
    try:
        fields = Fields(decode(body, "enrolment", MAX_BODY), "enrolment")
        token = fields.text("token", limit=MAX_TOKEN)
        csr = fields.text("csr", limit=MAX_CSR)
        entries = [Fields(item, "ecu") for item in fields.items("ecus", inventory.MAX_ECUS)]
        ecus = tuple(Ecu(entry.text("ecu_id"), entry.text("hardware_id")) for entry in entries)
        for checked in (fields, *entries):
            checked.finish()
    except FormatRefused as error:
        raise FormatRefused(
            Code.REQUEST_FORMAT, error.subject, expected=error.expected, found=error.found
        ) from error
    return token, csr.encode(), ecus
