"""Images between the turns of a llama.cpp context, where other requests are answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.errors import Cancelled
from modeldeck.core.runtime.media import image_files
from modeldeck.core.runtime.process.messages import TextPiece
from modeldeck.core.schema import TokenQuery
from tests.core.runtime.engines.llama.seeing import (
    GREEN,
    LONG,
    RED,
    alone,
    engines,
    images_read,
    loaded,
    models,
    one,
    same,
    written,
)
from tests.support.engine_turns import EngineTurns
from tests.support.pictures import image, picture, seen

__all__ = ["engines", "models"]


def test_a_request_that_is_cancelled_before_its_picture_harms_no_other(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine = loaded(engines, written(models, "qwen2vl"))
    gone, stays = seen(LONG, image(RED, 9)), seen(LONG[9:], image(GREEN, 20))
    (told,) = alone(engine, [stays])
    numbers = [engine.begin(replace(request, logprobs=8)) for request in (gone, stays)]
    engine.run(lambda: bool(engine.told[numbers[0]].progress[-1:]) and _is_due(engine, numbers[0]))
    engine.engine.cancel(numbers[0])
    engine.run()
    assert images_read(engine.told[numbers[0]]) == 1, "it was told that it is read next"
    assert same(engine.told[numbers[1]], told)
    # All that is in work is cancelled: the turn is given up, and what was read stays.
    number = engine.begin(gone)
    engine.run(lambda: _is_due(engine, number))
    engine.flag.set()
    with pytest.raises(Cancelled):
        engine.step()
    engine.flag.clear()
    engine.engine.cancel(number)
    assert same(one(engine, stays), told)


def test_images_are_taken_in_one_between_two_turns(
    models: Path, engines: list[EngineTurns]
) -> None:
    engine = loaded(engines, written(models, "gemma3"))
    (told,) = alone(engine, [seen(LONG, max_tokens=40)])
    writer = engine.begin(seen(LONG, logprobs=8, max_tokens=40))
    engine.run(lambda: len(engine.told[writer].logprobs) > 2)
    many = engine.begin(seen("a", *[image(picture("red", (n, 9))) for n in range(10, 18)]))
    gone = engine.begin(seen("b", image(picture("red", (30, 30)))))
    before = len(engine.told[writer].logprobs)
    for _ in range(7):
        engine.step()
        assert not engine.told[many].progress
    assert len(engine.told[writer].logprobs) == before + 7, "others write meanwhile"
    engine.engine.cancel(gone)
    engine.engine.pause(many)
    engine.run()
    assert same(engine.told[writer], told)
    assert not engine.told[many].progress
    engine.engine.resume(many)
    engine.run()
    assert engine.told[many].done is not None
    assert not engine.told[gone].over


def test_counting_takes_images_in_one_between_two_turns_as_well(
    models: Path, engines: list[EngineTurns], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(engines, written(models, "idefics3"))
    decoded: list[int] = []
    decode = image_files.decode

    def counted(*arguments: Any) -> Any:
        decoded.append(1)
        return decode(*arguments)

    monkeypatch.setattr(image_files, "decode", counted)
    writer = engine.begin(seen(LONG, max_tokens=40))
    engine.run(lambda: bool(engine.told[writer].text))
    many = [image(picture("red", (n, 9))) for n in range(10, 18)]
    asked = engine.begin_count(TokenQuery(request=seen("a", *many), count_only=True))
    gone = engine.begin_count(TokenQuery(request=seen("b", *many)))
    assert not decoded, "it is left to the turns"
    for turn in range(1, 9):
        assert not engine.told[asked].over
        reports = engine.step()
        assert len(decoded) == turn
        assert any(isinstance(report, TextPiece) for report in reports), "others write meanwhile"
    assert engine.told[asked].counted is not None
    engine.engine.cancel(gone)
    engine.run()
    assert engine.told[writer].done is not None
    assert len(decoded) == 8
    assert not engine.told[gone].over
    damaged = engine.begin_count(TokenQuery(request=seen("a", image(RED[:300]))))
    engine.run()
    error = engine.told[damaged].error
    assert error is not None
    assert "damaged" in error.message


def _is_due(engine: EngineTurns, number: int) -> bool:
    progress = engine.told[number].progress
    return bool(progress) and bool(progress[-1].media)
