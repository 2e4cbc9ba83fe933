"""`cellward evidence`: what is claimed, what holds it, and what the tests last said."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from cellward import __version__, bootstrap
from cellward.core.errors import Code, FormatRefused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellward.cli.evidencepage import About
    from cellward.core.evidence import Matrix, Plan, Results
    from cellward.ports.checkout import Checkout

PLAN = "docs/testplan.toml"
LISTS = ("docs/evidence/attacks.toml", "docs/evidence/standards.toml")
RESULTS = "build/results.xml"
SOURCE_LIMIT = 1 << 20


@click.group()
def evidence() -> None:
    """Which clause or attack is answered by which control and test, and what the test last said."""


@evidence.command()
@click.option(
    "--checkout",
    "root",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The project's folder, with docs/testplan.toml, docs/evidence and the tests.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"pytest's JUnit XML.  [default: {RESULTS} of the checkout, if it is there]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for evidence.json and evidence.html.  [default: evidence]",
)
@click.option("--check", is_flag=True, help="Refuse a claim without a passing test; writes only with -o.")
@click.option("--json", "as_json", is_flag=True, help="Print the evidence as JSON.")
def export(root: Path, results: Path | None, output: Path | None, check: bool, as_json: bool) -> None:
    """Write the evidence: each row of attacks and standards with claims, controls, tests and outcomes.

    A row is covered, partly covered (the row says what is missing), empty, unproven (a test did not run)
    or failed. With --check, exit status 1 when anything that is claimed has no passing test, or when the
    results are of another revision.
    """
    from cellward.cli import evidencepage
    from cellward.core.evidence import check as check_matrix

    checkout = bootstrap.checkout(root)
    matrix = _matrix(checkout, results)
    about = _about(checkout)
    tree = evidencepage.to_json(matrix, about)
    if output is not None or not check:
        folder = bootstrap.DirectoryStore(output or Path("evidence"))
        folder.write("evidence.json", evidencepage.to_bytes(tree))
        folder.write("evidence.html", evidencepage.page(matrix, about))
    if as_json:
        click.echo(json.dumps(tree, indent=2))
    else:
        _show(matrix)
    if check:
        check_matrix(matrix, about.revision)


def _matrix(checkout: "Checkout", results: Path | None) -> "Matrix":
    from cellward.core.evidence import build, read_plan, read_rows
    from cellward.core.evidence.plan import LIMIT

    plan = read_plan(_read(checkout, PLAN, LIMIT), PLAN)
    lists = [read_rows(_read(checkout, name, LIMIT), name) for name in LISTS]
    _check_controls(checkout, plan)
    return build(plan, lists, _results(checkout, results), _tests(checkout, plan))


def _read(checkout: "Checkout", name: str, limit: int) -> bytes:
    try:
        return checkout.read(name, limit)
    except Unavailable as error:
        if error.code is not Code.STORAGE_MISSING:
            raise
        raise Unavailable(
            Code.STORAGE_MISSING,
            str(checkout.root / name),
            expected="a checkout of the project",
            found="no such file",
            advice="run it in one, or name one with --checkout",
        ) from error


def _check_controls(checkout: "Checkout", plan: "Plan") -> None:
    for claim in plan.claims:
        for path in claim.control:
            if not checkout.has(path):
                raise FormatRefused(
                    Code.EVIDENCE_CONTROL,
                    f"claim {claim.id}",
                    expected="a control that is there",
                    found=path,
                )


def _tests(checkout: "Checkout", plan: "Plan") -> set[str]:
    """Every test in the files that the claims name."""
    from cellward.core.evidence import file_of, node_ids

    found: set[str] = set()
    for file in sorted({file_of(node) for claim in plan.claims for node in claim.tests}):
        if checkout.has(file):
            source = checkout.read(file, SOURCE_LIMIT).decode(errors="replace")
            found |= node_ids(source, file)
    return found


def _results(checkout: "Checkout", path: Path | None) -> "Results":
    from cellward.core.evidence import Results, read_results
    from cellward.core.evidence.junit import LIMIT

    if path is None:
        if not checkout.has(RESULTS):
            return Results()
        path = checkout.root / RESULTS
    return read_results(bootstrap.read_file(path, LIMIT), str(path))


def _about(checkout: "Checkout") -> "About":
    from cellward.cli.evidencepage import About

    revision = checkout.revision()
    return About(
        made=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=__version__,
        revision=revision,
        changed=bool(revision) and checkout.is_changed(),
        firmware=_firmware(),
        tools=bootstrap.tools(),
    )


def _firmware() -> dict[str, str]:
    from cellward.vbms.packaged import packaged, packaged_names

    try:
        names: Sequence[str] = packaged_names()
    except Unavailable:
        return {}  # an installation without the module's firmware still has evidence
    return {name: hashlib.sha256(packaged(name)).hexdigest() for name in names}


def _show(matrix: "Matrix") -> None:
    from cellward.core.evidence import Status

    console = Console(highlight=False)
    table = Table(title="Evidence", title_justify="left")
    table.add_column("rows", no_wrap=True)
    for status in Status:
        table.add_column(status.value, justify="right")
    for rows, answers in matrix.lists:
        counts = [str(matrix.count(status, rows.kind)) for status in Status]
        table.add_row(f"{len(answers)} {rows.title.lower()}", *counts)
    console.print(table)
