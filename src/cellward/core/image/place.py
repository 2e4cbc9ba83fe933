"""Which hardware and stage an image says it is for."""

from cellward.core.errors import Code, TrustRefused
from cellward.core.image.layout import Image
from cellward.core.slots import HARDWARE, Hardware, Stage


def place(decoded: Image, what: str = "image") -> tuple[Hardware, Stage]:
    """Raises TrustRefused (image.hardware) for vendor and class of none that is known."""
    for hardware in HARDWARE.values():
        for stage in Stage:
            if decoded.hardware == (hardware.vendor_id, hardware.class_id(stage)):
                return hardware, stage
    _, klass = decoded.hardware
    raise TrustRefused(
        Code.IMAGE_HARDWARE,
        what,
        expected=f"vendor and class of {', '.join(HARDWARE)}, loader or app",
        found=f"class {klass.hex()[:8]}" if klass else "no class",
    )
