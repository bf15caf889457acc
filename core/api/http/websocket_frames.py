"""Messages of a socket: outgoing ones framed once for all who get them, incoming ones put together.

Pure. Sources: RFC 6455, section 5 (frames), RFC 7692 (permessage-deflate).
"""

from __future__ import annotations

import codecs
import io
import zlib

from websockets.frames import Frame, Opcode

SMALL_BYTES = 256
"""Messages below this are sent as they are: deflating saves less than it costs."""

LARGE_BYTES = 256 << 10
"""Messages above this take more than a few milliseconds to deflate: in a thread, then."""

_TEXT, _DEFLATED = 0x81, 0xC1
"""First byte of a whole text message: FIN and the opcode, and RSV1 where it is deflated."""

_LEVEL = 1
"""Of zlib: the higher ones take three times as long for a tenth less of JSON."""

_TAIL = b"\x00\x00\xff\xff"
"""What RFC 7692, section 7.2.1, leaves out of every message."""


class TextFrame:
    """A text message; its frames are made when the first socket asks, and serve all others.

    The deflated one needs no context of its connection (`server_no_context_takeover`), so it is the
    same for everybody who agreed to that.
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
        """The same deflated, where that is shorter."""
        if self._deflated is None:
            self._deflated = self._deflate() if len(self.text) >= SMALL_BYTES else self.plain
        return self._deflated

    @property
    def is_slow(self) -> bool:
        """Whether `deflated` would take its time now."""
        return self._deflated is None and len(self.text) > LARGE_BYTES

    def _deflate(self) -> bytes:
        zipper = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = zipper.compress(self.text) + zipper.flush(zlib.Z_SYNC_FLUSH)
        data = data.removesuffix(_TAIL)
        return _framed(_DEFLATED, data) if len(data) < len(self.text) else self.plain


def _framed(first: int, payload: bytes) -> bytes:
    """One frame of a server: whole and without a mask."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


class FragmentAssembler:
    """Puts the messages of one peer together from their fragments.

    The layer below has bounded their size and checked that they follow one another.
    """

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        self._text = io.StringIO()
        self._bytes = bytearray()

    def take(self, frame: Frame) -> str | bytes | None:
        """The message that this frame completes, if it does. Raises UnicodeDecodeError.

        Text is checked with each fragment, so that a bad one is refused before the rest of it came
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
