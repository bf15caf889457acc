"""Frames between the core and an engine process: a length, then that many bytes.

They are JSON, or a piece of a file (`modeldeck.core.runtime.process.attachments`).

Sans-I/O: bytes go in, payloads come out. A frame is a 4-byte big-endian length and its payload.
The pipe is local and both ends are ours, so a bad length means a bug or a stray write. The next
frame cannot be found then, and the connection ends.
"""

from __future__ import annotations

from collections.abc import Iterator

HEAD_BYTES = 4
MAX_BYTES = 16 << 20
"""The largest payload, in bytes: a request with a text of four million tokens, more than any model
has in its context."""


class FrameError(Exception):
    """A frame is longer than `MAX_BYTES`."""


def encode(payload: bytes) -> bytes:
    r"""The frame that carries `payload`. Raises FrameError when it is longer than `MAX_BYTES`.

    >>> encode(b"{}")
    b'\x00\x00\x00\x02{}'
    """
    if len(payload) > MAX_BYTES:
        raise FrameError(f"a frame of {len(payload)} bytes is over the limit of {MAX_BYTES}")
    return head(len(payload)) + payload


def head(size: int) -> bytes:
    """What stands before a payload of `size` bytes."""
    return size.to_bytes(HEAD_BYTES, "big")


class FrameDecoder:
    """Splits a stream of bytes into payloads; it may arrive in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take received bytes and yield the payloads that are complete.

        The caller must exhaust the iterator before the next call. Raises FrameError on a length
        over `MAX_BYTES`; nothing can be decoded after that.
        """
        self._buffer += data
        while len(self._buffer) >= HEAD_BYTES:
            length = int.from_bytes(self._buffer[:HEAD_BYTES], "big")
            if length > MAX_BYTES:
                raise FrameError(f"a frame claims {length} bytes, the limit is {MAX_BYTES}")
            end = HEAD_BYTES + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEAD_BYTES:end])
            del self._buffer[:end]
            yield payload
