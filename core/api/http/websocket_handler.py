"""A socket handler run to its end, and the socket closed as that end demands."""

from __future__ import annotations

import asyncio

from modeldeck.core.api.http.messages import Request, Response
from modeldeck.core.api.http.request_parser import PendingRequest
from modeldeck.core.api.http.responder import failed
from modeldeck.core.api.http.server_state import ServerState
from modeldeck.core.api.http.websocket import WebSocketConnection
from modeldeck.core.api.http.writer import PeerGone
from modeldeck.core.errors import DeckError


async def talk(
    site: ServerState, exchange: PendingRequest, request: Request, socket: WebSocketConnection
) -> Response | None:
    """Run it. Returns the refusal where it failed before the handshake: that is plain HTTP still.

    The close codes are those of RFC 6455, section 7.4.1: 1000 when the handler is done, 1001 when
    the core stops, 1011 when it failed.
    """
    route = exchange.route
    assert route is not None
    assert route.socket is not None
    site.meter.sockets += 1
    try:
        await route.socket(site.deck, request, socket)
        if not socket.accepted:
            raise RuntimeError(f"{route.operation_id} ended without accepting its socket")
        await socket.close()
    except PeerGone:
        pass
    except asyncio.CancelledError:
        socket.shut(1001)
        raise
    except Exception as error:
        refusal = failed(error, exchange)
        if not socket.accepted:
            return refusal
        socket.shut(1011, error.message if isinstance(error, DeckError) else "")
    finally:
        site.meter.sockets -= 1
    return None
