"""Tokenizes conversations by the chat template of a model's tokenizer."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.base import TEMPLATE_BYTES, TEMPLATE_S, TOKENS_S, say
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.text.chat_prompt import (
    CHATML,
    ChatPrompt,
    ChatTemplate,
    nothing_written,
    refused,
    tool_records,
    turns,
    wants_tools,
)
from modeldeck.core.runtime.text.thoughts import FORMATS, opened_by
from modeldeck.core.schema import GenerateRequest, Message

_TAIL = 16
"""Tokens at the end of a prompt among which a thought is opened."""


class MlxChat:
    """A tokenizer's chat templates.

    Jinja templates are rendered as llama.cpp's are, with the same bounds. A few models have a
    renderer in Python that comes with mlx-lm or transformers, never with the model; it is called.
    """

    def __init__(self, tokenizer: Any, bounds: Bounds) -> None:
        """`tokenizer` is a `mlx_lm.tokenizer_utils.TokenizerWrapper`."""
        self._tokenizer = tokenizer
        self._bounds = bounds
        self._templates: dict[str, ChatTemplate] = {}
        """Templates by source: a tokenizer may have another one for tools."""
        self.has_no_template = not tokenizer.has_chat_template
        """Whether the model has no chat template."""
        if self.has_no_template:
            say("warning", "the model brings no chat template; using ChatML")

    def tokens(self, request: GenerateRequest) -> tuple[list[int], ChatPrompt]:
        """Tokenize a conversation; also returns how its answer is read.

        Raises InvalidRequest, and Cancelled.
        """
        source = self._source(request)
        if source is None:
            found = self._bounds.run(
                "The model's chat renderer", partial(self._by_renderer, request), cpu_s=TOKENS_S
            )
            chat = self._rendered(found)
        else:
            chat = self._bounds.run(
                "The model's chat template",
                partial(self._template(source).prompt, request),
                cpu_s=TEMPLATE_S,
                memory_bytes=TEMPLATE_BYTES,
            )
            found = self._bounds.run(
                "Turning the text into tokens",
                lambda: list(self._tokenizer.encode(chat.text, add_special_tokens=False)),
                cpu_s=TOKENS_S,
            )
        if not found:
            raise nothing_written()
        return found, chat

    def _rendered(self, tokens: list[int]) -> ChatPrompt:
        """How the answer to a conversation that Python code rendered is read."""
        text = str(self._tokenizer.decode(tokens[-_TAIL:]))
        inside = opened_by(text, FORMATS)
        may_think = bool(self._tokenizer.has_thinking)
        return ChatPrompt(text=text, formats=FORMATS, inside=inside, may_think=may_think)

    def system_tokens(self, request: GenerateRequest) -> list[int]:
        """Tokens that begin like a conversation as far as its system prompt reaches.

        None where it has no system prompt, or where the template refuses an empty question.
        """
        system = tuple(takewhile(lambda message: message.role == "system", request.messages))
        if not system:
            return []
        try:
            question = Message(role="user", content="")
            return self.tokens(replace(request, messages=(*system, question)))[0]
        except InvalidRequest:
            return []

    def _source(self, request: GenerateRequest) -> str | None:
        """The template for a request; None where the model has a renderer instead."""
        if self.has_no_template:
            return CHATML
        if self._has_renderer():
            return None
        templates = self._tokenizer.chat_template
        if isinstance(templates, str):
            return templates
        if isinstance(templates, dict):
            names = ("tool_use", "default") if wants_tools(request) else ("default",)
            return next((templates[name] for name in names if name in templates), None)
        return None

    def _has_renderer(self) -> bool:
        """Whether conversations are rendered by Python code of mlx-lm or transformers."""
        if getattr(self._tokenizer, "_chat_template", None) is not None:
            return True
        base: Any = importlib.import_module("transformers").PreTrainedTokenizerBase
        own = getattr(type(self._tokenizer._tokenizer), "apply_chat_template", None)
        return own is not base.apply_chat_template

    def _template(self, source: str) -> ChatTemplate:
        if source not in self._templates:
            tokenizer = self._tokenizer
            # Variables that transformers and mlx-lm add (apply_chat_template).
            thinking = getattr(tokenizer, "_thinking_kwarg", "enable_thinking")
            values = {**tokenizer.special_tokens_map, thinking: tokenizer.has_thinking}
            self._templates[source] = ChatTemplate(source, values)
        return self._templates[source]

    def _by_renderer(self, request: GenerateRequest) -> list[int]:
        more = {"tools": tool_records(request.tools)} if wants_tools(request) else {}
        try:
            render = partial(
                self._tokenizer.apply_chat_template, add_generation_prompt=True, **more
            )
            try:
                return list(render(turns(request.messages)))
            except TypeError:  # some concatenate the call arguments as text
                return list(render(turns(request.messages, as_text=True)))
        except Exception as error:
            raise refused(error) from error
