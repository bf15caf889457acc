"""Health and version routes.

Clients of the documented API scan ports with `HEAD /.well-known/health` and wait a tenth of a
second for each, so these routes never wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldeck.core.api.http.messages import Request, Response, json_response, text_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.pieces.client_routes import SPEAKS

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


def health(deck: Deck, request: Request) -> Response:
    """Status and version of the core.

    503 only if no work is possible: a supervisor would restart the core for it, and must not do so
    for one file on a mount that hangs.
    """
    found = deck.health()
    body = {"status": found.status, "version": deck.state.host.version}
    if found.message:
        body["message"] = found.message
    return json_response(body, 503 if found.status == "unavailable" else 200)


def well_known_health(deck: Deck, request: Request) -> Response:
    """`ok:` and the id of this installation, as clients of the documented API expect it."""
    return text_response(f"ok:{deck.state.host.id}")


def well_known_version(deck: Deck, request: Request) -> Response:
    """The version as plain `x.y.z`: clients split it at the dots.

    With `api.pieces_clients` it is the version that the documented API's own programs require.
    """
    own = deck.state.host.version.partition("+")[0]
    return text_response(SPEAKS if deck.config.api.pieces_clients else own)


ROUTES = (
    Route(
        method="GET",
        template="/health",
        operation_id="health",
        summary="Whether the core answers",
        tag="core",
        handler=health,
        need="open",
        answer=dict[str, str],
    ),
    Route(
        method="GET",
        template="/.well-known/health",
        operation_id="wellKnownHealth",
        summary="`ok:` and the id of this installation",
        tag="core",
        handler=well_known_health,
        need="open",
        answer=str,
        content_type="text/plain",
        error_style="text",
    ),
    Route(
        method="GET",
        template="/.well-known/version",
        operation_id="wellKnownVersion",
        summary="The version",
        tag="core",
        handler=well_known_version,
        need="open",
        answer=str,
        content_type="text/plain",
        error_style="text",
    ),
)
