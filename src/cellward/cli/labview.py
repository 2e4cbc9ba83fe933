"""What the laboratory's commands have in common: options, the bar, and files for people and build servers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar
from xml.etree import ElementTree as ET

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cellward import bootstrap
from cellward.core.errors import Code, ModuleRefused, Unavailable

F = TypeVar("F", bound=Callable[..., Any])
PACKAGES = ("capstone", "numpy", "unicorn")
_file = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--results", type=_file, help="Keep results here; a second start goes on with them."),
    click.option("--seed", type=click.IntRange(0, 1 << 32), default=1, show_default=True),
    click.option("--cores", type=click.IntRange(0, 1024), default=0, help="0: all of them."),
    click.option("--html", type=_file, help="Write a page with the picture."),
    click.option("--junit", type=_file, help="Write JUnit XML."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


class Summary(Protocol):
    """What every campaign comes to."""

    def to_json(self) -> dict[str, Any]: ...


def campaign_options(command: F) -> F:
    """What every campaign can be told."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_installed() -> None:
    """Raises Unavailable (config) without the extra `lab`."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise Unavailable(
            Code.CONFIG,
            "the laboratory",
            expected=f"the packages {', '.join(PACKAGES)}",
            found=f"no {' and no '.join(missing)}",
            advice="install cellward[lab]",
        )


@contextmanager
def bar(done: str, bad: str, *, hidden: bool) -> Iterator[Callable[[int, int, int], None]]:
    """On standard error; what is yielded is told what was done, of how many, and how many were bad."""
    columns = (
        TextColumn(done),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[bad]} " + bad),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task(done, total=None, bad=0)

        def move(completed: int, total: int, bad_ones: int) -> None:
            progress.update(task, completed=completed, total=total, bad=bad_ones)

        yield move


def conclude(
    summary: Summary,
    show: Callable[[], None],
    found: ModuleRefused | None,
    *,
    page: Callable[[], str],
    html: Path | None,
    suite: str,
    cases: Mapping[str, Sequence[str]],
    junit: Path | None,
    as_json: bool,
) -> None:
    """How every campaign ends: its files, JSON or what `show` prints, and `found` raised, which is exit
    status 1 and one line. `cases`: a test case for each name; it failed when there are lines for it.

    Raises Unavailable (storage.failed), and `found`.
    """
    if html is not None:
        bootstrap.write_file(html, page().encode())
    if junit is not None:
        bootstrap.write_file(junit, _junit(suite, cases))
    if as_json:
        click.echo(json.dumps(summary.to_json(), indent=2))
    else:
        show()
    if found is not None:
        raise found


def _junit(suite: str, cases: Mapping[str, Sequence[str]]) -> bytes:
    failures = sum(1 for lines in cases.values() if lines)
    root = ET.Element("testsuite", name=suite, tests=str(len(cases)), failures=str(failures))
    for name, lines in cases.items():
        case = ET.SubElement(root, "testcase", classname=suite, name=name)
        if lines:
            ET.SubElement(case, "failure", message=f"{len(lines)} found").text = "\n".join(lines)
    return ET.tostring(root, encoding="unicode").encode()
