"""A server in memory, as honest about limits and early ends as the real one."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from cellward.core.errors import CellwardError, Code, Refused, Unavailable

Post = Callable[[bytes], bytes]
CHUNK = 4096


@dataclass
class FakeTransport:
    """`files` are served, `posts` answer; `ends` cuts a file short, `endless` never ends one.

    `refusals` answers a path with that refusal. `requests` records what was asked, offset included.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    posts: dict[str, Post] = field(default_factory=dict)
    refusals: dict[str, CellwardError] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def get(self, path: str, limit: int, offset: int = 0) -> Generator[bytes, None, None]:
        self.requests.append(f"GET {path}" + (f" from {offset}" if offset else ""))
        self._refuse(path)
        if path not in self.files:
            raise Refused(Code.NOT_FOUND, path, expected="an answer", found="HTTP status 404")
        total = 0
        for chunk in self._chunks(path, offset):
            total += len(chunk)
            if total > limit:
                raise Refused(Code.REQUEST_TOO_LARGE, path, expected=f"at most {limit} bytes", found="more")
            yield chunk
        if path in self.ends:
            raise Unavailable(Code.SERVER_UNREACHABLE, path, expected="an answer", found="its early end")

    def _chunks(self, path: str, offset: int) -> Iterator[bytes]:
        data = self.files[path][offset : self.ends.get(path)]
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]
        while path in self.endless:
            yield bytes(CHUNK)

    def post(self, path: str, body: bytes, limit: int) -> bytes:
        self.requests.append(f"POST {path}")
        self._refuse(path)
        if path not in self.posts:
            raise Refused(Code.NOT_FOUND, path, expected="an answer", found="HTTP status 404")
        answer = self.posts[path](body)
        if len(answer) > limit:
            raise Refused(Code.REQUEST_TOO_LARGE, path, expected=f"at most {limit} bytes", found="more")
        return answer

    def _refuse(self, path: str) -> None:
        if path in self.refusals:
            raise self.refusals[path]
