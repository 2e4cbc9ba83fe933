"""What a routine executes, where it branches, what memory it touches: recorded once, compared ever after."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import unicorn as untyped_unicorn
from numpy.typing import NDArray

from cellward.core.errors import Code, Unavailable
from cellward.lab.routines import Routines

unicorn: Any = untyped_unicorn
WINDOWS, SITES = 256, 64  # as in tracer.c
COMPILER_SECONDS = 60


class Channel(IntEnum):
    """The first three are events with an address; a verdict rests on them. The last is what a power
    probe would see of the values (Hamming weight of all that is loaded and stored): information."""

    STEPS = 0
    BRANCHES = 1
    MEMORY = 2
    VALUES = 3


STREAMS = (Channel.STEPS, Channel.BRANCHES, Channel.MEMORY)


class _Stream(ctypes.Structure):
    _fields_ = (
        ("reference", ctypes.POINTER(ctypes.c_uint32)),
        *((name, ctypes.c_uint32) for name in ("capacity", "recorded", "count", "differing")),
    )


class _Site(ctypes.Structure):
    _fields_ = (("stream", ctypes.c_uint32), ("at", ctypes.c_uint32))


class _Tracer(ctypes.Structure):
    _fields_ = (
        ("streams", _Stream * len(STREAMS)),
        *(
            (name, ctypes.c_uint32)
            for name in ("recording", "failed", "step", "next", "diverged", "sites_count")
        ),
        ("sites", _Site * SITES),
        ("windows", (ctypes.c_int64 * WINDOWS) * len(Channel)),
    )


def compile_tracer(folder: Path) -> Path:
    """tracer.c for this machine. Raises Unavailable (config) without a C compiler."""
    compiler = shutil.which("cc")
    made = folder / "tracer.so"
    if compiler is None:
        raise _no_compiler("none")
    with as_file(files("cellward.lab.leakage") / "tracer.c") as source:
        done = subprocess.run(
            [compiler, "-std=c11", "-O2", "-shared", "-fPIC", "-o", str(made), str(source)],
            capture_output=True,
            text=True,
            timeout=COMPILER_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise _no_compiler((done.stderr.strip().splitlines() or ["it failed"])[-1])
    return made


def _no_compiler(found: str) -> Unavailable:
    return Unavailable(
        Code.CONFIG,
        "the laboratory's tracer",
        expected="a C compiler for this machine, as `cc`",
        found=found,
        advice="install gcc",
    )


@dataclass(frozen=True)
class Trace:
    """`counts` and `differing` for each of STREAMS; `windows`: a row for each Channel."""

    counts: tuple[int, ...]
    differing: tuple[int, ...]
    windows: NDArray[np.int64]


class Tracer:
    """Hooks in `routines`, which must not have run yet: Unicorn ignores what comes later.

    One recording, then any number of traces.
    """

    def __init__(self, library: Path, routines: Routines) -> None:
        self._library = ctypes.CDLL(str(library))
        self._tracer = _Tracer()
        self._it = ctypes.byref(self._tracer)
        self._hooks = [
            self._hook(routines.uc, unicorn.UC_HOOK_CODE, self._library.tracer_step),
            self._hook(
                routines.uc,
                unicorn.UC_HOOK_MEM_READ_AFTER | unicorn.UC_HOOK_MEM_WRITE,
                self._library.tracer_access,
            ),
        ]

    def _hook(self, uc: Any, kind: int, function: Any) -> Any:
        from unicorn.unicorn_py3.unicorn import uclib  # the binding's own hooks call Python

        handle = ctypes.c_size_t()
        address = ctypes.cast(function, ctypes.c_void_p)
        whole = ctypes.c_uint64(1), ctypes.c_uint64(0)  # begin above end: everywhere
        status = uclib.uc_hook_add(uc._uch, ctypes.byref(handle), kind, address, self._it, *whole)  # noqa: SLF001
        if status != unicorn.UC_ERR_OK:
            raise unicorn.UcError(status)
        return handle

    def close(self) -> None:
        self._library.tracer_free(self._it)

    def record(self) -> None:
        """What runs from here on is the reference."""
        self._begin(1)

    def compare(self) -> None:
        """What runs from here on is a trace."""
        self._begin(0)

    def _begin(self, recording: int) -> None:
        self._library.tracer_begin(self._it, ctypes.c_uint32(recording))

    @property
    def trace(self) -> Trace:
        """Of the run since `compare`. Raises Unavailable (module.fault) when the memory was too small
        for the reference."""
        if self._tracer.failed:
            raise Unavailable(
                Code.MODULE_FAULT, "the tracer", expected="memory for a trace", found="none left"
            )
        streams = self._tracer.streams
        counts = tuple(stream.count for stream in streams)
        # What the reference has and this run has not is different, too.
        differing = tuple(s.differing + max(s.recorded - s.count, 0) for s in streams)
        return Trace(counts, differing, np.array(self._tracer.windows, dtype=np.int64))

    @property
    def sites(self) -> Sequence[tuple[Channel, int]]:
        """Instructions at which traces came apart from the reference."""
        return [(Channel(site.stream), site.at) for site in self._tracer.sites[: self._tracer.sites_count]]

    def reference(self, stream: Channel) -> NDArray[np.uint32]:
        """The addresses of what was recorded."""
        it = self._tracer.streams[stream]
        if it.recorded == 0:
            return np.zeros(0, dtype=np.uint32)
        return np.ctypeslib.as_array(it.reference, shape=(it.recorded,)).copy()
