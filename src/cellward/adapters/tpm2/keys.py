"""The endorsement key and the pack controller's keys."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cellward.adapters.tpm2.connection import handles, transient
from cellward.adapters.tpm2.nvram import read_nv
from cellward.adapters.tpm2.refusals import otherwise
from cellward.adapters.tpm2.sessions import Sessions, public_area
from cellward.adapters.tpm2.vendor import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_RH,
    TPM2_ST,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
    TPMT_TK_HASHCHECK,
)
from cellward.core.errors import Code, FormatRefused, Refused, Unavailable
from cellward.core.keys import canonical_signature
from cellward.core.tpm.certificate import load_certificate
from cellward.core.tpm.command import Call, Entity, Hides, authorised
from cellward.core.tpm.credential import Credential
from cellward.core.tpm.keys import ATTESTS, IDENTIFIES, EndorsementPublicKey, endorsement_template
from cellward.core.tpm.numbers import Alg, Command, Hierarchy, ObjectAttributes
from cellward.core.tpm.public import COORDINATE_SIZE, Public, Scheme
from cellward.core.wire import BigEndianReader, be16, be32, be_sized
from cellward.ports.tpm import KeyName, of_digest

# EK Credential Profile 2.5, 2.2.1.4: where the certificates of the default templates are, the smaller first.
EK_CERTIFICATES = (0x01C0000A, 0x01C00002)
EK_HANDLES = (0x81010000, 0x810100FF)
PLACES = {KeyName.IDENTITY: 0x81000011, KeyName.ATTESTATION: 0x81000012}  # the owner's range
_HIERARCHIES = {KeyName.IDENTITY: ESYS_TR.OWNER, KeyName.ATTESTATION: ESYS_TR.ENDORSEMENT}
_ATTRIBUTES = ObjectAttributes.USER_WITH_AUTH | ObjectAttributes.NO_DA
_AREAS = {KeyName.IDENTITY: _ATTRIBUTES | IDENTIFIES, KeyName.ATTESTATION: _ATTRIBUTES | ATTESTS}

_NOW = be_sized(b"") * 3 + be32(0)  # neither nonce, command, reference nor an end
_NO_SCHEME = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)  # the key's own
_NO_TICKET = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)


class Keys(Sessions):
    """ports.tpm.TpmKeys."""

    def ek_certificate(self) -> bytes:
        with self.command("endorsement certificate") as esys:
            index = next((index for index in EK_CERTIFICATES if self.exists(esys, index)), None)
            if index is None:
                raise Unavailable(
                    Code.TPM_MISSING,
                    "endorsement certificate",
                    expected="one for RSA-2048 or ECC P-256 in the TPM",
                    found="none",
                    advice="some makers hand it out on their site; those are not looked up here",
                )
            return read_nv(esys, self.persistent(esys, index))

    def ek_public(self) -> bytes:
        return self._endorsement().encode()

    def _endorsement(self) -> Public:
        return endorsement_template(_certified(self.ek_certificate()))

    def create_key(self, name: KeyName) -> bytes:
        with self.command(f"{name.value} key") as esys:
            made, area, *_ = esys.create_primary(
                TPM2B_SENSITIVE_CREATE(), _template(name), _HIERARCHIES[name]
            )
            with transient(esys, made):
                esys.evict_control(ESYS_TR.OWNER, made, PLACES[name])
            return bytes(area.publicArea.marshal())

    def key(self, name: KeyName) -> bytes | None:
        with self.command(f"{name.value} key") as esys:
            if not self.exists(esys, PLACES[name]):
                return None
            area, *_ = esys.read_public(self.persistent(esys, PLACES[name]))
            return bytes(area.publicArea.marshal())

    def remove_key(self, name: KeyName) -> None:
        with self.command(f"{name.value} key") as esys:
            if self.exists(esys, PLACES[name]):
                esys.evict_control(ESYS_TR.OWNER, self.persistent(esys, PLACES[name]), PLACES[name])
                self._kept.pop(PLACES[name], None)

    def sign(self, digest: bytes) -> bytes:
        of_digest("digest", digest)
        with self.command("identity key") as esys:
            key = self.persistent(esys, PLACES[KeyName.IDENTITY])
            signature = esys.sign(key, digest, _NO_SCHEME, _NO_TICKET)
        return der_signature(signature)

    def activate_credential(self, name: KeyName, credential: Credential) -> bytes:
        template = self._endorsement()
        subject = f"credential for the {name.value} key"
        sized_once(credential.blob, subject)
        sized_once(credential.encrypted_seed, subject)
        with self.command(subject) as esys:
            key = Entity(PLACES[name], bytes(esys.tr_get_name(self.persistent(esys, PLACES[name]))))
            with self._endorsing(esys, template) as endorsing, self.unsalted() as session:
                owner = [Hierarchy.ENDORSEMENT, session.handle]
                self.exchange(authorised(Command.POLICY_SECRET, owner, _NOW))
                given = credential.blob + credential.encrypted_seed
                call = Call(Command.ACTIVATE_CREDENTIAL, (key, endorsing), Hides.NOTHING, given)
                with otherwise(Code.TPM_BLOB, subject):
                    return BigEndianReader(bytes(self.within(session, call)), subject).sized()

    @contextmanager
    def _endorsing(self, esys: ESAPI, template: Public) -> Iterator[Entity]:
        """The endorsement key: where its maker keeps it, or made from the template, which takes long."""
        for place in handles(esys, *EK_HANDLES):
            held = self.persistent(esys, place)
            area, *_ = esys.read_public(held)
            if area.publicArea.marshal() == template.encode():
                yield Entity(place, template.name)
                return
        empty = Public(
            template.kind,
            template.attributes,
            bytes(len(template.unique)),
            template.policy,
            template.symmetric,
        )
        made, area, *_ = esys.create_primary(
            TPM2B_SENSITIVE_CREATE(), public_area(empty), ESYS_TR.ENDORSEMENT
        )
        with transient(esys, made):
            if area.publicArea.marshal() != template.encode():
                raise Refused(
                    Code.TPM_FAILED,
                    "endorsement key",
                    expected="the key of the certificate in this TPM",
                    found="another one",
                )
            yield Entity(int(esys.tr_get_tpm_handle(made)), template.name)


def der_signature(signature: TPMT_SIGNATURE) -> bytes:
    ecdsa = signature.signature.ecdsa
    r, s = (int.from_bytes(bytes(number), "big") for number in (ecdsa.signatureR, ecdsa.signatureS))
    return encode_dss_signature(r, s)


def sized_once(data: bytes, what: str) -> None:
    """Raises FormatRefused (wire.*) unless it is one TPM2B and nothing behind it."""
    reader = BigEndianReader(data, what)
    reader.sized()
    reader.finish()


def tpm_signature(der: bytes) -> bytes:
    """TPMT_SIGNATURE. Raises FormatRefused (key.format) for no DER of two such numbers."""
    if not canonical_signature(der):
        raise FormatRefused(Code.KEY_FORMAT, "signature", expected="ECDSA P-256 in DER", found="another")
    numbers = (be_sized(number.to_bytes(COORDINATE_SIZE, "big")) for number in decode_dss_signature(der))
    return be16(Alg.ECDSA) + be16(Alg.SHA256) + b"".join(numbers)


def _template(name: KeyName) -> TPM2B_PUBLIC:
    """With something random in it that is kept nowhere: a primary key, but nobody can make it again."""
    return public_area(Public(Alg.ECC, _AREAS[name], os.urandom(64), scheme=Scheme.ECDSA_SHA256))


def _certified(certificate: bytes) -> EndorsementPublicKey:
    key = load_certificate(certificate).public_key()
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise Refused(Code.TPM_FAILED, "endorsement certificate", expected="RSA or ECC", found=type(key).__name__)
