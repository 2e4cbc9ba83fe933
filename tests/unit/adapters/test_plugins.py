"""Signers of other schemes: what is installed is asked, and believed nothing."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from cellward import bootstrap
from cellward.adapters.plugins import GROUP
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, FormatRefused, Refused, TrustRefused, Unavailable
from cellward.core.keys import Algorithm
from tests.support.hsm import DIGEST, works
from tests.support.maker import Hand

HEAD = """
from pathlib import Path
from tests.support.maker import Hand
HAND = Hand("foreign")

class Wrong:
    uri, public_key = "wrong:", HAND.public_key

    def __init__(self, answer):
        self.answer = answer

    def sign(self, data):
        return self.answer(data)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Packages as pip leaves them: a module, and a dist-info folder with the entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    count = [0]

    def add(package: str, scheme: str, body: str, value: str = "opened") -> None:
        count[0] += 1
        module = f"{tmp_path.name}_{count[0]}".replace("-", "_").replace("[", "_").replace("]", "_")
        (tmp_path / f"{module}.py").write_text(HEAD + body)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{scheme} = {module}:{value}\n")

    return add


def refusal(home: Path, uri: str = "foreign:key") -> CellwardError:
    with pytest.raises(CellwardError) as error:
        bootstrap.signer(Home(home), uri).sign(DIGEST)
    assert "\n" not in str(error.value)
    return error.value


def test_an_installed_package_signs(tmp_path: Path, install: Callable[..., None]) -> None:
    install(
        "foreign",
        "foreign",
        "def opened(uri, home):\n    return Hand(f'{uri} {home.name} {type(home).__mro__[1].__name__}')",
    )
    signer = bootstrap.signer(Home(tmp_path), "Foreign:key")
    works(signer)
    assert signer.uri == "Foreign:key"
    found = signer._foreign  # type: ignore[attr-defined]
    assert found.name == f"Foreign:key {tmp_path.name} Path"


def test_none_is_installed(tmp_path: Path, install: Callable[..., None]) -> None:
    install("other", "other", "")
    error = refusal(tmp_path, "foreign://user:secret@host/key")
    assert isinstance(error, FormatRefused)
    assert error.code is Code.SIGNER_SCHEME
    assert "other: or pkcs11: or softkey:" in error.expected
    assert "secret" not in str(error)


@pytest.mark.parametrize("uri", ["", ":", "no scheme", "\n:", "\x1b[2J:", "x" * 5000])
def test_what_is_no_uri(tmp_path: Path, uri: str) -> None:
    error = refusal(tmp_path, uri)
    assert error.code is Code.SIGNER_SCHEME
    assert len(str(error)) < 300
    assert str(error).isprintable()


def test_two_packages_for_one_scheme(tmp_path: Path, install: Callable[..., None]) -> None:
    body = "def opened(uri, home):\n    return HAND"
    install("first", "foreign", body)
    install("second", "foreign", body)
    error = refusal(tmp_path)
    assert (type(error), error.code) == (Refused, Code.SIGNER_SCHEME)
    assert error.found == "first 1.2, second 1.2"


@pytest.mark.parametrize("scheme", ["pkcs11", "softkey"])
def test_the_built_in_schemes_cannot_be_taken_over(
    tmp_path: Path, install: Callable[..., None], scheme: str
) -> None:
    install("thief", scheme, "def opened(uri, home):\n    return HAND")
    assert refusal(tmp_path, f"{scheme}:token=x").code not in (Code.SIGNER_SCHEME, Code.SIGNER_FAILED)


@pytest.mark.parametrize(
    ("body", "value", "found"),
    [
        ("import no_such_module", "opened", "No module named 'no_such_module'"),
        ("def opened(:", "opened", "SyntaxError"),
        ("raise AssertionError('at import')", "opened", "at import"),
        ("", "absent", "AttributeError"),
        ("opened = 3", "opened", "TypeError"),
        ("def opened(uri):\n    return HAND", "opened", "TypeError"),
        ("def opened(uri, home):\n    return None", "opened", "AttributeError"),
        (
            "def opened(uri, home):\n    raise ConnectionRefusedError('nobody there')",
            "opened",
            "nobody there",
        ),
        ("def opened(uri, home):\n    raise ValueError('a\\n' * 9999)", "opened", "ValueError: a a"),
        ("class opened:\n    def __init__(self, uri, home): self.public_key = b'raw'", "opened", "bytes"),
    ],
)
def test_a_package_that_cannot_be_used(
    tmp_path: Path, install: Callable[..., None], body: str, value: str, found: str
) -> None:
    install("broken", "foreign", body, value)
    error = refusal(tmp_path)
    assert (type(error), error.code) == (Unavailable, Code.SIGNER_FAILED)
    assert error.subject == "signer of broken 1.2"
    assert found in error.found
    assert len(error.found) <= 200


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("lambda data: HAND.sign(bytes(32))", TrustRefused),
        ("lambda data: Hand('another').sign(data)", TrustRefused),
        ("lambda data: HAND.sign(data)[:-1]", TrustRefused),
        ("lambda data: HAND.sign(data) + b'0'", TrustRefused),
        ("lambda data: b''", TrustRefused),
        ("lambda data: None", TrustRefused),
        ("lambda data: 'text'", TrustRefused),
        ("lambda data: bytearray(HAND.sign(data))", TrustRefused),
        ("lambda data: 1 // 0", Unavailable),
        ("lambda data: (_ for _ in ()).throw(TimeoutError('gone'))", Unavailable),
    ],
)
def test_a_wrong_answer_does_not_get_out(
    tmp_path: Path, install: Callable[..., None], answer: str, kind: type[CellwardError]
) -> None:
    install("liar", "foreign", f"def opened(uri, home):\n    return Wrong({answer})")
    error = refusal(tmp_path)
    assert (type(error), error.code, error.subject) == (kind, Code.SIGNER_FAILED, "signer of liar 1.2")


def test_a_key_that_changes_later_is_not_believed(tmp_path: Path, install: Callable[..., None]) -> None:
    """What was shown when it was opened is what is compared."""
    install("turncoat", "foreign", "def opened(uri, home):\n    return Hand('turncoat')")
    signer = bootstrap.signer(Home(tmp_path), "foreign:key")
    foreign = signer._foreign  # type: ignore[attr-defined]
    foreign.key = Hand.of(Algorithm.P256).key
    with pytest.raises(TrustRefused) as error:
        signer.sign(DIGEST)
    assert error.value.code is Code.SIGNER_FAILED


def test_its_own_refusals_are_passed_on(tmp_path: Path, install: Callable[..., None]) -> None:
    install(
        "careful",
        "foreign",
        "from cellward.core.errors import Code, PolicyRefused\n"
        "def opened(uri, home):\n    raise PolicyRefused(Code.KEY_EXPORTABLE, 'its key')",
    )
    assert str(refusal(tmp_path)) == "[key.exportable] its key"


def test_a_bug_of_a_package_is_shown_as_one(tmp_path: Path, install: Callable[..., None]) -> None:
    """Documented: exceptions that derive from Exception alone are the package's to catch."""
    install("buggy", "foreign", "class Odd(Exception): ...\ndef opened(uri, home):\n    raise Odd('odd')")
    with pytest.raises(Exception, match="odd") as error:
        bootstrap.signer(Home(tmp_path), "foreign:key")
    assert type(error.value).__name__ == "Odd"


def test_the_group_is_the_documented_one() -> None:
    assert GROUP == "cellward.signers"
    assert EntryPoint("a", "b:c", GROUP).group == GROUP
