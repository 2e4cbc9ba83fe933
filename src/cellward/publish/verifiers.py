"""Two verifiers of one image: core's and the module's own (attack 23). They agree, or nothing goes out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cellward.core import image as images
from cellward.core.errors import Code, PolicyRefused, Refused
from cellward.core.image import Trust
from cellward.core.image.entry import check_entry
from cellward.core.slots import ERASED, Hardware, Stage
from cellward.ports.verifier import Accepted, DeviceVerifier, check_question


class CoreVerifier:
    """The DeviceVerifier in Python: core.image on the slot's bytes."""

    def verify(
        self,
        image: bytes,
        hardware: Hardware,
        stage: Stage,
        keys: Sequence[bytes],
        counter: int,
        *,
        revoked: Collection[bytes] = (),
        what: str = "image",
    ) -> Accepted:
        """Raises as DeviceVerifier."""
        check_question(image, hardware, stage, counter, what)
        held = dict.fromkeys(key for key in keys if any(key))  # zeros: a slot that is not burned
        trust = Trust(
            keys=held,
            revoked=frozenset(revoked),
            counter=counter,
            hardware=(hardware.vendor_id, hardware.class_id(stage)),
        )
        slot = image.ljust(hardware.slot(stage).size, bytes([ERASED]))
        verified = images.verify(images.decode_slot(slot, what), trust, what)
        check_entry(verified.image, hardware, stage, what)
        found = verified.image
        return Accepted(
            found.version, found.counter or 0, found.payload_size, found.digest, verified.key.key_hash
        )


@dataclass(frozen=True)
class Pair:
    """Both of them: a verdict that only one gives is a defect of ours, and nothing goes out on it."""

    module: DeviceVerifier
    core: DeviceVerifier = field(default_factory=CoreVerifier)

    def verify(
        self,
        image: bytes,
        hardware: Hardware,
        stage: Stage,
        keys: Sequence[bytes],
        counter: int,
        *,
        revoked: Collection[bytes] = (),
        what: str = "image",
    ) -> Accepted:
        """Raises as DeviceVerifier, with core's words; PolicyRefused (publish.disagree)."""
        verdicts: list[Accepted | Refused] = []
        for verifier in (self.core, self.module):
            try:
                verdicts.append(
                    verifier.verify(image, hardware, stage, keys, counter, revoked=revoked, what=what)
                )
            except Refused as refusal:
                verdicts.append(refusal)
        ours, theirs = verdicts
        if _said(ours) != _said(theirs):
            raise PolicyRefused(
                Code.PUBLISH_DISAGREE,
                what,
                expected=f"one verdict of both verifiers; Python's is {_told(ours)}",
                found=f"the module's is {_told(theirs)}",
                advice="do not ship it: one of the two has a defect; please report it with the image",
            )
        if isinstance(ours, Refused):
            raise ours
        return ours


def _said(verdict: Accepted | Refused) -> Accepted | Code:
    return verdict.code if isinstance(verdict, Refused) else verdict


def _told(verdict: Accepted | Refused) -> str:
    if isinstance(verdict, Refused):
        return f"{verdict.code} (expected {verdict.expected}, found {verdict.found})"
    return f"good (version {verdict.version}, counter {verdict.counter}, digest {verdict.digest.hex()[:16]})"
