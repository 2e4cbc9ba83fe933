"""A wheel is somebody's file: whatever was damaged in it is refused, by each of zip's compressions."""

import io
import zipfile
from contextlib import suppress

import pytest

from cellward.adapters.package import of_wheel
from cellward.core.errors import Code, FormatRefused


def wheel(compression: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.writestr("cellward/a.py", b"abc" * 500)
    return made.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_wheel_is_refused(compression: int) -> None:
    good = wheel(compression)
    assert set(of_wheel(good, "wheel")) == {"cellward/a.py"}
    for at in range(len(good)):
        damaged = good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        with suppress(FormatRefused):  # dates and the like may be anything
            of_wheel(damaged, "wheel")
    with pytest.raises(FormatRefused) as caught:
        of_wheel(good[: len(good) // 2], "wheel")
    assert caught.value.code is Code.ATTEST_FORMAT
