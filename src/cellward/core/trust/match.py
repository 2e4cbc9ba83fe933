"""Director and Image repository must agree: Uptane 2.1.0 section 5.4.4.2 step 10, and the download.

10.1    The Image repository lists an image with exactly the Director's file name, for the ECU's hardware;
        perhaps in a delegated role (5.4.4.7).
10.2.1  Length and hashes are the same.
10.2.2  The fields that SHALL match are the same: hardware ids, stage, version, release counter.
10.2.3  The release counter is not below the previous one: what the ECU has installed (G10), and what
        the previous Targets said of the same file (in `update_targets`).

Then the image itself (5.4.3.4): the signed length, and every listed hash.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tuf.api.metadata import TargetFile

from cellward.core.errors import Code, TrustRefused
from cellward.core.metadata import Assignment, Target, target_of
from cellward.core.trust.delegations import Wanted, search_below
from cellward.core.trust.state import TrustedRepository, hashes
from cellward.core.trust.targets import current_targets


@dataclass(frozen=True)
class Order:
    """Verified by both repositories: this ECU shall run this image. `wrapped_key` is the Director's
    alone and only the module can judge it; empty where the image is not encrypted."""

    ecu_id: str
    target: Target
    wrapped_key: bytes = field(default=b"", repr=False)


def wanted(assignments: Iterable[Assignment], image: TrustedRepository, now: datetime) -> Wanted | None:
    """The next file of a delegated role that `match` will need, for `update_delegated`; None: it has all.

    Raises as `search`.
    """
    top = current_targets(image, now)
    for assignment in assignments:
        for hardware in _hardware(assignment):
            found = search_below(top, image, assignment.target.name, now, hardware)
            if isinstance(found, Wanted):
                return found
    return None


def match(
    assignments: Iterable[Assignment],
    image: TrustedRepository,
    installed: Mapping[str, int],
    now: datetime,
) -> tuple[Order, ...]:
    """One Order for each ECU that the Director names (`check_director_targets`), if all of them match.

    `installed`: ECU id to the release counter that it runs, for every ECU that has one.
    Raises FormatRefused; TrustRefused (as `search`; target.missing, target.mismatch, target.counter).
    """
    orders = []
    top = current_targets(image, now)
    for assignment in assignments:
        name = assignment.target.name
        targets = {
            hardware: _check_same(
                assignment.target, _image_target(search_below(top, image, name, now, hardware), image, name)
            )
            for hardware in _hardware(assignment)
        }
        wrapped = dict(assignment.wrapped_keys)
        for ecu in assignment.ecu_identifiers:
            order = Order(ecu.ecu_id, targets[ecu.hardware_id], wrapped.get(ecu.ecu_id, b""))
            orders.append(_check_counter(order, installed.get(ecu.ecu_id, 0)))
    return tuple(orders)


def _hardware(assignment: Assignment) -> list[str]:
    """Delegations may be for some hardware only, so each is asked for."""
    return sorted({ecu.hardware_id for ecu in assignment.ecu_identifiers})


def _image_target(found: TargetFile | Wanted | None, image: TrustedRepository, name: str) -> Target:
    if isinstance(found, Wanted):
        raise TrustRefused(
            Code.METADATA_MISSING,
            image.subject(found.role),
            expected=f"version {found.version}, which target {name} is delegated to",
            found="none",
        )
    if found is None:  # 10.1
        raise TrustRefused(
            Code.TARGET_MISSING,
            f"target {name}",
            expected="an image of this name in the Image repository",
            found="none",
            advice="the Director orders what the maker has not published",
        )
    return target_of(found)


_MUST_MATCH = (
    "length",  # 10.2.1
    "sha256",  # 10.2.1
    "hardware_ids",  # 10.2.2
    "stage",  # 10.2.2
    "version",  # 10.2.2
    "release_counter",  # 10.2.2
)


def _check_same(director: Target, image: Target) -> Target:
    for name in _MUST_MATCH:
        ordered, published = getattr(director, name), getattr(image, name)
        if ordered != published:
            raise TrustRefused(
                Code.TARGET_MISMATCH,
                f"target {director.name} {name}",
                expected=f"{published} (Image repository)",
                found=f"{ordered} (Director)",
            )
    return image


def _check_counter(order: Order, installed: int) -> Order:
    if order.target.release_counter < installed:  # 10.2.3
        raise TrustRefused(
            Code.TARGET_COUNTER,
            f"target {order.target.name} for ECU {order.ecu_id}",
            expected=f"a release counter from {installed}",
            found=f"{order.target.release_counter}",
        )
    return order


def verify_download(target: Target, data: bytes) -> bytes:
    """The image, if it has the signed length and hash (G9).

    Raises TrustRefused (target.length, target.hash).
    """
    verify_digest(target, len(data), hashlib.sha256(data).hexdigest())
    return data


def verify_file(file: TargetFile, data: bytes) -> bytes:
    """The same for a target as plain TUF lists it: every hash that is known here, of which there is one."""
    subject = f"target {file.path[:80]!r}"
    if len(data) != file.length:
        raise TrustRefused(
            Code.TARGET_LENGTH, subject, expected=f"{file.length} bytes", found=f"{len(data)} bytes"
        )
    if (found := hashes(data, file.hashes)) != {name: file.hashes[name] for name in found} or not found:
        raise TrustRefused(Code.TARGET_HASH, subject, expected=f"{file.hashes}"[:400], found=f"{found}")
    return data


def verify_digest(target: Target, length: int, sha256: str) -> Target:
    """The same for bytes that were counted and hashed while they were written; `sha256` in hex."""
    if length != target.length:
        raise TrustRefused(
            Code.TARGET_LENGTH,
            f"target {target.name}",
            expected=f"{target.length} bytes",
            found=f"{length} bytes",
        )
    if sha256 != target.sha256:
        raise TrustRefused(
            Code.TARGET_HASH, f"target {target.name}", expected=f"SHA-256 {target.sha256}", found=sha256
        )
    return target
