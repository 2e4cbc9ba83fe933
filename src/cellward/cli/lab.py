"""`cellward lab`: attacks on the module's real binaries, and on a user's own."""

import click

from cellward.cli.labcuts import powercut
from cellward.cli.labfaults import faults
from cellward.cli.lableakage import leakage


@click.group()
def lab() -> None:
    """Attack the boot chain: faults and power cuts by the million, leakage by the trace."""


lab.add_command(faults)
lab.add_command(powercut)
lab.add_command(leakage)
