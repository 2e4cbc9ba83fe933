"""The embedded TPM's own time: from a command's last byte to its answer's."""

import time

# What only asks what is there already: no operation needs it, and a reference has none of it.
_READ_PUBLIC, _NV_READ_PUBLIC, _GET_CAPABILITY = 0x0173, 0x0169, 0x017A
LOOKUPS = frozenset((_READ_PUBLIC, _NV_READ_PUBLIC, _GET_CAPABILITY))


class Stopwatch:
    def __init__(self) -> None:
        from cellward.adapters.tpm2.swtpm import SocketTransport

        self.reset()
        self._sent, self._code = 0.0, 0
        transmit, receive = SocketTransport.do_transmit, SocketTransport.do_receive

        def sending(transport: SocketTransport, command: bytes) -> None:
            self._sent, self._code = time.perf_counter(), int.from_bytes(command[6:10], "big")
            transmit(transport, command)

        def receiving(transport: SocketTransport, timeout: int) -> bytes:
            answer = receive(transport, timeout)
            self.commands += 1
            if self._code not in LOOKUPS:
                self.waited += time.perf_counter() - self._sent
            return answer

        SocketTransport.do_transmit = sending  # type: ignore[method-assign,assignment]
        SocketTransport.do_receive = receiving  # type: ignore[method-assign,assignment]

    def reset(self) -> None:
        self.waited, self.commands = 0.0, 0
