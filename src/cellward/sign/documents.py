"""Documents signed by keys in tokens."""

from cellward.core.envelope import Envelope
from cellward.ports.signer import Signer


def sign_document(envelope: Envelope, signer: Signer) -> Envelope:
    """The envelope with this signer's signature, which is verified first. Raises Unavailable (token.*)."""
    key = signer.public_key
    return envelope.signed_by(key, signer.sign(key.to_sign(envelope.pae)))
