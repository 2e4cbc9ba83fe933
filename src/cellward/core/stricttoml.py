"""Files that people write: TOML, bounded."""

import tomllib
from typing import Any

from cellward.core.errors import Code, FormatRefused


def decode(data: bytes, what: str, limit: int) -> dict[str, Any]:
    """The table that `data` is. Raises FormatRefused (config.invalid)."""
    if len(data) > limit:
        raise FormatRefused(Code.CONFIG, what, expected=f"at most {limit} bytes", found=f"{len(data)}")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatRefused(Code.CONFIG, what, expected="TOML in UTF-8", found=str(error)[:120]) from error
