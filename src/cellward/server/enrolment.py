"""The listener for controllers that have no certificate, or one that ends (docs/formats/attestation.md).

/v1/enrol/tpm, /v1/enrol/prove     a token and a TPM
/v1/renew, /v1/renew/prove         the same TPM, hours later
/v1/enrol                          a token alone: a software identity
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cellward.core import enrolment
from cellward.core.enrolment import MAX_CSR, MAX_SIZE, MAX_TOKEN, ecus_of
from cellward.core.errors import Code, FormatRefused
from cellward.core.keys import PublicKey
from cellward.core.metadata import Ecu
from cellward.core.strictjson import Fields, decode
from cellward.ports.registry import Certificate, Registry
from cellward.rollout import attested, inventory
from cellward.rollout.attested import Known
from cellward.server.app import application
from cellward.server.ca import ATTESTED_LIFETIME, Authority, csr_key
from cellward.server.device_api import Clock
from cellward.server.lane import Lane
from cellward.server.requests import read_body

MAX_BODY = 64 * 1024


class EnrolmentApi:
    def __init__(
        self, registry: Registry, device_ca: Authority, known: Known, lane: Lane, clock: Clock
    ) -> None:
        self._registry = registry
        self._device_ca = device_ca
        self._known = known
        self._lane = lane
        self._clock = clock

    def app(self) -> Starlette:
        return application(
            Route("/v1/enrol", self.enrol, methods=["POST"]),
            *(
                Route(path, self._answer(work), methods=["POST"])
                for path, work in {
                    "/v1/enrol/tpm": self._begin_enrolment,
                    "/v1/enrol/prove": self._prove_enrolment,
                    "/v1/renew": self._begin_renewal,
                    "/v1/renew/prove": self._prove_renewal,
                }.items()
            ),
        )

    def _answer(self, work: Callable[[bytes], bytes]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = await read_body(request, MAX_SIZE)
            data = await self._lane.run(work, body)
            return Response(data, headers={"Cache-Control": "no-store"}, media_type="application/json")

        return answer

    async def enrol(self, request: Request) -> Response:
        body = await read_body(request, MAX_BODY)
        return JSONResponse({"certificate": await self._lane.run(self._enrol, body)})

    # --- in the lane: with a TPM

    def _begin_enrolment(self, body: bytes) -> bytes:
        introduction = enrolment.decode_introduction(body)
        return attested.begin_enrolment(self._registry, self._known, introduction, self._clock()).encode()

    def _prove_enrolment(self, body: bytes) -> bytes:
        proof, now = enrolment.decode_proof(body), self._clock()
        key = csr_key(proof.csr)
        proven = attested.prove_enrolment(self._registry, self._known, proof, key, now)
        issued, answer = self._issue(key, proven.token.vehicle_id, proven.attestation.identity_key)
        self._registry.enrol(proven.token.digest, issued, proven.ecus, now, proven.attestation)
        return answer

    def _begin_renewal(self, body: bytes) -> bytes:
        renewal = enrolment.decode_renewal(body)
        return attested.begin_renewal(self._registry, renewal, self._clock()).encode()

    def _prove_renewal(self, body: bytes) -> bytes:
        proof, now = enrolment.decode_proof(body), self._clock()
        key = csr_key(proof.csr)
        proven = attested.prove_renewal(self._registry, self._known, proof, key, now)
        issued, answer = self._issue(key, proven.vehicle_id, proven.attestation.identity_key)
        self._registry.renew(replace(issued, recovery=proven.recovery), proven.moment, now)
        return answer

    def _issue(self, key: PublicKey, vehicle_id: str, identity: PublicKey) -> tuple[Certificate, bytes]:
        """For the TLS key; reports are the identity key's. Good once the registry has it."""
        issued, pem = self._device_ca.issue_client(key, vehicle_id, self._clock(), ATTESTED_LIFETIME)
        return replace(issued, public_key=identity), enrolment.encode_issued(pem)

    # --- with a token alone

    def _enrol(self, body: bytes) -> str:
        text, csr, ecus = _decode(body)
        now = self._clock()
        token = inventory.check_software(inventory.open_token(self._registry, text, now))
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
        ecus = ecus_of(fields)
        fields.finish()
    except FormatRefused as error:
        raise FormatRefused(
            Code.REQUEST_FORMAT, error.subject, expected=error.expected, found=error.found
        ) from error
    return token, csr.encode(), ecus
