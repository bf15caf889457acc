"""An engine in a process with devices: plans and loads what stdin names, and says what it found.

Each line of stdin is a JSON object {"path", "options", "draft"}, which is answered by a line with
the plan. The next line has the model loaded, which is answered by what llama.cpp counts for the
real context; the line after that has the model given back.
"""

import json
import os
import sys
from dataclasses import replace
from typing import Any

import msgspec

from modeldeck.core.errors import DeckError
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.devices import Devices
from modeldeck.core.runtime.engines.llama.engine import LlamaEngine
from modeldeck.core.runtime.process.messages import LoadModel, PlanLoad
from modeldeck.core.schema import GenerateRequest, LoadOptions

CONTEXT = 2048


def counted(engine: Any) -> dict[str, int]:
    """Bytes by device, of the real context; "" is the machine."""
    devices = Devices(engine._c)
    found: dict[str, int] = {}
    for count in devices.counts(engine._loaded._context):
        device = devices.device_of(count.buffer_type)
        name = device.name if device else ""
        found[name] = found.get(name, 0) + count.weights + count.kv + count.compute
    return found


def work(engine: LlamaEngine, asked: dict[str, Any], say: Any) -> None:
    options = msgspec.convert(asked["options"], LoadOptions)
    planned = engine.plan(
        PlanLoad(
            id=1,
            path=asked["path"],
            options=options,
            default_context=CONTEXT,
            draft=asked.get("draft"),
        )
    )
    say(msgspec.to_builtins(planned))
    sys.stdin.readline()
    command = LoadModel(
        id=1,
        path=asked["path"],
        options=replace(options, mmap=False),
        default_context=CONTEXT,
        draft=asked.get("draft"),
    )
    engine.load(command, lambda *_: None)
    if asked.get("fill"):
        loaded = engine._loaded
        assert loaded is not None
        length = engine._c.llama_n_ctx(loaded._context)
        request = GenerateRequest(prompt="a" * (length - 6), max_tokens=4, temperature=0)
        engine.begin(1, request)
        while engine.working:
            engine.step()
    say(counted(engine))


def main() -> None:
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: object) -> None:
        output.write(json.dumps(answer) + "\n")
        output.flush()

    engine = LlamaEngine(Flag())
    engine.hello()
    for line in sys.stdin:
        try:
            work(engine, json.loads(line), say)
        except DeckError as error:
            say({"error": str(error)})
        sys.stdin.readline()
        engine._release()


main()
