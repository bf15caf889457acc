"""Converts a request for text to the OpenAI API's form, and its streamed answer to chunks. Pure.

The core generates text through its OpenAI API only.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import msgspec

from modeldeck.core import schema
from modeldeck.core.client.answers import record
from modeldeck.core.formats.media_files import media_type

_PLAIN = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repeat_penalty", "seed", "stop", "grammar", "max_tokens"),
    *("repeat_last_n", "typical_p", "top_n_sigma", "mirostat", "mirostat_tau", "mirostat_eta"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
    *("dry_sequence_breakers", "xtc_probability", "xtc_threshold"),
)
"""Fields that have the same name and form in the OpenAI API."""

_TIMINGS = ("tokens_per_s", "time_to_first_token_s")

_NO_LIMIT = 1 << 24
"""Tokens, for `max_tokens`: without it a completion ends after 16."""


def request_for(ref: str, request: schema.GenerateRequest) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of the request for a streamed answer."""
    body: dict[str, Any] = {
        "model": ref,
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name in _PLAIN if (value := getattr(request, name)) not in (None, ())},
    }
    if request.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in request.logit_bias.items()}
    if request.regex is not None:
        body["guided_regex"] = request.regex
    if not request.messages:
        body |= {"prompt": request.prompt or "", "logprobs": request.logprobs}
        body |= {"suffix": request.suffix} if request.suffix else {}
        return "/v1/completions", {"max_tokens": _NO_LIMIT} | body
    body["messages"] = [_message(message) for message in request.messages]
    body |= _thinking(request)
    if request.json_schema is not None:
        named = {"name": "answer", "schema": request.json_schema, "strict": request.strict_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if request.tools:
        tools = [{"type": "function", "function": tool} for tool in request.tools]
        body |= {"tools": msgspec.to_builtins(tools), "tool_choice": _choice(request.tool_choice)}
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    return "/v1/chat/completions", body


def _message(message: schema.Message) -> dict[str, Any]:
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in message.tool_calls
    ]
    return {
        "role": message.role,
        "content": _parts(message) if message.media else message.content,
        **({"reasoning_content": message.thought} if message.thought else {}),
        **({"tool_calls": calls} if calls else {}),
        **({"tool_call_id": message.tool_call_id} if message.tool_call_id else {}),
    }


def _parts(message: schema.Message) -> list[dict[str, Any]]:
    """The content of a message with images or recordings, in order."""
    parts: list[dict[str, Any]] = []
    at = 0
    for media in message.media:
        if media.at > at:
            parts.append({"type": "text", "text": message.content[at : media.at]})
        at = media.at
        parts.append(_media(media))
    if at < len(message.content):
        parts.append({"type": "text", "text": message.content[at:]})
    return parts


def _media(media: schema.Media) -> dict[str, Any]:
    data = base64.b64encode(media.data).decode()
    name = media_type(media.data) or "application/octet-stream"
    if media.kind == "audio":
        form = {"audio/mpeg": "mp3"}.get(name, name.rpartition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
    return {"type": "image_url", "image_url": {"url": f"data:{name};base64,{data}"}}


def _thinking(request: schema.GenerateRequest) -> dict[str, Any]:
    found = {
        "enable_thinking": request.thinking,
        "reasoning_effort": request.thinking_effort,
        "thinking_budget": request.thinking_budget,
        "chat_template_kwargs": request.template_options or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _choice(choice: str | None) -> str | dict[str, Any] | None:
    if choice is None or choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


async def chunks(events: AsyncIterator[dict[str, Any]]) -> AsyncGenerator[schema.Chunk, None]:
    """Yield a streamed answer; the last chunk has the finish reason, tool calls and counts."""
    finish: dict[str, Any] = {}
    started = time.monotonic()
    first_s: float | None = None
    async for event in events:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            logprobs = _logprobs(choice.get("logprobs"))
            if thought := delta.get("reasoning_content") or "":
                first_s = first_s or time.monotonic() - started
                yield schema.Chunk(thought=thought)
            if (text := delta.get("content") or choice.get("text") or "") or logprobs:
                first_s = first_s or time.monotonic() - started
                yield schema.Chunk(text=text, logprobs=logprobs)
            if calls := delta.get("tool_calls"):
                finish["tool_calls"] = [{"id": c.get("id"), **c["function"]} for c in calls]
            finish["finish_reason"] = choice.get("finish_reason") or finish.get("finish_reason")
            if choice.get("stop_reason") == "repetition":
                finish["looped"] = True
        if usage := event.get("usage"):
            finish["prompt_tokens"] = usage.get("prompt_tokens")
            finish["completion_tokens"] = usage.get("completion_tokens")
            details = usage.get("completion_tokens_details") or {}
            finish["thought_tokens"] = details.get("reasoning_tokens")
            details = usage.get("prompt_tokens_details") or {}
            finish["cached_tokens"] = details.get("cached_tokens")
        timings = event.get("timings") or {}
        finish.update({k: timings[k] for k in _TIMINGS if k in timings})
    finish.setdefault("time_to_first_token_s", first_s)
    yield record(schema.Chunk, finish)


def _logprobs(form: Mapping[str, Any] | None) -> tuple[schema.TokenLogprob, ...]:
    """Return the logprobs of a chunk, which a chat and a completion write differently."""
    if not form:
        return ()
    if "tokens" in form:
        rows = zip(form["tokens"], form["token_logprobs"], form["top_logprobs"], strict=True)
        return tuple(
            schema.TokenLogprob(token=token, logprob=logprob, top=tuple(top.items()))
            for token, logprob, top in rows
        )
    return tuple(
        schema.TokenLogprob(
            token=token["token"],
            logprob=token["logprob"],
            top=tuple((other["token"], other["logprob"]) for other in token["top_logprobs"]),
        )
        for token in form["content"]
    )
