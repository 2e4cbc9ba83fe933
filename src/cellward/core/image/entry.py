"""Where a verified image would start: the boot chain's last look at it, after `verify`.

A payload begins with its vector table (Armv8-M: initial stack, then the entry). An image that is
authentic and starts elsewhere would be refused by every module, or brick those without a second bank.
"""

from cellward.core import wire
from cellward.core.errors import Code, FormatRefused
from cellward.core.image.layout import Image
from cellward.core.slots import Hardware, Stage

VECTOR_ALIGNMENT = 0x80  # of VTOR on Armv8-M
VECTORS_SIZE = 8
STACK_ALIGNMENT = 8  # AAPCS
THUMB = 1


def check_entry(image: Image, hardware: Hardware, stage: Stage, what: str = "image") -> None:
    """Raises FormatRefused (image.header) unless it starts inside itself, linked for its slot."""
    linked = hardware.active_base + hardware.slot(stage).offset + image.header_size
    if image.payload_size < VECTORS_SIZE or linked % VECTOR_ALIGNMENT:
        raise _refused(what, f"vectors at a multiple of {VECTOR_ALIGNMENT} bytes", f"0x{linked:08x}")
    reader = wire.Reader(image.payload, what)
    stack, entry = reader.u32(), reader.u32()
    if not entry & THUMB or not 0 <= (entry & ~THUMB) - linked < image.payload_size:
        end = linked + image.payload_size
        raise _refused(what, f"a Thumb entry from 0x{linked:08x} to 0x{end:08x}", f"0x{entry:08x}")
    first, last = hardware.ram_base, hardware.ram_base + hardware.ram_size
    if not first < stack <= last or stack % STACK_ALIGNMENT:
        raise _refused(what, f"a stack in the RAM, 0x{first:08x} to 0x{last:08x}", f"0x{stack:08x}")


def _refused(what: str, expected: str, found: str) -> FormatRefused:
    return FormatRefused(Code.IMAGE_HEADER, what, expected=expected, found=found)
