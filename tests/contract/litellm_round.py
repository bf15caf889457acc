"""Drives litellm's providers for our dialects, and prints what came back as JSON.

A program of its own: litellm has dependencies that our environment has not.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # type: ignore[import-not-found] # it is in an environment of its own

litellm.telemetry = False
litellm.suppress_debug_info = True

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def drive(provider: str, base: str, model: str) -> dict[str, Any]:
    """What a provider gives: text, its stream, a call and its round, a thought, errors."""
    given: dict[str, Any] = {
        "model": f"{provider}/{model}",
        "api_base": base,
        "api_key": "none",
        "max_retries": 0,
        "temperature": 0,
        "max_tokens": 200,
    }
    told: dict[str, Any] = {}
    ask = litellm.completion
    told["text"] = ask(messages=said("count"), **given).choices[0].message.content
    pieces = ask(messages=said("count"), stream=True, **given)
    told["streamed"] = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    thought = ask(messages=said("think"), **given).choices[0].message
    told["thought"] = [getattr(thought, "reasoning_content", None), thought.content]
    if provider != "ollama":  # which writes tools into the prompt by itself
        called = ask(messages=said("Will it rain?"), tools=[TOOL], **given).choices[0].message
        (call,) = called.tool_calls
        told["call"] = [call.function.name, json.loads(call.function.arguments)]
        result = {"role": "tool", "tool_call_id": call.id, "content": "count the clouds"}
        turns = [*said("Will it rain?"), called.model_dump(exclude_none=True), result]
        told["round"] = ask(messages=turns, tools=[TOOL], **given).choices[0].message.content
    try:
        ask(messages=said("count " * 9000), **given)
    except litellm.BadRequestError as error:
        told["full"] = [type(error).__name__, "maximum context length" in str(error)]
    return told


def main(url: str, model: str) -> None:
    bases = {"openai": f"{url}/v1", "anthropic": url, "ollama": url, "ollama_chat": url}
    told: dict[str, Any] = {name: drive(name, base, model) for name, base in bases.items()}
    answer = litellm.responses(
        model=f"openai/{model}", input="count", api_base=f"{url}/v1", api_key="none", temperature=0
    )
    told["responses"] = answer.output[0].content[0].text
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
