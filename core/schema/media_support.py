"""Which models take images and recordings, and what a request to another one is told. Pure.

Models of MLX take none: mlx-lm reads images of one family only, one request at a time. mlx-vlm,
which reads them of many, is no part of it: it needs another mlx, OpenCV, a web server and more, and
its models are classes of their own, so it would hold the weights a second time. llama.cpp reads
images of the same models in GGUF.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modeldeck.core.errors import AudioNotSupported, ImageNotSupported, InvalidRequest
from modeldeck.core.schema.generation import GenerateRequest, Media, MediaKind
from modeldeck.core.schema.models import Model
from modeldeck.core.schema.runtime import Instance
from modeldeck.core.schema.summary import LOADED

CAPABILITIES: Mapping[MediaKind, str] = {"image": "vision", "audio": "audio"}
"""The words of `Model.capabilities`."""

_NAMED = 3
"""Models that an error names at most."""
_VERBS: Mapping[MediaKind, str] = {"image": "see images", "audio": "hear recordings"}
_ERRORS: Mapping[MediaKind, type[InvalidRequest]] = {
    "image": ImageNotSupported,
    "audio": AudioNotSupported,
}


def taken(model: Model, instance: Instance | None = None) -> frozenset[MediaKind]:
    """What a model takes besides text: as it is loaded, else as its files have it."""
    if instance is not None and instance.state in LOADED:
        return frozenset(instance.media)
    return frozenset(kind for kind, word in CAPABILITIES.items() if word in model.capabilities)


def check(
    request: GenerateRequest, model: Model, instance: Instance | None, models: Iterable[Model]
) -> None:
    """Raise ImageNotSupported or AudioNotSupported where a request has what its model cannot take.

    Args:
        request: Names the place of each image or recording.
        model: The one that is asked.
        instance: It, as it is loaded.
        models: All that are listed; the error names some that can.
    """
    can = taken(model, instance)
    for message in request.messages:
        for media in message.media:
            if media.kind not in can:
                raise refusal(media, model, instance, models)


def refusal(
    media: Media, model: Model, instance: Instance | None, models: Iterable[Model]
) -> InvalidRequest:
    """The error for media that a model cannot take; it names models that can."""
    verb = _VERBS[media.kind]
    place = f" (at `$.{media.place}`)" if media.place else ""
    if media.kind in taken(model):
        return _ERRORS[media.kind](
            f"{model.name} could {verb}, but is loaded without its projector{place}.",
            "Unload it, and load it with vision=true; where that changes nothing, the llama.cpp "
            "of this machine was built without libmtmd, which reads them.",
        )
    return _ERRORS[media.kind](
        f"{model.name} cannot {verb}{place}.", _remedy(media.kind, model, models)
    )


def _remedy(kind: MediaKind, model: Model, models: Iterable[Model]) -> str:
    able = [other for other in models if kind in taken(other)]
    here = [other.unique for other in able if other.downloaded]
    same = [
        other.unique
        for other in able
        if model.parameters is not None
        and (other.parameters, other.description) == (model.parameters, model.description)
    ]
    if model.format == "mlx" and same:
        return f"MLX reads text only here; the same model in GGUF can: {same[0]}."
    if here:
        return f"Ask one that can: {', '.join(here[:_NAMED])}."
    if able:
        return f"Download one that can, such as {able[0].unique}."
    return f"Download a model with a projector that can {_VERBS[kind]}."
