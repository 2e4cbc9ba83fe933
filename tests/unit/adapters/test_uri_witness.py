"""A URI means the same key to p11tool (GnuTLS, libp11-kit) and to us, in a SoftHSM with three tokens."""

import os
import shutil
import subprocess

import pytest

from cellward import bootstrap
from cellward.adapters.pkcs11 import lane, softhsm
from cellward.adapters.pkcs11.vendor import pkcs11
from cellward.config import Home
from cellward.core.errors import CellwardError, Code, Refused, Unavailable
from cellward.core.keys import Algorithm, PublicKey
from cellward.ports.signer import Signer
from tests.support import hsm
from tests.support.hsm import works

ODD = "my key; 100% ünï/?#&=|"
LABELS = ("firmware", "root", ODD)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, ...]:
    """Three tokens in the store of the first, all with its PIN; the first two have one label."""
    first = hsm.make_home(tmp_path_factory.mktemp("a"), *LABELS)
    others = []
    for index in range(2):
        folder = tmp_path_factory.mktemp(f"b{index}")
        shutil.copy(first.pin, folder / "pin")
        others.append(hsm.make_home(folder, "firmware"))
    lane.LANE.stop(lane.Module(softhsm.library()))
    for home in others:
        (token,) = home.tokens.iterdir()
        if home is others[1]:
            for path in token.glob("token.*"):
                path.write_bytes(path.read_bytes().replace(b"cellward   ", b"my; t\xc3\xb6ken "))
        token.rename(first.tokens / token.name)
    return first, *others


@pytest.fixture(scope="module")
def home(homes: tuple[Home, ...]) -> Home:
    return homes[0]


@pytest.fixture(scope="module")
def urls(home: Home) -> list[str]:
    """Of every private key, as p11tool writes them."""
    found = p11tool(home, "pkcs11:")
    assert len(found) == 5
    return found


def run_p11tool(home: Home, *arguments: str) -> str:
    environment = os.environ | {
        "SOFTHSM2_CONF": str(home.softhsm_config),
        "GNUTLS_PIN": home.pin.read_text().strip(),
    }
    tool = ["p11tool", "--provider", softhsm.library(), "--login", *arguments]
    done = subprocess.run(tool, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


def p11tool(home: Home, uri: str) -> list[str]:
    return run_p11tool(home, "--list-all-privkeys", "--only-urls", uri).splitlines()


def exported(home: Home, url: str) -> PublicKey:
    """The public key with p11tool's URI, as p11tool reads it."""
    public = url.replace("type=private", "type=public")
    return PublicKey.from_pem(run_p11tool(home, "--export", public).strip().encode())


def test_every_uri_of_p11tool_is_the_same_key(home: Home, urls: list[str]) -> None:
    seen = set()
    for url in urls:
        signer = bootstrap.signer(home, url)
        works(signer)
        seen.add(signer.public_key.fingerprint)
    assert len(seen) == len(urls)


def only(home: Home, uri: str) -> Signer | Code:
    try:
        return bootstrap.signer(home, uri)
    except CellwardError as error:
        return error.code


def slot_of(home: Home, label: str) -> pkcs11.Slot:
    store = bootstrap.key_store(home, "pkcs11:token=my%3B%20t%C3%B6ken")
    store.labels()
    slots = lane.LANE.library(store._token.module).get_slots(token_present=True)  # type: ignore[attr-defined]
    (found,) = (slot for slot in slots if slot.get_token().label == label)
    return found


def attributes(url: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in url.removeprefix("pkcs11:").split(";"))


CASES = [
    ("serial={serial};object=firmware", 1),
    ("token=my%3B%20t%C3%B6ken", 1),
    ("token=%6D%79%3b%20%74%c3%b6%6b%65%6e;object=%66irmware", 1),
    ("token=my%3B%20t%C3%B6ken;object=firmware;type=private;model=SoftHSM%20v2", 1),
    ("manufacturer=SoftHSM%20project;object=root", None),
    ("token=my%3B%20t%C3%B6ken;manufacturer=Other", 0),
    ("token=my%3B%20t%C3%B6ken;model=SoftHSM", 0),
    ("token=my%3B%20t%C3%B6ken;id={id}", 1),
    ("token=my%3B%20t%C3%B6ken;id={id}%00", 0),
    ("token=my%3B%20t%C3%B6ken;id=", 0),
    ("token=my%3B%20t%C3%B6ken;object=Firmware", 0),
    ("token=my%3B%20t%C3%B6ken;object=firm", 0),
    ("token=my%3B%20t%C3%B6ken;object=", 0),
    ("token=my%3B%20t%C3%B6ken;library-manufacturer=SoftHSM", 1),
    ("token=my%3B%20t%C3%B6ken;library-manufacturer=Other", 0),
    ("token=my%3B%20t%C3%B6ken;library-description=Implementation%20of%20PKCS11", 1),
    ("token=my%3B%20t%C3%B6ken;library-version=2.6", 1),
    ("token=my%3B%20t%C3%B6ken;library-version=3.6", 0),
    ("token=other", 0),
    ("token=cellward;object=firmware", 2),
    ("object=firmware", 3),
    ("token=cellward;serial={other};object=firmware", 0),
]


@pytest.mark.parametrize(("form", "count"), CASES)
def test_both_find_the_same(home: Home, urls: list[str], form: str, count: int | None) -> None:
    """One key, or none, or more than one: where p11tool lists several, we refuse."""
    odd = next(url for url in urls if "t%C3%B6ken" in url)
    values = attributes(odd)
    path = form.format(serial=values["serial"], id=values["id"], other="0" * 16)
    theirs = p11tool(home, f"pkcs11:{path}")
    ours = only(home, f"pkcs11:{path}")
    if count is not None:
        assert len(theirs) == count
    if count == 0:
        assert ours in (Code.TOKEN_KEY_MISSING, Code.TOKEN_ABSENT)
    elif count == 1:
        assert not isinstance(ours, Code), ours
        assert ours.public_key == bootstrap.signer(home, theirs[0]).public_key == exported(home, theirs[0])
    else:
        assert ours is Code.TOKEN_AMBIGUOUS


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("token=my%3B%20t%C3%B6ken;slot-id={slot}", True),
        ("slot-id={slot}", True),
        ("token=my%3B%20t%C3%B6ken;slot-id=1", False),
        ("token=my%3B%20t%C3%B6ken;slot-manufacturer=SoftHSM%20project", True),
        ("token=my%3B%20t%C3%B6ken;slot-manufacturer=SoftHSM", False),
        ("token=my%3B%20t%C3%B6ken;slot-description={description}", True),
        ("token=my%3B%20t%C3%B6ken;slot-description=x", False),
    ],
)
def test_the_slot(home: Home, urls: list[str], form: str, found: bool) -> None:
    """p11tool 3.7 passes over where a token is; here it counts as all that is given does."""
    slot = slot_of(home, "my; töken")
    escaped = "".join(f"%{byte:02x}" for byte in slot.slot_description.encode())
    ours = only(home, "pkcs11:" + form.format(slot=slot.slot_id, description=escaped))
    assert (ours is not Code.TOKEN_ABSENT) is found
    if not isinstance(ours, Code):
        assert ours.public_key == exported(home, next(url for url in urls if "t%C3%B6ken" in url))


def test_our_escapes_are_understood_there(home: Home, urls: list[str]) -> None:
    escaped = "".join(f"%{byte:02X}" for byte in ODD.encode())
    (url,) = p11tool(home, f"pkcs11:object={escaped}")
    assert url in urls
    serial = attributes(url)["serial"]
    signer = bootstrap.signer(home, f"pkcs11:serial={serial};object={escaped}")
    assert signer.public_key == exported(home, url)


# --- no guesses ---


def test_two_tokens_of_one_label_are_both_listed(homes: tuple[Home, ...], urls: list[str]) -> None:
    serials = sorted({attributes(url)["serial"] for url in urls if "token=cellward" in url})
    with pytest.raises(Refused) as error:
        bootstrap.signer(homes[0], hsm.FIRMWARE)
    assert error.value.code is Code.TOKEN_AMBIGUOUS
    assert error.value.found == "2: " + ", ".join(f"cellward (serial {serial})" for serial in serials)
    assert "serial=" in error.value.advice
    keys = [bootstrap.signer(homes[0], f"{hsm.FIRMWARE};serial={serial}").public_key for serial in serials]
    assert keys[0] != keys[1]


def test_no_token_lists_all_of_them(home: Home, urls: list[str]) -> None:
    with pytest.raises(Unavailable) as error:
        bootstrap.signer(home, "pkcs11:token=other;object=firmware")
    assert error.value.code is Code.TOKEN_ABSENT
    assert error.value.found.count("cellward (serial ") == 2
    assert error.value.found.count("my; töken (serial ") == 1


def test_a_new_key_is_made_in_no_token_that_is_not_the_only_one(home: Home) -> None:
    with pytest.raises(Refused) as error:
        hsm.store_of(home).create("new", Algorithm.P256)
    assert error.value.code is Code.TOKEN_AMBIGUOUS
    assert not p11tool(home, "pkcs11:object=new")
