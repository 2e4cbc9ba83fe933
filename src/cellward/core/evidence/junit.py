"""pytest's JUnit XML (`--junitxml`, xunit2), as untrusted bytes.

Read as a stream and never as a tree. A document type is refused before anything of it is read, so
that no entity exists: neither a file of this machine nor a billion laughs gets in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from xml.parsers import expat

from cellward.core.errors import Code, FormatRefused

LIMIT = 64 << 20
MAX_CASES = 1_000_000
MAX_DEPTH = 32
MAX_NAME = 4096
_VERDICTS = {"failure": "failed", "error": "failed", "skipped": "skipped"}


class Outcome(StrEnum):
    """Of a test and of its cases together, where the worst counts. In that order."""

    FAILED = "failed"
    NOT_RUN = "not run"
    SKIPPED = "skipped"
    PASSED = "passed"

    @staticmethod
    def worst(outcomes: "list[Outcome]") -> "Outcome":
        return min(outcomes, key=list(Outcome).index, default=Outcome.NOT_RUN)


@dataclass(frozen=True)
class Case:
    """One testcase: pytest's `classname` and `name`, parameters in brackets included."""

    place: str
    name: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class Results:
    """`time` and `revision` are what the run said of itself; empty where it did not."""

    cases: tuple[Case, ...] = ()
    time: str = ""
    revision: str = ""


def read_results(data: bytes, what: str) -> Results:
    """Raises FormatRefused (metadata.format, metadata.too_large)."""
    if len(data) > LIMIT:
        raise FormatRefused(
            Code.METADATA_TOO_LARGE, what, expected=f"at most {LIMIT} bytes", found=f"{len(data)} bytes"
        )
    reader = _Reader(what)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(data, True)  # noqa: FBT003  # it takes no names
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that is none
        raise reader.refused("XML", str(error)[:120]) from error
    if not reader.seen_suite:
        raise reader.refused("the JUnit XML of pytest", "no testsuite")
    return Results(tuple(reader.cases), reader.time, reader.revision)


@dataclass
class _Reader:
    what: str
    cases: list[Case] = field(default_factory=list)
    time: str = ""
    revision: str = ""
    seen_suite: bool = False
    _path: list[str] = field(default_factory=list)
    _attributes: Mapping[str, str] = field(default_factory=dict)
    _outcome: Outcome = Outcome.PASSED

    def refused(self, expected: str, found: str) -> FormatRefused:
        return FormatRefused(Code.METADATA_FORMAT, self.what, expected=expected, found=found)

    def doctype(self, name: str, system: str | None, public: str | None, inside: bool) -> None:
        raise self.refused("no document type", f"DOCTYPE {name[:40]}")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        outer = self._path[-1] if self._path else ""
        self._path.append(tag)
        if len(self._path) > MAX_DEPTH:
            raise self.refused(f"at most {MAX_DEPTH} levels", "more")
        if tag == "testsuite":
            self.seen_suite = True
            self.time = attributes.get("timestamp", "")[:40]
        elif tag == "testcase":
            self._attributes, self._outcome = attributes, Outcome.PASSED
        elif outer == "testcase" and tag in _VERDICTS:
            self._outcome = Outcome.worst([self._outcome, Outcome(_VERDICTS[tag])])
        elif tag == "property" and outer == "properties" and attributes.get("name") == "revision":
            self.revision = attributes.get("value", "")[:80]

    def end(self, tag: str) -> None:
        self._path.pop()
        if tag != "testcase":
            return
        if len(self.cases) >= MAX_CASES:
            raise self.refused(f"at most {MAX_CASES} test cases", "more")
        self.cases.append(
            Case(
                self._text("classname"),
                self._text("name"),
                self._outcome,
                self._seconds(self._attributes.get("time", "0")),
            )
        )

    def _text(self, name: str) -> str:
        value = self._attributes.get(name)
        if value is None or len(value) > MAX_NAME:
            raise self.refused(f"a testcase with a {name} of at most {MAX_NAME} characters", "another")
        return value

    def _seconds(self, text: str) -> float:
        try:
            seconds = float(text[:40])
        except ValueError as error:
            raise self.refused("a testcase's time in seconds", repr(text[:40])) from error
        if not 0 <= seconds < 1e7:  # NaN is neither
            raise self.refused("a testcase's time in seconds", repr(text[:40]))
        return seconds
