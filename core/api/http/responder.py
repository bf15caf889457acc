"""How an exchange is answered: whole or in pieces, written down, and with what head."""

from __future__ import annotations

from modeldeck.core.api.http import response_bytes
from modeldeck.core.api.http.access import ListenAddress
from modeldeck.core.api.http.messages import Response, StreamResponse, error_response
from modeldeck.core.api.http.origin_checks import cors_headers
from modeldeck.core.api.http.request_parser import PendingRequest
from modeldeck.core.api.http.server_state import ServerState, log
from modeldeck.core.api.http.writer import PeerGone, SocketWriter
from modeldeck.core.errors import DeckError


class Responder:
    """Writes the answers of one connection, and one line in the journal for each."""

    def __init__(
        self, site: ServerState, door: ListenAddress, peer: str, outlet: SocketWriter
    ) -> None:
        self._site = site
        self._door = door
        self._peer = peer
        self._outlet = outlet

    def whole(self, exchange: PendingRequest, answer: Response) -> bool | None:
        """Send an answer that is whole, as `Content` has settled it.

        Returns whether another request may follow; None when nobody is there any more.
        """
        if self._outlet.gone:
            self.note(exchange, 499)
            return None
        head = exchange.head
        keep_alive = exchange.keep_alive and not self._site.stopping
        data = response_bytes.whole(
            answer,
            keep_alive=keep_alive,
            old=head is not None and head.version == "1.0",
            head_only=head is not None and head.method == "HEAD",
            request_id=exchange.id,
            extra=cors_headers(head, self._door.policy) if head else (),
        )
        self._outlet.write(data)
        self.note(exchange, answer.status, len(answer.body))
        return keep_alive

    async def stream(self, exchange: PendingRequest, answer: StreamResponse) -> bool | None:
        """Send the pieces as they come; a failure in between cuts the answer short, visibly.

        Returns as `whole` does; None also when it was cut.
        """
        head = exchange.head
        assert head is not None
        old, bare = head.version == "1.0", head.method == "HEAD"
        keep_alive = exchange.keep_alive and not old and not self._site.stopping
        start = response_bytes.stream_head(
            answer,
            keep_alive=keep_alive,
            old=old,
            request_id=exchange.id,
            extra=cors_headers(head, self._door.policy),
        )
        sent, status = 0, answer.status
        try:
            if self._outlet.gone:
                raise PeerGone
            self._outlet.write(
                start + (b"" if bare else response_bytes.chunk(answer.first, old=old))
            )
            if not bare:
                sent = len(answer.first)
                async for data in answer.chunks:
                    self._outlet.write(response_bytes.chunk(data, old=old))
                    sent += len(data)
                    await self._outlet.drain()
                self._outlet.write(b"" if old else response_bytes.LAST_CHUNK)
        except PeerGone:
            status = 499
            return None
        except Exception as error:
            what = f"{head.method} {head.path} failed in mid-answer ({exchange.id})."
            log.error(what, exc_info=error)
            status = 500
            self._outlet.transport.abort()
            return None
        except BaseException:
            status = 499
            raise
        finally:
            self.note(exchange, status, sent)
            await answer.chunks.aclose()
        return keep_alive

    def note(self, exchange: PendingRequest, status: int, sent_bytes: int = 0) -> None:
        """Write down what became of a request; 499 for one whose client went away."""
        head, route, caller = exchange.head, exchange.route, exchange.caller
        self._site.journal.answered(
            template=route.template if route is not None else None,
            method=head.method if head is not None else "",
            path=head.path if head is not None else "",
            status=status,
            began=exchange.began,
            sent_bytes=sent_bytes,
            request_id=exchange.id,
            who=caller.name if caller is not None else self._peer,
        )


def failed(error: Exception, exchange: PendingRequest) -> Response:
    """The answer to what a handler raised. A bug is logged, and not told to the client."""
    route = exchange.route
    assert route is not None
    if isinstance(error, DeckError):
        status = route.error_status(error)
        return error_response(error, route.error_style, status, exchange.id)
    log.error("%s %s failed (%s).", route.method, route.template, exchange.id, exc_info=error)
    unexpected = DeckError(
        "Something went wrong inside modeldeck.", f"The log of the core has it: {exchange.id}."
    )
    return error_response(unexpected, route.error_style, request_id=exchange.id)
