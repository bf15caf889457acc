"""What the routes of all dialects have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldeck.core.api.http.router import Handler, Route
from modeldeck.core.api.inference import RAISES
from modeldeck.core.errors import Ambiguous, InvalidRequest, NotDownloaded, NotFound

ASKING: Mapping[str, Any] = {
    "body_required": True,
    "cancel_when_gone": True,
    "asks": True,
    "raises": RAISES,
}
"""Of a route that asks a model."""
LOOKING: Mapping[str, Any] = {"raises": (InvalidRequest, NotFound, Ambiguous)}
"""Of a route that finds a model by its name."""


def dialect_route(method: str, template: str, handler: Handler, summary: str, **more: Any) -> Route:
    """A route for clients that only see downloaded models: for them the others do not exist."""
    return Route(
        method=method,
        template=template,
        handler=handler,
        summary=summary,
        statuses={NotDownloaded: 404},
        **more,
    )
