"""Whose signature makes an image, a release, an approval, a calibration. Every use is logged."""

from typing import TYPE_CHECKING

from cellward.bootstrap.keys import default_token, key_store, keyring, role_signer, signer
from cellward.bootstrap.log import logged
from cellward.config import Home
from cellward.ports.signer import Role, Signer

if TYPE_CHECKING:
    from cellward.core.keys import KeyStage


def firmware_signer(
    home: Home, key: str | None, subject: str = "firmware", stage: "KeyStage | None" = None
) -> Signer:
    """A firmware key by its name or URI; without either, the role's own. Every use is logged.

    `stage`: what the image is for; production where there is a key register. Raises register.*.
    """
    ring = keyring(home)
    if key is not None and ":" in key:
        found = ring.checked(signer(home, key), Role.FIRMWARE, stage)
    elif key is None:
        found = ring.default(key_store(home, default_token()), Role.FIRMWARE, stage)
    else:
        found = ring.named(key_store(home, default_token()), Role.FIRMWARE, key, stage)
    return logged(home, found, Role.FIRMWARE, "image", subject)


def release_signer(home: Home, key: str | None, kind: str, subject: str) -> Signer:
    """A key by its PKCS#11 URI, or the token's own for releases or approvals. Every use is logged."""
    role = Role.APPROVAL if kind == "approval" else Role.RELEASE
    found = keyring(home).checked(signer(home, key), role) if key else role_signer(home, role)
    return logged(home, found, "approver" if kind == "approval" else Role.RELEASE, kind, subject)


def calibration_signer(home: Home, key: str | None, subject: str) -> Signer:
    """A key by its PKCS#11 URI, or the calibration role's own. Every use is logged."""
    ring = keyring(home)
    found = ring.checked(signer(home, key), Role.CALIBRATION) if key else role_signer(home, Role.CALIBRATION)
    return logged(home, found, Role.CALIBRATION, "calibration", subject)


def policy_signer(home: Home, key: str | None, subject: str) -> Signer:
    """A policy key by its PKCS#11 URI, or the policy role's own. Every use is logged."""
    ring = keyring(home)
    found = ring.checked(signer(home, key), Role.POLICY) if key else role_signer(home, Role.POLICY)
    return logged(home, found, Role.POLICY, "policy", subject)
