"""Decodes large bodies beside the loop, before their handler is called."""

from __future__ import annotations

import asyncio

import msgspec

from modeldeck.core.api.http.messages import Request, Response, StreamResponse
from modeldeck.core.api.http.router import Handler
from modeldeck.core.api.http.server_state import ServerState

DECODED_AT_ONCE_BYTES = 256 << 10
"""Bodies over this are decoded in a thread: that can take more than a few milliseconds."""


async def decode_and_handle(
    handler: Handler, server: ServerState, request: Request
) -> Response | StreamResponse:
    """Decode the body in a thread, let go of its bytes, and call the handler."""
    body = request.body
    async with server.decoding:
        value = await asyncio.to_thread(request.json)
    decoded = msgspec.structs.replace(request, body=b"", value=value)
    if isinstance(body, bytearray):
        body.clear()
    answer = handler(server.deck, decoded)
    return answer if isinstance(answer, Response) else await answer
