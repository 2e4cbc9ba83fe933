"""PEM with a few bytes of what is in it exchanged."""

import base64


def edited(pem: bytes, old: bytes, new: bytes) -> bytes:
    """The first `old` in the DER becomes `new`."""
    head, *lines, foot = pem.decode().splitlines()
    der = base64.b64decode("".join(lines))
    assert old in der
    body = base64.encodebytes(der.replace(old, new, 1)).decode()
    return f"{head}\n{body}{foot}\n".encode()


def of_another_version(certificate: bytes) -> bytes:
    """X.509 version 8, which there is not."""
    return edited(certificate, b"\xa0\3\2\1\2", b"\xa0\3\2\1\7")
