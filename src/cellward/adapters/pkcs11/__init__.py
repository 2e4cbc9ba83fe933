"""PKCS#11 through python-pkcs11: signing keys that stay in their token."""

from cellward.adapters.pkcs11.lane import Module
from cellward.adapters.pkcs11.modules import module_path
from cellward.adapters.pkcs11.pin import pin_source
from cellward.adapters.pkcs11.softhsm import SoftHsm
from cellward.adapters.pkcs11.token import Token, TokenKeyStore, TokenSigner

__all__ = ["Module", "SoftHsm", "Token", "TokenKeyStore", "TokenSigner", "module_path", "pin_source"]
