"""Routes that llama-server has besides OpenAI's: tokens of texts and of conversations.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from typing import Any

from modeldeck.core.api.http.router import Handler, Route
from modeldeck.core.api.inference import RAISES
from modeldeck.core.api.llama_server.tokens import (
    DetokenizeBody,
    InputTokens,
    PlainContent,
    TextTokens,
    TokenizeBody,
    WrittenPrompt,
    apply_template,
    count_chat,
    detokenize,
    tokenize,
)
from modeldeck.core.api.openai.chat_schema import ChatBody
from modeldeck.core.errors import NotDownloaded


def _route(path: str, handler: Handler, summary: str, **more: Any) -> Route:
    return Route(
        method="POST",
        template=f"/{path}",
        summary=summary,
        tag="llama-server",
        handler=handler,
        error_style="openai",
        statuses={NotDownloaded: 404},
        body_required=True,
        cancel_when_gone=True,
        asks=True,
        raises=RAISES,
        **more,
    )


ROUTES: tuple[Route, ...] = (
    _route("tokenize", tokenize, "Turn a text into tokens",
           operation_id="llamaTokenize", body=TokenizeBody, answer=TextTokens),
    _route("detokenize", detokenize, "Turn tokens into text",
           operation_id="llamaDetokenize", body=DetokenizeBody, answer=PlainContent),
    _route("apply-template", apply_template, "Write a conversation as the model reads it",
           operation_id="llamaApplyTemplate", body=ChatBody, answer=WrittenPrompt),
    _route("v1/chat/completions/input_tokens", count_chat, "Count the tokens of a conversation",
           operation_id="llamaCountChat", body=ChatBody, answer=InputTokens),
)  # fmt: skip
