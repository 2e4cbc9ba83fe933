"""`cellward release lint`, and what the publish gate makes of the maker's own target profiles."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cellward import bootstrap
from cellward.cli.lint import example_profile
from cellward.cli.main import cellward
from cellward.config import Home
from cellward.core.errors import CellwardError, Code
from cellward.core.slots import Region

CONF = "CONFIG_BOOT_UPGRADE_ONLY=y\nCONFIG_BOOT_VALIDATE_SLOT0=n\nCONFIG_BOOT_SIGNATURE_TYPE_NONE=y\n"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cellward, ["release", "lint", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, CellwardError | SystemExit):
        raise result.exception
    return result


def code(result: Result) -> Code:
    assert isinstance(result.exception, CellwardError)
    return result.exception.code


def test_the_example_is_a_profile_that_passes(tmp_path: Path) -> None:
    printed = run("--example")
    assert printed.output == example_profile()
    (tmp_path / "own.toml").write_text(printed.output)
    passed = run(tmp_path / "own.toml")
    assert (passed.exit_code, passed.output) == (0, "bms-m33\n  nothing to object to\n")


def test_the_public_case_is_refused_with_reasons_and_attack_rows(tmp_path: Path) -> None:
    conf = tmp_path / "bms.conf"
    conf.write_text(CONF)
    refused = run(conf)
    assert code(refused) is Code.PUBLISH_POLICY
    for reason in ("signature is none", "validation is never", "upgrade is overwrite", "[attack 5, 19]"):
        assert reason in refused.output


def test_conf_files_are_one_target_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "prj.conf", tmp_path / ".config"
    first.write_text(CONF)
    second.write_text(
        'CONFIG_BOOT_SIGNATURE_TYPE_ED25519=y\nCONFIG_BOOT_SIGNATURE_KEY_FILE="ours.pem"\n'
        "CONFIG_BOOT_UPGRADE_ONLY=n\nCONFIG_BOOT_VALIDATE_SLOT0=y\n"
    )
    told = json.loads(run(first, second, "--json").output)
    assert [entry["target"] for entry in told] == [str(second)]
    assert {finding["severity"] for finding in told[0]["findings"]} == {"warning"}
    assert code(run(second, first)) is Code.PUBLISH_POLICY


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[target\n")
    assert code(run(tmp_path / "bad.toml")) is Code.CONFIG
    assert code(run(tmp_path / "none.toml")) is Code.STORAGE_MISSING
    assert run().exit_code == 2


def profiled(tmp_path: Path, text: str) -> Home:
    home = Home(tmp_path)
    home.profiles.mkdir()
    (home.profiles / "bms-m33.toml").write_text(text)
    return home


def test_the_gate_knows_the_configuration_pages_of_a_profile(tmp_path: Path) -> None:
    assert bootstrap.configuration_pages(Home(tmp_path)) == {}
    pages = "configuration_pages = [{ address = 0x08040000, size = 0x2000 }]"
    home = profiled(tmp_path, example_profile().replace("configuration_pages = []", pages))
    assert bootstrap.configuration_pages(home) == {"bms-m33": (Region(0x40000, 0x2000),)}


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('debug = "locked"', 'debug = "open"', Code.PUBLISH_POLICY),
        ('hardware = "bms-m33"', 'hardware = "bms-m33-18s"', Code.CONFIG),
        ("[boot]", "[boots]", Code.CONFIG),
    ],
)
def test_nothing_is_published_for_a_target_that_is_not_fit(
    tmp_path: Path, old: str, new: str, wanted: Code
) -> None:
    home = profiled(tmp_path, example_profile().replace(old, new))
    with pytest.raises(CellwardError) as refused:
        bootstrap.configuration_pages(home)
    assert refused.value.code is wanted
