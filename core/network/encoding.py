"""Decodes compressed bodies (RFC 9110, 8.4) in pieces of bounded size.

Requests ask for uncompressed content (`Accept-Encoding: identity`), but some proxies and mirrors
compress it anyway.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

STEP_BYTES = 256 << 10
"""Most decoded bytes of one piece. Compressed data may expand a thousandfold."""

_GZIP = 16 + zlib.MAX_WBITS


class Undecodable(Exception):
    """The body is damaged, or of an unsupported encoding."""


def encoding_of(headers: Mapping[str, str]) -> str:
    """The encoding of a body; empty for none."""
    named = headers.get("content-encoding", "").strip().lower()
    return "" if named == "identity" else named


class BodyDecoder:
    """Decodes one body."""

    def __init__(self, encoding: str) -> None:
        """Raises Undecodable for an encoding other than gzip, deflate and none."""
        if encoding not in ("", "gzip", "x-gzip", "deflate"):
            raise Undecodable(f"it came as {encoding[:20]!r}")
        self._encoding = encoding
        self._head = b""
        """The first bytes of deflate, until zlib's header is recognised or ruled out."""
        self._inflate = None if encoding == "deflate" else zlib.decompressobj(_GZIP)

    def pieces(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Decode the next bytes of the body into pieces of `STEP_BYTES` at most.

        Raises Undecodable for damaged bytes.
        """
        if not self._encoding:
            yield from (bytes(data[at : at + STEP_BYTES]) for at in range(0, len(data), STEP_BYTES))
            return
        rest, full = self._head + bytes(data), False
        if self._inflate is None:
            self._head = rest
            if len(rest) < 2:
                return
            # Some servers send deflate without zlib's frame (RFC 9110, 8.4.1.2; RFC 1950, 2.2).
            is_framed = rest[0] & 15 == zlib.DEFLATED and int.from_bytes(rest[:2]) % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if is_framed else -zlib.MAX_WBITS)
            self._head = b""
        # A full piece may leave output waiting inside zlib although all input is taken.
        while (rest or full) and not self._inflate.eof:
            try:
                piece = self._inflate.decompress(rest, STEP_BYTES)
            except zlib.error as error:
                raise Undecodable("its compressed form is damaged") from error
            rest, full = self._inflate.unconsumed_tail, len(piece) == STEP_BYTES
            if piece:
                yield piece
