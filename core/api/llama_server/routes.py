"""Routes of llama-server beside OpenAI's: tokens of texts and conversations, chat without `/v1`.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from typing import Any

from modeldeck.core.api.dialect_routes import ASKING, dialect_route
from modeldeck.core.api.http.messages import EVENTS_TYPE
from modeldeck.core.api.http.router import Handler, Route
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
from modeldeck.core.api.openai.chat import chat
from modeldeck.core.api.openai.chat_answer import Completion, CompletionChunk
from modeldeck.core.api.openai.chat_request import ChatBody


def _route(path: str, handler: Handler, summary: str, **more: Any) -> Route:
    given = {"tag": "llama-server", "error_style": "openai", **ASKING, **more}
    return dialect_route("POST", f"/{path}", handler, summary, **given)


ROUTES: tuple[Route, ...] = (
    _route("chat/completions", chat, "Answer a conversation, for programs that leave /v1 out",
           operation_id="llamaChat", body=ChatBody, answer=Completion,
           streams=(EVENTS_TYPE, CompletionChunk)),
    _route("tokenize", tokenize, "Turn a text into tokens",
           operation_id="llamaTokenize", body=TokenizeBody, answer=TextTokens),
    _route("detokenize", detokenize, "Turn tokens into text",
           operation_id="llamaDetokenize", body=DetokenizeBody, answer=PlainContent),
    _route("apply-template", apply_template, "Write a conversation as the model reads it",
           operation_id="llamaApplyTemplate", body=ChatBody, answer=WrittenPrompt),
    _route("v1/chat/completions/input_tokens", count_chat, "Count the tokens of a conversation",
           operation_id="llamaCountChat", body=ChatBody, answer=InputTokens),
)  # fmt: skip
