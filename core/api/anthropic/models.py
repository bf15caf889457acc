"""`GET /v1/models` in Anthropic's form, for clients that send its version header."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.names import public_name
from modeldeck.core.errors import NotFound
from modeldeck.core.schema import Model
from modeldeck.core.schema.media_support import taken

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitySupport:
    """Whether a model does something."""

    supported: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicCapabilities:
    """What a model takes besides text."""

    image_input: CapabilitySupport


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicModel:
    """A model, in Anthropic's format."""

    id: str
    display_name: str
    created_at: str
    """In ISO 8601."""
    max_input_tokens: int | None
    """The context that it is loaded with, else the longest; None where that is not known."""
    max_tokens: int | None
    capabilities: AnthropicCapabilities
    type: Literal["model"] = "model"
    lifecycle: Literal["active"] = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicModels:
    """All models, in one page."""

    data: list[AnthropicModel] = field(default_factory=list)
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


def _listed(deck: Deck, model: Model) -> AnthropicModel:
    try:
        created = datetime.fromisoformat(model.created_at).astimezone(UTC)
    except ValueError:
        created = datetime.fromtimestamp(0, UTC)
    instance = deck.instances.of(model.id)
    length = (instance.context_length if instance is not None else None) or model.context_length
    return AnthropicModel(
        id=public_name(model, deck.state.models),
        display_name=model.name,
        created_at=created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        max_input_tokens=length,
        max_tokens=length,
        capabilities=AnthropicCapabilities(
            image_input=CapabilitySupport(supported="image" in taken(model, instance))
        ),
    )


def list_models(deck: Deck, request: Request) -> Response:
    """The downloaded models."""
    here = [_listed(deck, model) for model in deck.state.models.values() if model.downloaded]
    first, last = (here[0].id, here[-1].id) if here else (None, None)
    return json_response(AnthropicModels(data=here, first_id=first, last_id=last))


def get_model(deck: Deck, request: Request) -> Response:
    """One model; a slash in its name need not be percent-encoded."""
    model = deck.models.find("/".join(request.params.values()))
    if not model.downloaded:
        raise NotFound(f"{model.name} is not on this machine.", "Download it first.")
    return json_response(_listed(deck, model))
