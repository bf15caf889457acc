"""WebSocket messages: outgoing ones framed once for all clients, incoming ones reassembled.

Pure. Sources: RFC 6455, section 5 (frames), RFC 7692 (permessage-deflate).
"""

from __future__ import annotations

import codecs
import io
import zlib

from websockets.frames import Frame, Opcode

SMALL_BYTES = 256
"""Smaller messages are not deflated: that saves less than it costs."""

LARGE_BYTES = 256 << 10
"""Larger messages take more than a few milliseconds to deflate, so a thread does it."""

_TEXT, _DEFLATED = 0x81, 0xC1
"""First byte of a whole text message: FIN and the opcode, and RSV1 where it is deflated."""

_LEVEL = 1
"""zlib's level: the higher ones take three times as long for a tenth less of JSON."""

_TAIL = b"\x00\x00\xff\xff"
"""End of every deflated message, which is not sent (RFC 7692, section 7.2.1)."""


class TextFrame:
    """A text message whose frames are made once, on first use, and sent to all clients.

    The deflated frame needs no context of its connection (`server_no_context_takeover`), so it is
    the same for all clients that agreed to permessage-deflate.
    """

    __slots__ = ("_deflated", "_plain", "text")

    def __init__(self, text: bytes | str) -> None:
        self.text = text.encode() if isinstance(text, str) else text
        self._plain: bytes | None = None
        self._deflated: bytes | None = None

    @property
    def plain(self) -> bytes:
        """The message as one frame."""
        if self._plain is None:
            self._plain = _framed(_TEXT, self.text)
        return self._plain

    @property
    def deflated(self) -> bytes:
        """The message as one deflated frame, or `plain` where that is not longer."""
        if self._deflated is None:
            self._deflated = self._deflate() if len(self.text) >= SMALL_BYTES else self.plain
        return self._deflated

    @property
    def is_slow(self) -> bool:
        """Whether `deflated` would block the event loop for more than a few milliseconds."""
        return self._deflated is None and len(self.text) > LARGE_BYTES

    def _deflate(self) -> bytes:
        zipper = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = zipper.compress(self.text) + zipper.flush(zlib.Z_SYNC_FLUSH)
        data = data.removesuffix(_TAIL)
        return _framed(_DEFLATED, data) if len(data) < len(self.text) else self.plain


def _framed(first: int, payload: bytes) -> bytes:
    """One unfragmented frame; servers do not mask (RFC 6455, section 5.1)."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


class FragmentAssembler:
    """Reassembles the messages of one client from their fragments.

    `websockets` has already bounded their size and checked their order.
    """

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        self._text = io.StringIO()
        self._bytes = bytearray()

    def take(self, frame: Frame) -> str | bytes | None:
        """The message that this frame completes, or None. Raises UnicodeDecodeError.

        Text is decoded with each fragment, so that invalid UTF-8 is refused before the rest arrives
        (RFC 6455, section 8.1).
        """
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
        if frame.fin and frame.opcode is not Opcode.CONT:
            return str(frame.data, "utf-8") if frame.opcode is Opcode.TEXT else bytes(frame.data)
        if frame.opcode is not Opcode.CONT:
            is_text = frame.opcode is Opcode.TEXT
            self._decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None
        if self._decoder is None:
            self._bytes += frame.data
        else:
            self._text.write(self._decoder.decode(bytes(frame.data), frame.fin))
        return self._whole() if frame.fin else None

    def _whole(self) -> str | bytes:
        message = bytes(self._bytes) if self._decoder is None else self._text.getvalue()
        self._decoder, self._text, self._bytes = None, io.StringIO(), bytearray()
        return message
