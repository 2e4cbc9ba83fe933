"""The reference of image_sign.py: the same PKCS#11 signature over the same bytes, and nothing else.

Usage: _pkcs11_signature.py FILE. CELLWARD_PKCS11_MODULE, SOFTHSM2_CONF and CELLWARD_PIN are set.
"""

import hashlib
import os
import sys
from pathlib import Path

import pkcs11

digest = hashlib.sha256(Path(sys.argv[1]).read_bytes()).digest()
token = pkcs11.lib(os.environ["CELLWARD_PKCS11_MODULE"]).get_token(token_label="cellward")  # noqa: S106
with token.open(user_pin=os.environ["CELLWARD_PIN"]) as session:
    key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="firmware")
    assert isinstance(key, pkcs11.SignMixin)
    sys.stdout.buffer.write(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))
