"""The agent's cycle with nothing to do, in requests to the real server, and as a whole process.

Reference: what python-tuf's client asks for when nothing has changed, for two repositories, and the
report beside it. Target: at most 3 requests.
"""

import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rich.console import Console
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from cellward.cli.demo.journal import Actor
from cellward.cli.demo.scenes import Scenes
from cellward.cli.demo.stage import Stage

TARGET_REQUESTS = 3
ROUNDS = 7
POLL = ("device", "run", "--state", "pack", "--once")


class CountingFetcher(FetcherInterface):
    """Serves a repository's folder and counts what is asked for, the 404 of the next root included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.requests = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.requests += 1
        file = self._folder / url.rpartition("/")[2]
        if not file.exists():
            raise DownloadHTTPError("no such file", 404)
        yield file.read_bytes()


def tuf_requests(repository: Path, folder: Path) -> int:
    """Requests of python-tuf's second refresh over an unchanged repository."""
    fetcher = CountingFetcher(repository)
    root = (repository / "1.root.json").read_bytes()
    for _ in range(2):
        fetcher.requests = 0
        Updater(str(folder), "https://repository/", fetcher=fetcher, bootstrap=root).refresh()
    return fetcher.requests


def logged_requests(folder: Path) -> int:
    return sum(
        " /v1/" in line for log in folder.glob("server-*.log") for line in log.read_text().splitlines()
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name, Stage(Path(name), Console(file=io.StringIO())) as stage:
        folder = Path(name)
        Scenes(stage).until_enrolled()
        before, seconds = logged_requests(folder), []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            stage.run(Actor.CONTROLLER, "poll", *POLL)
            seconds.append(time.perf_counter() - began)
        ours = (logged_requests(folder) - before) / ROUNDS
        cache = folder / "tuf"
        cache.mkdir()
        reference = 1 + 2 * tuf_requests(folder / "maker" / "images", cache)
    if not ours:
        sys.exit("agent_cycle: the server's log shows no request")
    print(f"{'idle cycle':34}{'requests':>10}{'ratio':>8}")
    print(f"{'report, python-tuf twice':34}{reference:10d}{1:8.2f}")
    print(f"{'cellward device run --once':34}{ours:10.2f}{ours / reference:8.2f}")
    print(f"target: at most {TARGET_REQUESTS}; whole process {median(seconds):.2f} s, median of {ROUNDS}\n")


if __name__ == "__main__":
    main()
