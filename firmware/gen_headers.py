#!/usr/bin/env python3
"""Write include/generated/* from the Python that defines the formats; `--check` only compares.

    PYTHONPATH=src python3 firmware/gen_headers.py [--check]

One number has one home: the C side never states a word, an offset or a state of its own.
"""

import argparse
import functools
import hashlib
import itertools
import operator
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path

from cellward.core import banks, errors, image, keys, slots
from cellward.ports import updatelink
from cellward.vbms import registers

GENERATED = Path(__file__).parent / "include" / "generated"


def _define(name: str, value: int, width: int = 8) -> str:
    return f"#define {name} 0x{value:0{width}x}u"


def _bytes(values: bytes) -> str:
    return ", ".join(f"0x{value:02x}" for value in values)


def _file(source: str, lines: Iterable[str]) -> str:
    head = [
        f"/* Generated from {source} by firmware/gen_headers.py: change it there. */",
        "#pragma once",
        "",
    ]
    return "\n".join([*head, *lines]) + "\n"


def status_header() -> str:
    """Status words: at least 10 bits apart from each other, from 0 and from all ones."""
    lines = [_define("STATUS_OK", errors.STATUS_OK)]
    lines += [_define(f"STATUS_{code.name}", word) for code, word in errors.STATUS_WORDS.items()]
    names = [("STATUS_OK", "ok"), *((f"STATUS_{c.name}", c.value) for c in errors.STATUS_WORDS)]
    lines += ["", "/* For a verifier with a screen: X(word, code). */", "#define STATUS_NAMES(X) \\"]
    lines.append(" \\\n".join(f'    X({word}, "{name}")' for word, name in names))
    return _file("src/cellward/core/errors.py", lines)


def slots_header() -> str:
    """The geometry of bms-m33 and the map of the fuses. Vendor and class are read from the fuses."""
    hardware = slots.BMS_M33
    lines = [
        _define("FLASH_PAGE_SIZE", hardware.page_size),
        _define("BANK_SIZE", hardware.bank_size),
        _define("HEADER_SIZE", hardware.header_size),
    ]
    for name in ("loader", "app", "trailer"):
        region: slots.Region = getattr(hardware, name)
        lines += [
            _define(f"{name.upper()}_OFFSET", region.offset),
            _define(f"{name.upper()}_SIZE", region.size),
        ]
    lines += [
        "",
        _define("WRITE_SIZE", slots.WRITE_SIZE, 2),
        _define("COPY_DONE_FROM_END", slots.COPY_DONE_FROM_END, 2),
        _define("IMAGE_OK_FROM_END", slots.IMAGE_OK_FROM_END, 2),
        _define("MAGIC_FROM_END", slots.MAGIC_FROM_END, 2),
        _define("FLAG_SET", slots.FLAG_SET, 2),
        _define("FLAG_ERASED", slots.ERASED, 2),
        f"#define TRAILER_MAGIC {{{_bytes(slots.TRAILER_MAGIC)}}}",
        "",
    ]
    lines += [f"#define MARK_{mark.name} {mark.value}u" for mark in slots.Mark]
    lines += [f"#define MARK_COUNT {len(slots.Mark)}u", ""]
    fuses = {n: f for n, f in vars(slots).items() if isinstance(f, slots.Fuse)}
    for name, fuse in fuses.items():
        lines += [_define(f"{name}_OFFSET", fuse.offset, 3), _define(f"{name}_SIZE", fuse.size, 2)]
    lines += [
        f"#define OTP_SLOT_KEY_COUNT {slots.OTP_SLOT_KEY_COUNT}u",
        f"#define COUNTER_MAX {slots.COUNTER_MAX}u",
        f"#define BOOTS_PER_EPOCH {slots.BOOTS_PER_EPOCH}u",
        "",
    ]
    for number, state in enumerate(slots.Lifecycle):
        lines.append(f"#define LIFECYCLE_{state.name} {number}u")
        lines.append(_define(f"LIFECYCLE_{state.name}_FUSES", state.fuses))
    lines += [
        "",
        f"#define DATA_BANK {slots.DATA_BANK}u",
        _define("DATA_PAGE_SIZE", slots.DATA_PAGE_SIZE),
        _define("DATA_SIZE", slots.DATA_SIZE),
    ]
    lines += [f"#define DATA_PAGE_{page.name} {page.value}u" for page in slots.DataPage]
    return _file("src/cellward/core/slots.py", lines)


NO_BANK = 0xFF


def banks_header() -> str:
    """The state machine of core.banks as tables."""
    marks, states, newer = list(slots.Mark), list(banks.State), list(banks.Newer)
    lines = ["#include <stdint.h>", "", f"#define BANK_COUNT {len(slots.BANKS)}u"]
    lines += [f"#define STATE_{state.name} {state.value}u" for state in states]
    lines += [f"#define ACTION_{action.name} {action.value}u" for action in banks.Action]
    lines += [f"#define NEWER_{which.name} {which.value}u" for which in newer]
    lines += [f"#define NO_BANK 0x{NO_BANK:02x}u", "", "/* [magic][copy_done][image_ok] */"]
    lines.append(f"static const uint8_t BANK_STATES[{len(marks)}][{len(marks)}][{len(marks)}] = {{")
    for magic in marks:
        rows = (", ".join(f"{banks.STATES[magic, c, i].value}" for i in marks) for c in marks)
        lines.append("    {" + ", ".join(f"{{{row}}}" for row in rows) + "},")
    lines += ["};", "", f"static const uint8_t BANK_ACTIONS[{len(states)}] = {{"]
    lines.append("    " + ", ".join(str(banks.ACTIONS[state].value) for state in states))
    lines += ["};", "", "/* [state of a][state of b][newer]: banks to try, best first */"]
    lines.append(f"static const uint8_t BANK_ORDER[{len(states)}][{len(states)}][{len(newer)}][2] = {{")
    for a in states:
        lines.append("    {")
        lines += ["        {" + ", ".join(_order(a, b, n) for n in newer) + "}," for b in states]
        lines.append("    },")
    lines.append("};")
    return _file("src/cellward/core/banks.py", lines)


def _order(a: banks.State, b: banks.State, newer: banks.Newer) -> str:
    order = [*banks.ORDER[a, b, newer], NO_BANK, NO_BANK][:2]
    return "{" + ", ".join("NO_BANK" if bank == NO_BANK else str(bank) for bank in order) + "}"


_MAP = (
    "ROM_BASE",
    "ROM_SIZE",
    "ACTIVE_BASE",
    "INACTIVE_BASE",
    "RAM_BASE",
    "RAM_SIZE",
    "OTP_BASE",
    "DATA_BASE",
    "LINK_RX_BASE",
    "LINK_TX_BASE",
    "LINK_BUFFER_SIZE",
    "CELLS",
    "TEMPERATURES",
)
_WORDS = (
    "RESET_KEY",
    "RETAIN_REFUSED",
    "RETAIN_UPDATE",
    "TAMPER_KEY",
    "FLASH_KEY",
    "OTP_KEY",
    "WATCHDOG_KEY",
    "FRONT_END_ID_VALUE",
    "CONTACTOR_CLOSE",
    "CONTACTOR_OPEN",
)
_BLOCKS: tuple[tuple[str, type[IntEnum], int], ...] = (
    ("SYS", registers.Sys, registers.SYS_BASE),
    ("FLASH", registers.Flash, registers.FLASH_BASE),
    ("OTP_CTRL", registers.OtpCtrl, registers.OTP_CTRL_BASE),
    ("WATCHDOG", registers.Watchdog, registers.WATCHDOG_BASE),
    ("PACK", registers.Pack, registers.PACK_BASE),
    ("TAMPER", registers.Tamper, registers.TAMPER_BASE),
    ("LINK", registers.Link, registers.LINK_BASE),
)
_VALUES: tuple[tuple[str, type[IntEnum]], ...] = (
    ("RESET_CAUSE", registers.ResetCause),
    ("WHERE", registers.Where),
    ("MILESTONE", registers.Milestone),
    ("FLASH_COMMAND", registers.FlashCommand),
    ("FLASH_PROTECT", registers.FlashProtect),
    ("TAMPER_SOURCE", registers.TamperSource),
)


def registers_header() -> str:
    """The memory map; every register as its whole address, REG_<block>_<name>."""
    lines = [_define(name, getattr(registers, name)) for name in (*_MAP, *_WORDS)]
    lines.append(_define("REG_TRNG", registers.TRNG_BASE))
    for name, block, base in _BLOCKS:
        lines += ["", *(_define(f"REG_{name}_{reg.name}", base + reg.value) for reg in block)]
    for name, values in _VALUES:
        lines += ["", *(f"#define {name}_{value.name} {value.value}u" for value in values)]
    return _file("src/cellward/vbms/registers.py", lines)


def image_format_header() -> str:
    """MCUboot's numbers, the TLV allow-list and the strictness that both decoders share."""
    lines = [
        _define("IMAGE_MAGIC", image.MAGIC),
        _define("IMAGE_TLV_MAGIC", image.TLV_MAGIC, 4),
        _define("IMAGE_TLV_PROTECTED_MAGIC", image.TLV_PROTECTED_MAGIC, 4),
        _define("IMAGE_HEADER_SIZE", image.HEADER_SIZE, 2),
        _define("IMAGE_MAX_HEADER_SIZE", image.MAX_HEADER_SIZE, 4),
        _define("IMAGE_FLAG_ENC_AES128", image.Flag.ENC_AES128.value),
        _define("IMAGE_ACCEPTED_FLAGS", image.ACCEPTED_FLAGS.value),
        _define("IMAGE_TLV_INFO_SIZE", image.TLV_INFO_SIZE, 2),
        _define("IMAGE_TLV_HEADER_SIZE", image.TLV_HEADER_SIZE, 2),
        "",
    ]
    lines += [_define(f"TLV_{kind.name}", kind.value, 2) for kind in image.Tlv]
    allowed = sorted(image.UNPROTECTED_TYPES)
    lines += [
        "",
        "/* MCUboot's allow-list: what may stand outside the signed area, and only there. */",
        f"#define TLV_UNPROTECTED_TYPES {{{_bytes(bytes(allowed))}}}",
        f"#define P256_SPKI_SIZE {keys.P256_SPKI_SIZE}u",
        f"#define P256_SPKI_PREFIX_SIZE {len(keys.P256_SPKI_PREFIX)}u",
        f"#define P256_SPKI_PREFIX {{{_bytes(keys.P256_SPKI_PREFIX)}}}",
        f"#define RSA3072_PKCS1_SIZE {keys.RSA3072_PKCS1_SIZE}u",
        f"#define RSA3072_PKCS1_PREFIX_SIZE {len(keys.RSA3072_PKCS1_PREFIX)}u",
        f"#define RSA3072_PKCS1_PREFIX {{{_bytes(keys.RSA3072_PKCS1_PREFIX)}}}",
        f"#define RSA3072_PKCS1_SUFFIX_SIZE {len(keys.RSA3072_PKCS1_SUFFIX)}u",
        f"#define RSA3072_PKCS1_SUFFIX {{{_bytes(keys.RSA3072_PKCS1_SUFFIX)}}}",
        f"#define RSA3072_SIGNATURE_SIZE {keys.RSA3072_SIGNATURE_SIZE}u",
        f"#define DIGEST_SIZE {keys.DIGEST_SIZE}u",
    ]
    return _file("src/cellward/core/image and keys.py", lines)


def updatelink_header() -> str:
    names = [
        name
        for name, value in vars(updatelink).items()
        if name.isupper() and name != "STATUS_OK" and isinstance(value, int)
    ]
    lines = [f"#define LINK_{name} {getattr(updatelink, name)}u" for name in names]
    lines += ["", *(_define(f"REQUEST_{request.name}", request.value, 2) for request in updatelink.Request)]
    return _file("src/cellward/ports/updatelink.py", lines)


# Steps 2 to 7 of verification. What only a board asks comes last: the entry, and the bank that is mapped.
_UNLOCK_STEPS = ("DIGEST", "KEY", "SIGNATURE", "COUNTER", "HARDWARE")
_PASSES = 2


def _share(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"cellward unlock {name}".encode()).digest()[:4], "little")


def unlock_header() -> str:
    """What each step adds to the unlock word, and the rest that makes it the hardware's EXEC word of
    the stage that was verified (the entry's share is by stage): no single constant of the firmware,
    nor the sum of any part of them, is that word."""
    table = [[_share(f"{step} {number}") for step in _UNLOCK_STEPS] for number in range(_PASSES)]
    bank, loader = _share("BANK"), _share("ENTRY")
    app = loader ^ registers.EXEC_LOADER_KEY ^ registers.EXEC_APP_KEY
    total = functools.reduce(operator.xor, [*itertools.chain(*table), bank, loader])
    lines = [f"#define UNLOCK_{step} {number}u" for number, step in enumerate(_UNLOCK_STEPS)]
    lines += [f"#define UNLOCK_STEPS {len(_UNLOCK_STEPS)}u", ""]
    rows = ["{" + ", ".join(f"0x{share:08x}u" for share in row) + "}" for row in table]
    lines += ["#define UNLOCK_SHARES \\", "    {" + ", \\\n     ".join(rows) + "}"]
    lines += [
        "",
        _define("UNLOCK_SHARE_LOADER", loader),
        _define("UNLOCK_SHARE_APP", app),
        _define("UNLOCK_SHARE_BANK", bank),
        _define("UNLOCK_REST", registers.EXEC_LOADER_KEY ^ total),
    ]
    return _file("firmware/gen_headers.py", lines)


def memory_script() -> str:
    """The same addresses for the linker, which knows no suffix `u`."""
    hardware, stage = slots.BMS_M33, slots.Stage
    values = {name: getattr(registers, name) for name in ("ROM_BASE", "ROM_SIZE", "RAM_BASE", "RAM_SIZE")}
    for which in stage:
        values[f"{which.name}_BASE"] = hardware.link_address(which)
        values[f"{which.name}_SIZE"] = hardware.slot(which).size - hardware.header_size
    head = "/* Generated from core/slots.py and vbms/registers.py by firmware/gen_headers.py. */\n"
    return head + "".join(f"{name} = 0x{value:08x};\n" for name, value in values.items())


HEADERS: dict[str, Callable[[], str]] = {
    "status.h": status_header,
    "slots.h": slots_header,
    "banks.h": banks_header,
    "registers.h": registers_header,
    "image_format.h": image_format_header,
    "updatelink.h": updatelink_header,
    "unlock.h": unlock_header,
    "memory.ld": memory_script,
}


def stale(directory: Path) -> list[str]:
    """Names of the headers that are missing or differ from what Python says."""
    return [
        name
        for name, text in HEADERS.items()
        if not (directory / name).is_file() or (directory / name).read_text() != text()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="generate firmware/include/generated")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 naming the stale files")
    parser.add_argument("--out", type=Path, default=GENERATED, help="folder of the headers")
    args = parser.parse_args(argv)
    names = stale(args.out)
    if args.check:
        for name in names:
            print(f"stale: {args.out / name}: run firmware/gen_headers.py", file=sys.stderr)
        return 1 if names else 0
    args.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        (args.out / name).write_text(HEADERS[name]())
        print(f"wrote {args.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
