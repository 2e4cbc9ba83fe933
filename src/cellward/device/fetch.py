"""Files of the two repositories, and images: bounded, resumable, nothing believed yet."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing

from cellward.core import serverca
from cellward.core.errors import Code, Refused, TrustRefused, Unavailable
from cellward.core.metadata import RULES, Repository, Role, Target, file_name
from cellward.core.release import MAX_RELEASE_SIZE
from cellward.core.trust import verify_download
from cellward.device.memory import Memory
from cellward.ports.transport import Transport

# A cut in between costs at most this much of a download again.
KEEP_EVERY = 512 * 1024
SERVER_CAS_PATH = "/v1/server-cas"

Progress = Callable[[str, int, int], None]


class Fetcher:
    """Reads from the server that the map names for each repository."""

    def __init__(self, transports: Mapping[Repository, Transport], progress: Progress) -> None:
        self._transports = transports
        self._progress = progress

    def metadata(self, repository: Repository, role: str, version: int, limit: int | None = None) -> bytes:
        """Of a delegated role only with a limit.

        Raises TrustRefused (metadata.missing), and metadata.too_large beyond the limit.
        """
        name = file_name(role, version)
        most = RULES[Role(role)].limit if limit is None else limit
        try:
            return self._read(repository, f"/v1/{repository}/{name}", most)
        except Refused as error:
            if error.code is Code.NOT_FOUND:
                raise TrustRefused(
                    Code.METADATA_MISSING, f"{repository} {name}", expected="a file", found="none"
                ) from error
            if error.code is Code.REQUEST_TOO_LARGE:
                raise TrustRefused(
                    Code.METADATA_TOO_LARGE,
                    f"{repository} {name}",
                    expected=f"at most {most} bytes",
                    found="more than that",
                ) from error
            raise

    def root(self, repository: Repository, version: int) -> bytes | None:
        """The root of that version, or None where the server has none."""
        try:
            return self.metadata(repository, Role.ROOT, version)
        except TrustRefused as error:
            if error.code is Code.METADATA_MISSING:
                return None
            raise

    def server_cas(self) -> bytes:
        return self._read(Repository.DIRECTOR, SERVER_CAS_PATH, serverca.MAX_SIZE)

    def _read(self, repository: Repository, path: str, limit: int) -> bytes:
        chunks = self._transports[repository].get(path, limit)
        with closing(chunks):
            return b"".join(chunks)

    def release(self, target: Target) -> bytes:
        """The bytes of the release that the target names.

        Raises TrustRefused (release.part) for a target without one, release.file for other bytes.
        """
        subject = f"release of {target.name}"
        if not target.release:
            raise TrustRefused(
                Code.RELEASE_PART,
                f"target {target.name}",
                expected="an image that was published with a release",
                found="one without",
                advice="the factory data names release keys: publish with `cellward repo publish --release`",
            )
        try:
            data = self._read(Repository.IMAGE, f"/v1/artefacts/{target.release_name}", MAX_RELEASE_SIZE)
        except Refused as error:
            if error.code is not Code.NOT_FOUND:
                raise
            raise TrustRefused(
                Code.RELEASE_FILE, subject, expected=target.release_name, found="none"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != target.release:
            raise TrustRefused(Code.RELEASE_FILE, subject, expected=f"SHA-256 {target.release}", found=found)
        return data

    def image(self, target: Target, slot_size: int, memory: Memory) -> bytes:
        """The image's bytes, of exactly the signed length and hash (steps 6, G9).

        Resumes where the last attempt stopped. What does not have the signed hash is forgotten.
        Raises TrustRefused (target.length, target.hash).
        """
        if target.length > slot_size:
            raise TrustRefused(
                Code.TARGET_LENGTH,
                f"target {target.name}",
                expected=f"at most the slot's {slot_size} bytes",
                found=f"{target.length}",
            )
        data = bytearray(memory.download(target.sha256))
        if len(data) > target.length:
            data.clear()
        if len(data) < target.length:
            self._download(target, data, memory)
        try:
            return verify_download(target, bytes(data))
        except TrustRefused:
            memory.forget_downloads()
            raise

    def _download(self, target: Target, data: bytearray, memory: Memory) -> None:
        """Append what is missing; what came before an interruption is kept for the next attempt."""
        kept = len(data)
        chunks = self._transports[Repository.IMAGE].get(
            f"/v1/artefacts/{target.stored_name}", target.length - kept, kept
        )
        try:
            with closing(chunks):
                for chunk in chunks:
                    data += chunk
                    self._progress(f"download {target.name}", len(data), target.length)
                    if len(data) - kept >= KEEP_EVERY:
                        memory.set_download(target.sha256, bytes(data))
                        kept = len(data)
        except Refused as error:
            raise _refused(target, error) from error
        except Unavailable:
            memory.set_download(target.sha256, bytes(data))
            raise
        memory.set_download(target.sha256, bytes(data))


def _refused(target: Target, error: Refused) -> Refused:
    """What a server's refusal means for an image that both repositories promise."""
    subject = f"target {target.name}"
    if error.code is Code.REQUEST_TOO_LARGE:
        expected = f"{target.length} bytes"
        return TrustRefused(Code.TARGET_LENGTH, subject, expected=expected, found="more than that")
    if error.code is Code.NOT_FOUND:
        return TrustRefused(Code.TARGET_MISSING, subject, expected=target.stored_name, found="none")
    return error
