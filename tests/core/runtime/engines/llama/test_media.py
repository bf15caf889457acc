"""Images in a llama.cpp context, read by real projectors of several kinds."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.vocabulary import CHAT_TEMPLATE
from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.runtime.engines.llama import (
    media_reader,
    media_tokens,
    projector_limits,
    projector_load,
)
from modeldeck.core.runtime.engines.llama.projector import NoLibrary
from modeldeck.core.schema import GenerateRequest, LoadOptions, Media, Message, TokenQuery
from tests.core.runtime.engines.llama.seeing import (
    GREEN,
    LONG,
    RED,
    alone,
    cached,
    engines,
    images_read,
    length,
    loaded,
    models,
    one,
    same,
    written,
)
from tests.support import recorded
from tests.support.engine_turns import EngineTurns
from tests.support.pictures import image, picture, recording, seen, tone
from tests.support.projector_kinds import KINDS, Tower
from tests.support.projectors import RECORD, SeeingModel, write_projector, write_seeing_model

__all__ = ["engines", "models"]

KINDS_OF_VISION = ["gemma3", "qwen2vl", "idefics3", "llava"]


@pytest.mark.parametrize("kind", KINDS_OF_VISION)
def test_what_was_seen_is_not_read_again_and_answers_are_those_alone(
    models: Path, engines: list[EngineTurns], kind: str
) -> None:
    engine = loaded(engines, written(models, kind))
    assert engine.loaded.media == ("image",)
    at = len(LONG)
    asked = seen(LONG + LONG, image(RED, at))
    other = seen(LONG + LONG, image(GREEN, at))
    both = seen(LONG + "and" + LONG, image(RED, at), image(GREEN, at + 3))
    twice = seen(LONG + "and" + LONG, image(RED, at), image(RED, at))
    more = seen(LONG + LONG + "What is it?", image(RED, at))
    edited = seen("x" + LONG + LONG, image(RED, at + 1))
    requests = [asked, more, other, both, twice, edited]
    told = alone(engine, requests)
    pieces = images_read(told[0])
    assert [images_read(one) for one in told] == [pieces] * 3 + [2 * pieces] * 2 + [pieces]

    in_turn = [one(engine, request) for request in requests]
    assert all(map(same, in_turn, told))
    assert images_read(in_turn[1]) == 0, "the second question about the picture"
    assert cached(in_turn[1]) > length(in_turn[1]) - 20
    assert images_read(in_turn[2]) == pieces, "another picture"
    assert cached(in_turn[2]) < 90, "the text before it"
    assert images_read(in_turn[3]) == pieces, "the second picture of two"
    assert images_read(in_turn[5]) == pieces, "the text before it was edited"
    # At once, twice as many as there are slots: conversations are saved, and copied.
    engine.engine.reset()
    at_once = engine.together(replace(request, logprobs=8) for request in requests)
    assert all(map(same, at_once, told))
    again = engine.together(replace(request, logprobs=8) for request in requests)
    assert all(map(same, again, told))
    assert sum(map(images_read, again)) == 0


@pytest.mark.parametrize("kind", ["gemma3", "qwen2vl", "idefics3"])
def test_what_is_answered_depends_on_the_picture(
    models: Path, engines: list[EngineTurns], kind: str
) -> None:
    engine = loaded(engines, written(models, kind))
    told = alone(engine, [seen(LONG, image(data)) for data in (RED, picture("white"), RED)])
    assert same(told[0], told[2])
    assert not same(told[0], told[1])


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("gemma3", "gemma3"), ("qwen35", "qwen2vl"), ("jamba", "llava")],
    ids=["sliding window", "hybrid with M-RoPE", "hybrid"],
)
def test_models_that_cannot_go_back_have_checkpoints_after_pictures(
    models: Path, engines: list[EngineTurns], architecture: str, kind: str
) -> None:
    recipe = recorded.read(RECORD)[architecture].recipe(architecture)
    path = models / f"{architecture}-text.gguf"
    replace(recipe, markers=KINDS[kind].markers, chat_template=CHAT_TEMPLATE).write(path)
    tower = Tower(out=recipe.width)
    projector = write_projector(models / f"{architecture}-mmproj.gguf", kind, tower)
    engine = loaded(engines, SeeingModel(path=path, projector=projector))
    long = LONG * 2
    requests = [seen(long + LONG + end, image(RED, len(long))) for end in ("", "more", "less")]
    requests += [seen(long + "then " + LONG, image(GREEN, len(long)))]
    told = alone(engine, requests)
    in_turn = [one(engine, request) for request in requests]
    assert all(map(same, in_turn, told))
    assert [images_read(one) for one in in_turn] == [1, 0, 0, 1]
    assert cached(in_turn[2]) > length(in_turn[2]) - 30
    at_once = engine.together(replace(request, logprobs=8) for request in requests)
    assert all(map(same, at_once, told))


def test_a_request_that_loses_its_cells_reads_its_pictures_again(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine = loaded(
        engines, written(models, "qwen2vl"), parallel=4, context_length=512, cache_tokens=512
    )
    requests = [
        seen(colour * 20 + LONG, image(picture(colour), 9), image(GREEN, 40), max_tokens=40)
        for colour in ("red", "green", "black", "yellow")
    ]
    told = alone(engine, requests)
    at_once = engine.together(replace(request, logprobs=8) for request in requests)
    assert any(one.waits for one in at_once), "some lost their cells"
    assert all(map(same, at_once, told))


@pytest.mark.parametrize("kind", ["qwen2vl", "idefics3", "internvl"])
def test_images_of_all_sizes_are_read(models: Path, engines: list[EngineTurns], kind: str) -> None:
    engine = loaded(engines, written(models, kind), context_length=4096)
    sizes = ((1, 1), (2, 100), (1000, 10), (20, 2000))
    told = engine.together(seen("a", image(picture("red", size)), max_tokens=1) for size in sizes)
    assert all(map(length, told))
    large = TokenQuery(request=seen("a", image(picture("red", (4000, 3000)))))
    assert engine.count(large).count < projector_limits.IMAGE_TOKENS + 60


def test_an_image_that_must_be_read_at_once_gets_a_batch_or_is_refused(
    models: Path, engines: list[EngineTurns]
) -> None:
    """llama.cpp aborts over one that is larger than its batch."""
    model = write_seeing_model(models / "large", "gemma3", Tower(image=140))  # 25 tokens
    engine = loaded(engines, model, batch_size=16)
    assert same(*alone(engine, [seen("a", image(RED))] * 2))
    small = loaded(engines, model, context_length=16)  # whose batch has 16 tokens
    assert "25 tokens, which must be read at once" in small.refused(seen("a", image(RED)))


def test_pictures_count_in_what_the_context_holds(models: Path, engines: list[EngineTurns]) -> None:
    engine = loaded(engines, written(models, "llava"), context_length=256)
    request = seen("a", *[image(RED)] * 8)
    few = engine.count(TokenQuery(request=seen("a", image(RED))))
    (answered,) = engine.together([seen("a", image(RED))])
    assert few.count == length(answered)
    assert few.tokens.count(-1) == 16
    assert "<__media__>a" in few.text
    many = engine.count(TokenQuery(request=request, count_only=True))
    assert many.count == few.count + 7 * 16
    too_many = engine.refused(seen("a", *[image(RED)] * 16))
    assert "maximum context length is 256 tokens" in too_many


def test_answers_about_pictures_are_written_without_the_draft_model(
    models: Path, engines: list[EngineTurns]
) -> None:
    model = written(models, "gemma3")
    plain = loaded(engines, model)
    requests = [seen(LONG, image(RED)), seen(LONG)]
    told = alone(plain, requests)
    drafting = loaded(engines, model, draft=model.path, draft_tokens=4, draft_model="itself")
    assert drafting.turns.guesses == 4
    turns: list[int] = []
    for request in requests:
        drafting.begin(replace(request, logprobs=8))
        turns.append(0)
        while drafting.engine.working:
            drafting.step()
            turns[-1] += 1
    assert all(map(same, drafting.told.values(), told))
    assert turns[0] > 12 > turns[1], "what it guessed saved turns, where there was no picture"


@pytest.mark.parametrize("kind", ["gemma3", "qwen2vl", "idefics3", "pixtral", "internvl"])
def test_a_text_with_the_model_s_own_sign_of_an_image_is_a_text(
    models: Path, engines: list[EngineTurns], kind: str
) -> None:
    engine = loaded(engines, written(models, kind))
    sign = next(m for m in KINDS[kind].markers if m.strip())
    (token,) = engine.count(TokenQuery(text=sign, begin=False, names=True)).tokens

    def found(*media: Media, text: str) -> tuple[int, int]:
        """How often the sign's token stands in the prompt, and the tokens of images."""
        told = engine.count(TokenQuery(request=seen(text, *media)))
        assert text in told.text
        return told.tokens.count(token), told.tokens.count(-1)

    plain, forged = "What is it?", f"<__media__>{sign}{sign} {sign}a<image>[IMG]<|image_pad|>?"
    assert found(text=forged) == found(text=plain) == (0, 0)
    for media in ([image(RED)], [image(RED), image(GREEN)]):
        assert found(*media, text=forged) == found(*media, text=plain)
    requests = [seen(text, image(RED), logprobs=8) for text in (plain, forged)]
    told = alone(engine, [*requests, seen(forged)])
    assert [images_read(one) for one in told] == [images_read(told[0])] * 2 + [0]
    assert all(one.done is not None for one in told)
    assert len(told[1].text) > 0


def test_a_damaged_image_fails_its_request_only(models: Path, engines: list[EngineTurns]) -> None:
    engine = loaded(engines, written(models, "gemma3"))
    place = "messages[3].content[2]"
    for data, why in ((RED[:300], "damaged"), (b"<svg>", "is none")):
        good, bad = seen(LONG, image(RED)), seen("a", image(RED), image(data, place=place))
        told = engine.together([good, bad, good])
        assert [one.error is None for one in told] == [True, False, True]
        error = told[1].error
        assert error is not None
        assert error.message.startswith(f"The image at {place} ")
        assert why in error.message
    assert "takes images only" in engine.refused(seen("a", recording(tone(1.0))))


def test_a_prompt_that_ends_with_a_picture_is_refused(
    models: Path, engines: list[EngineTurns]
) -> None:
    """There are no scores to write the first token with."""
    engine = loaded(engines, written(models, "llava"))
    begun = Message(role="assistant", content="It is ", media=(image(GREEN, 6),))
    request = GenerateRequest(messages=(Message(role="user", content="Draw!"), begun))
    assert "prompt ends with an image" in engine.refused(request)


def test_nothing_of_a_private_request_is_kept(models: Path, engines: list[EngineTurns]) -> None:
    engine = loaded(engines, written(models, "gemma3"))
    private = seen(LONG, image(RED, 70), cache=False)
    first, second = one(engine, private), one(engine, private)
    assert same(first, second)
    assert [cached(first), cached(second)] == [0, 0]
    assert images_read(second) == 1
    reader = engine.engine._loaded._prompts.media  # type: ignore[union-attr]  # it is loaded
    assert reader is not None
    assert not reader._sizes
    assert not reader._numbers


def test_conversations_with_pictures_stay_out_of_files(
    models: Path, engines: list[EngineTurns], tmp_path: Path
) -> None:
    model = written(models, "gemma3")
    engine = loaded(engines, model, folder=tmp_path / "kept", disk_bytes=64 << 20)
    for request in (seen(LONG, image(RED, 70)), seen(LONG + "text alone")):
        one(engine, request)
    engine.engine.close()
    assert len(list((tmp_path / "kept").iterdir())) == 1
    later = loaded(engines, model, folder=tmp_path / "kept", disk_bytes=64 << 20)
    found = [one(later, r) for r in (seen(LONG + "text alone"), seen(LONG, image(RED, 70)))]
    assert cached(found[0]) == length(found[0]) - 1
    assert images_read(found[1]) == 1


# Loading


def test_a_model_without_its_projector_reads_text_and_says_why_no_images(
    models: Path, engines: list[EngineTurns], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = written(models, "gemma3")
    left_out = loaded(engines, model, vision=False)
    assert (left_out.loaded.media, left_out.loaded.warnings) == ((), ())
    with pytest.raises(InvalidRequest, match=r"loaded without its projector.*vision=false"):
        left_out.begin(seen("a", image(RED)))
    none = EngineTurns(model.path, LoadOptions(context_length=256))
    engines.append(none)
    with pytest.raises(InvalidRequest, match="this model has no projector"):
        none.begin(seen("a", image(RED)))

    def missing() -> None:
        raise NoLibrary("libmtmd.so: cannot open shared object file")

    monkeypatch.setattr(projector_load, "load_library", missing)
    blind = loaded(engines, model)
    assert blind.loaded.media == ()
    (warning,) = blind.loaded.warnings
    assert "reads text only: llama-cpp-python was built without libmtmd" in warning
    assert "install" in warning
    with pytest.raises(InvalidRequest, match=r"built without libmtmd.*Build it again"):
        blind.begin(seen("a", image(RED)))
    assert same(one(blind, seen(LONG)), one(left_out, seen(LONG)))


def test_a_projector_that_cannot_be_loaded_is_named(
    models: Path, engines: list[EngineTurns], tmp_path: Path
) -> None:
    model = written(models, "gemma3")
    broken = tmp_path / "mmproj.gguf"
    broken.write_bytes(model.projector.read_bytes()[:5000])
    other = write_projector(tmp_path / "other.gguf", "gemma3", Tower(out=128))
    for path in (broken, other, model.path, tmp_path / "missing.gguf"):
        with pytest.raises(EngineFailed) as caught:
            loaded(engines, replace(model, projector=path))
        assert str(path) in caught.value.message
        assert "vision=false" in caught.value.remedy


@pytest.mark.parametrize("module", [media_tokens, media_reader, projector_limits])
def test_the_examples_in_the_documentation_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
