"""Answers that a program can use: JSON of a schema, calls of functions, vectors of texts.

python tests/examples/structured.py http://127.0.0.1:5323 qwen3-0.6b qwen3-embedding-0.6b
"""

import asyncio
import json
import sys
from typing import Any

from modeldeck.core.client import Client
from modeldeck.core.schema import Chunk, GenerateRequest, Message, Tool

ANSWER = {
    "type": "object",
    "properties": {"sunny": {"type": "boolean"}},
    "required": ["sunny"],
    "additionalProperties": False,
}
WEATHER = Tool(
    name="weather",
    description="What the weather is like at a place.",
    parameters={
        "type": "object",
        "properties": {"place": {"type": "string", "maxLength": 20}},
        "required": ["place"],
    },
)


async def whole(client: Client, model: str, **asked: Any) -> tuple[str, Chunk]:
    """The text of an answer, and its last piece: why it ended, the calls, the counts."""
    question = (Message(role="user", content=asked.pop("question")),)
    request = GenerateRequest(messages=question, temperature=0, **asked)
    async with client.generate(model, request) as chunks:
        pieces = [chunk async for chunk in chunks]
    return "".join(piece.text for piece in pieces), pieces[-1]


async def structured(client: Client, model: str) -> bool:
    """A yes or no, as JSON that cannot be anything else."""
    text, _ = await whole(client, model, question="Is it sunny?", json_schema=ANSWER)
    return bool(json.loads(text)["sunny"])


async def called(client: Client, model: str) -> dict[str, Any]:
    """The arguments of the call that the model was told to make."""
    _, last = await whole(
        client, model, question="How is it outside?", tools=(WEATHER,), tool_choice="weather"
    )
    (call,) = last.tool_calls
    return dict(json.loads(call.arguments))


async def near(client: Client, model: str, one: str, other: str) -> float:
    """How near two texts are: the cosine of the angle between their vectors, at most 1."""
    a, b = await client.embed(model, [one, other])
    return sum(x * y for x, y in zip(a, b, strict=True))


async def main(url: str, model: str, embedding_model: str) -> None:
    """All three."""
    async with Client(url=url) as client:
        print(await structured(client, model))
        print(await called(client, model))
        print(await near(client, embedding_model, "a cat", "a kitten"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
