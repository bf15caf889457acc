"""A schema made to hang an engine, and an engine that is stopped, by way of a real core."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess
from tests.support.signals import suspend

from .conftest import Api

TINY = "deck/tiny-GGUF:F16"


@pytest.fixture
def api(home: Path, hub: DemoHub) -> Iterator[Api]:
    """A core that waits five seconds for a sign of life."""
    environ = {**os.environ, "HF_ENDPOINT": hub.url, "MODELDECK_RUNTIME_SILENCE_S": "5"}
    with CoreProcess(environ) as core:
        yield Api(core)


def question(**more: Any) -> dict[str, Any]:
    messages = [{"role": "developer", "content": "Brief."}, {"role": "user", "content": "count"}]
    return {"model": TINY, "messages": messages, "temperature": 0, "max_tokens": 4, **more}


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return question(response_format=form)


def test_an_engine_is_held_up_by_no_schema_and_replaced_when_it_is_stopped(api: Api) -> None:
    api.pull(TINY)
    right = api.post("/v1/chat/completions", question())["choices"][0]["message"]["content"]
    assert right == "One two three four"
    pid = api.state()["instances"][0]["pid"]

    circle = {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}
    for schema, words in (
        (circle, "$ref"),
        ({"type": {}}, "type"),
        ({"required": [{}]}, "required"),
        ({"enum": 3}, "enum"),
    ):
        error = api.post("/v1/chat/completions", with_schema(schema), status=400)["error"]
        assert words in error["message"]
    api.post("/api/chat", {**question(), "format": circle, "stream": False}, status=400)
    assert api.state()["instances"][0]["pid"] == pid

    suspend(pid)
    started = time.monotonic()
    error = api.post("/v1/chat/completions", question(), status=500)["error"]
    assert "The engine does not answer" in error["message"]
    assert "the model is loaded again" in error["message"]
    assert time.monotonic() - started >= 5
    again = api.post("/v1/chat/completions", question())["choices"][0]["message"]["content"]
    assert again == right
    (instance,) = api.state()["instances"]
    assert (instance["restarts"], instance["pid"] != pid) == (1, True)
