"""Keys whose private half anybody can look up: refused for signing and for trust.

A key of a demo, a test vector or an example in a standard is sound in form: nothing else would notice it.
"""

from cellward.core.errors import Code, TrustRefused
from cellward.core.published_keys import TABLE


def where(fingerprint: str) -> str | None:
    """Where the private half of the key is published, as far as is known here."""
    mark = f"\n{fingerprint} "
    at = TABLE.find(mark)
    if at < 0:
        return None
    name = TABLE[at + len(mark) :].partition("\n")[0]
    title = TABLE[:at].rpartition("\n[")[2].partition("]")[0]
    return f"{title}: {name}"


def refuse(fingerprint: str, subject: str) -> str:
    """The fingerprint, unless its key is a published one. Raises TrustRefused (key.published)."""
    found = where(fingerprint)
    if found is not None:
        raise TrustRefused(
            Code.KEY_PUBLISHED,
            subject,
            expected="a key whose private half is nobody else's",
            found=f"{fingerprint[:16]}, published ({found})",
            advice="make a new one with `cellward keys new`",
        )
    return fingerprint
