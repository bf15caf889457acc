"""A device of llama.cpp that keeps count: an RPC server behind a relay that reads the protocol.

The server is llama.cpp's own and computes on the processor; the relay notes every buffer that a
client asks it for (ALLOC_BUFFER and FREE_BUFFER of ggml-rpc.cpp), and refuses what would exceed a
limit, as a device that is full does.
"""

import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

ALLOC_BUFFER, FREE_BUFFER, GET_DEVICE_MEMORY = 0, 4, 11
SILENT = {4, 5, 6, 10, 12, 16, 17}
"""Commands without an answer: FREE_BUFFER, BUFFER_CLEAR, SET_TENSOR, GRAPH_COMPUTE, INIT_TENSOR,
GRAPH_RECOMPUTE, MEMSET_TENSOR (`enum rpc_cmd`)."""
IMPOSSIBLE = 1 << 60
"""Asked of the server where the limit is exceeded, so that it refuses itself."""
PATIENCE_S = 60.0
_NUMBERS = itertools.count(1)


class CountingDevice:
    """An RPC server, and what it was asked for. `close` ends it."""

    def __init__(self, library: Path, ggml: Path, *, limit: int | None = None) -> None:
        """Start a server.

        Args:
            library: llama.cpp's RPC backend.
            ggml: The folder of the ggml libraries.
            limit: Bytes of memory that the device has; None is as much as there is.
        """
        self.limit = limit
        self._buffers: dict[int, int] = {}
        self.peak = 0
        """The most that was held at once, in bytes, since `forget`."""
        self.refused: list[int] = []
        """Sizes of buffers that there was no room for."""
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)
        self._stack = ExitStack()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stack.callback(self._listener.close)
        self._port = self._start(library, ggml)
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _start(self, library: Path, ggml: Path) -> int:
        """Start the server; the port it listens on.

        It cannot tell a port that the system chooses, so it has an address of the loopback that
        nothing else uses, where every port stays free.
        """
        self._host = ".".join(["127", *map(str, [*os.getpid().to_bytes(4)[-2:], next(_NUMBERS)])])
        with socket.create_server((self._host, 0)) as free:
            port = int(free.getsockname()[1])
        script = Path(__file__).with_name("rpc_server.py")
        process = subprocess.Popen(
            [sys.executable, script, library, ggml, self._host, str(port)],
            stdout=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection((self._host, port)).close()
                return port
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    self._stack.close()
                    raise
                threading.Event().wait(0.02)

    def close(self) -> None:
        """End the server."""
        self._stack.close()

    @property
    def held(self) -> int:
        """Bytes of all buffers that it holds now."""
        with self._lock:
            return sum(self._buffers.values())

    def forget(self) -> None:
        """Count the peak and refusals from now on."""
        with self._lock:
            self.peak = sum(self._buffers.values())
            self.refused.clear()

    def emptied(self) -> bool:
        """Wait until it holds nothing; False where that does not come."""
        with self._lock:
            return self._freed.wait_for(lambda: not self._buffers, PATIENCE_S)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass on what a client asks, one command after the other, until it hangs up."""
        mine: set[int] = set()
        with suppress(OSError, EOFError), client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with socket.create_connection((self._host, self._port)) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    command = _take(client, 1)
                    body = self._asked(command[0], _body(client), mine)
                    server.sendall(command + struct.pack("<Q", len(body)) + body)
                    if command[0] in SILENT:
                        continue
                    answer = self._answered(command[0], _body(server), mine)
                    client.sendall(struct.pack("<Q", len(answer)) + answer)
        with self._lock:  # the server frees what a client leaves behind
            for pointer in mine:
                self._buffers.pop(pointer, None)
            self._freed.notify_all()

    def _asked(self, command: int, body: bytes, mine: set[int]) -> bytes:
        with self._lock:
            if command == FREE_BUFFER:
                (pointer,) = struct.unpack("<Q", body)
                self._buffers.pop(pointer, None)
                mine.discard(pointer)
            elif command == ALLOC_BUFFER and self.limit is not None:
                device, size = struct.unpack("<IQ", body)
                if sum(self._buffers.values()) + size > self.limit:
                    self.refused.append(size)
                    return struct.pack("<IQ", device, IMPOSSIBLE)
        return body

    def _answered(self, command: int, body: bytes, mine: set[int]) -> bytes:
        with self._lock:
            held = sum(self._buffers.values())
            if command == ALLOC_BUFFER:
                pointer, size = struct.unpack("<QQ", body)
                if pointer:
                    self._buffers[pointer] = size
                    mine.add(pointer)
                    self.peak = max(self.peak, held + size)
            elif command == GET_DEVICE_MEMORY and self.limit is not None:
                return struct.pack("<QQ", max(0, self.limit - held), self.limit)
        return body


def _body(source: socket.socket) -> bytes:
    return _take(source, struct.unpack("<Q", _take(source, 8))[0])


def _take(source: socket.socket, count: int) -> bytes:
    """Read exactly `count` bytes. Raises EOFError when the peer closed the connection."""
    pieces = bytearray()
    while len(pieces) < count:
        piece = source.recv(min(count - len(pieces), 1 << 20))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)
