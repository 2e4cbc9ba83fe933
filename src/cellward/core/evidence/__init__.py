"""Which clause or attack is answered by which claim, control and test, and what the test last said.

`read_plan` (docs/testplan.toml), `read_rows` (docs/evidence/*.toml) and `read_results` (JUnit XML of
pytest) refuse what they do not understand; `build` joins them; `check` refuses a claim that no passing
test holds. Formats: docs/formats/evidence.md.
"""

from cellward.core.evidence.junit import Case, Outcome, Results, read_results
from cellward.core.evidence.matrix import Answer, Matrix, NodeResult, Proof, Status, build, check
from cellward.core.evidence.plan import Claim, Open, Plan, Row, RowList, read_plan, read_rows
from cellward.core.evidence.sources import file_of, node_ids

__all__ = [
    "Answer",
    "Case",
    "Claim",
    "Matrix",
    "NodeResult",
    "Open",
    "Outcome",
    "Plan",
    "Proof",
    "Results",
    "Row",
    "RowList",
    "Status",
    "build",
    "check",
    "file_of",
    "node_ids",
    "read_plan",
    "read_results",
    "read_rows",
]
