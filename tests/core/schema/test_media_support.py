"""Which models take images and recordings, and what a request to another one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modeldeck.core.errors import AudioNotSupported, ImageNotSupported
from modeldeck.core.schema import (
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Media,
    MediaKind,
    Message,
    Model,
)
from modeldeck.core.schema.media_support import check, taken

PLAIN = Model(
    id="1", unique="a/plain-GGUF:Q8_0", name="plain", format="gguf", source="hub", downloaded=True
)
SEEING = replace(
    PLAIN, id="2", unique="a/eyes-GGUF:Q8_0", name="eyes", capabilities=("tools", "vision")
)
HEARING = replace(
    PLAIN, id="3", unique="a/ears-GGUF:Q8_0", name="ears", capabilities=("audio",), downloaded=False
)
MLX = replace(PLAIN, id="4", unique="a/both-4bit", format="mlx", parameters=4.0, description="Both")
GGUF = replace(MLX, id="5", unique="a/both-GGUF:Q4_K_M", format="gguf", capabilities=("vision",))


def loaded(model: Model, media: tuple[MediaKind, ...], state: str = "ready") -> Instance:
    return Instance(
        id="i",
        model_id=model.id,
        unique=model.unique,
        state=InstanceState(state),
        engine="llama.cpp",
        options=LoadOptions(),
        media=media,
    )


def request(kind: MediaKind) -> GenerateRequest:
    media = Media(kind=kind, data=b"x", at=0, place="messages[0].content[1]")
    return GenerateRequest(messages=(Message(role="user", content="?", media=(media,)),))


def test_a_loaded_model_takes_what_it_was_loaded_with() -> None:
    assert taken(SEEING) == {"image"}
    assert taken(SEEING, loaded(SEEING, ())) == frozenset()
    assert taken(SEEING, loaded(SEEING, (), "starting")) == {"image"}
    assert taken(PLAIN, loaded(PLAIN, ("image", "audio"))) == {"image", "audio"}


@pytest.mark.parametrize(
    ("model", "kind", "others", "words"),
    [
        (PLAIN, "image", (SEEING, HEARING), "Ask one that can: a/eyes-GGUF:Q8_0."),
        (PLAIN, "audio", (SEEING, HEARING), "Download one that can, such as a/ears-GGUF:Q8_0."),
        (PLAIN, "image", (HEARING,), "Download a model with a projector that can see images."),
        (MLX, "image", (SEEING, GGUF), "the same model in GGUF can: a/both-GGUF:Q4_K_M."),
        (SEEING, "audio", (), "hear recordings"),
    ],
)
def test_the_refusal_names_the_part_and_models_that_can(
    model: Model, kind: MediaKind, others: tuple[Model, ...], words: str
) -> None:
    error = ImageNotSupported if kind == "image" else AudioNotSupported
    with pytest.raises(error) as refused:
        check(request(kind), model, None, (model, *others))
    assert "(at `$.messages[0].content[1]`)" in refused.value.message
    assert words in str(refused.value)


def test_a_model_without_its_projector_is_told_apart() -> None:
    with pytest.raises(ImageNotSupported, match="without its projector") as refused:
        check(request("image"), SEEING, loaded(SEEING, ()), (SEEING,))
    assert "vision=true" in refused.value.remedy
    check(request("image"), SEEING, loaded(SEEING, ("image",)), ())
    check(GenerateRequest(messages=(Message(role="user", content="x"),)), PLAIN, None, ())
