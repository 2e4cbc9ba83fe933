"""The module's end of its link: message RAM for one request and one answer."""

from cellward.vbms.peripherals import Action, BusFault
from cellward.vbms.registers import LINK_BUFFER_SIZE, Link


class Mailbox:
    """`rx` and `tx` are the message RAM as the core sees it."""

    def __init__(self, rx: memoryview, tx: memoryview) -> None:
        self._rx = rx
        self._tx = tx
        self._length = 0
        self._waiting = False
        self.answer: bytes | None = None

    def reset(self) -> None:
        """The request is lost; an answer that was sent is not."""
        self._length = 0
        self._waiting = False

    @property
    def free(self) -> bool:
        return not self._length

    @property
    def waiting(self) -> bool:
        """Whether a request was put that no answer was sent to yet, and no reset has lost."""
        return self._waiting

    def put(self, request: bytes) -> None:
        """1 to LINK_BUFFER_SIZE bytes, while the buffer is free."""
        self._rx[: len(request)] = request
        self._length = len(request)
        self._waiting = True
        self.answer = None

    def read(self, offset: int) -> int:
        if offset == Link.RX_LENGTH:
            return self._length
        raise BusFault(f"read of link register 0x{offset:x}")

    def write(self, offset: int, value: int) -> Action:
        match offset:
            case Link.RX_DONE:
                if value == 1:
                    self._length = 0
            case Link.TX_LENGTH:
                return self._send(value)
            case _:
                raise BusFault(f"write to link register 0x{offset:x}")
        return Action.NONE

    def _send(self, length: int) -> Action:
        if not 0 < length <= LINK_BUFFER_SIZE:
            raise BusFault(f"answer of {length} bytes")
        if not self._waiting:
            return Action.NONE
        self._waiting = False
        self.answer = bytes(self._tx[:length])
        return Action.ANSWER
