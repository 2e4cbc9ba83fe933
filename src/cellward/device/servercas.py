"""The server CAs that this controller accepts: a newer statement is kept, whichever way it came."""

from tuf.api.metadata import Root

from cellward.core import serverca
from cellward.core.serverca import ServerCas
from cellward.device.memory import Memory


def is_newer(memory: Memory, version: int) -> bool:
    """Than what is held: a question about what is worth asking for, not a verification."""
    if version == 0:
        return False
    held = memory.server_cas()
    return version > held.version if held else version >= memory.factory().server_ca_version


def take(memory: Memory, root: Root, data: bytes) -> ServerCas:
    """The statement, which is kept from now on; `root`: the trusted one of the Image repository.

    Raises FormatRefused (metadata.*, document.kind, tls.server_ca), TrustRefused (document.signature,
    metadata.version); what was held stays then.
    """
    new = serverca.verify(data, root)
    taken = serverca.succeed(memory.server_cas(), memory.factory().server_ca_version, new)
    memory.set_server_cas(taken)
    return taken
