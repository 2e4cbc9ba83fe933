"""The owner's read role on the pack controller: a grant in the vault, a challenge for each reading.

Normative: docs/formats/owner.md. The grant's signature is verified at every use, so that a key put
there by hand is nobody's; the vault says that it is the newest. Whoever may enrol packs, with the key of the
device CA, says whose they are: no further key has to be in the factory data.
"""

import secrets
from datetime import datetime
from typing import Final

from cryptography import x509

from cellward.core import owner
from cellward.core.errors import Code, TrustRefused, Unavailable
from cellward.core.keys import PublicKey
from cellward.core.metadata import Factory
from cellward.core.owner import LIFETIME, NONCE_SIZE, Challenge, Grant
from cellward.device.attempts import Attempts
from cellward.device.vault import Place, Vault

VALUE: Final = "owner"
CHALLENGE: Final = "owner/challenge.txt"


def authority(factory: Factory) -> PublicKey:
    """The device CA's key. Raises FormatRefused (key.format) for a kind that makes no grants."""
    certificate = x509.load_pem_x509_certificate(factory.device_ca)
    return PublicKey.from_cryptography(certificate.public_key())


def appoint(vault: Vault, data: bytes, by: PublicKey, vehicle: str, what: str) -> Grant:
    """From now on this is the owner, and nobody before him. The same grant again changes nothing.

    Raises as owner.verify_grant, TrustRefused (owner.older), PolicyRefused (vault.full).
    """
    found = owner.verify_grant(data, by, vehicle, what)
    held = _held(vault)
    if held == data:
        return found
    if held is not None:
        # Whose signature the held one has does not matter: a device CA that was replaced frees no old grant.
        found.check_newer(owner.read_grant(held, "owner's grant"), what)
    vault.put(VALUE, data)
    return found


def appointed(vault: Vault, by: PublicKey, vehicle: str) -> Grant:
    """Raises Unavailable (owner.missing), and as owner.verify_grant for what was put there otherwise."""
    held = _held(vault)
    if held is None:
        raise Unavailable(
            Code.OWNER_MISSING,
            f"vehicle {vehicle}",
            expected="an owner that the maker has named",
            found="none",
            advice="`cellward device owner set` takes his grant",
        )
    return owner.verify_grant(held, by, vehicle)


def _held(vault: Vault) -> bytes | None:
    if all(value.name != VALUE for value in vault.content.values):
        return None
    with vault.get(VALUE) as view:
        return bytes(view)


def challenge(place: Place, vehicle: str, now: datetime) -> Challenge:
    """A new one; an earlier one is not good any more. Raises tpm.*, storage.*."""
    number = Attempts(place.tpm, place.store).tried
    made = Challenge(vehicle, secrets.token_bytes(NONCE_SIZE), number, now.replace(microsecond=0) + LIFETIME)
    place.store.write(CHALLENGE, made.encode())
    return made


def answered(place: Place, grant: Grant, signature: bytes, now: datetime) -> Challenge:
    """The challenge, if the owner has signed it. Each try uses it up, for its number is the last try's.

    Raises TrustRefused (owner.challenge; owner.signature, which makes the next try slower), PolicyRefused
    (auth.delay), which uses nothing up.
    """
    attempts = Attempts(place.tpm, place.store)
    data = place.store.read(CHALLENGE)
    if data is None:
        raise TrustRefused(
            Code.OWNER_CHALLENGE,
            f"vehicle {grant.vehicle}",
            expected="a challenge that was asked for",
            found="none",
            advice="get one: `cellward device health challenge`",
        )
    asked = owner.decode_challenge(data)
    asked.check(grant.vehicle, attempts.tried, now)
    with attempts.charged(f"owner of {grant.vehicle}"):
        grant.key.verify_message(
            data, signature, code=Code.OWNER_SIGNATURE, subject=f"owner of {grant.vehicle}"
        )
    return asked
