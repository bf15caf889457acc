"""A request for an answer becomes one for an engine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modeldeck.core.api.openai.structure_schema import STRUCTURES, one_structure
from modeldeck.core.api.responses.items import Item, messages_of, tools_in
from modeldeck.core.api.responses.request import AnswerBody, ConversationBody
from modeldeck.core.api.responses.tools import ToolOffer, offer
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import GenerateRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRequest:
    """What an engine is asked, and the client's names of the tools."""

    request: GenerateRequest
    offer: ToolOffer


def input_items(body: ConversationBody) -> list[Item]:
    """The items of a request; a text is a message of the user, an empty one is none."""
    if isinstance(body.input, str) and body.input:
        text = {"type": "input_text", "text": body.input}
        return [{"type": "message", "role": "user", "content": [text]}]
    return list(body.input or ())


def question(body: ConversationBody, items: Sequence[Item]) -> ConversationRequest:
    """The request to an engine for the whole conversation. Raises InvalidRequest.

    `items` are those of earlier answers and of this request, with references resolved.
    """
    body.check()
    offered = offer([*(body.tools or ()), *tools_in(items)], body.tool_choice)
    messages = messages_of(items, body.instructions)
    if not messages:
        raise InvalidRequest("There is nothing to answer.", "Send an input.")
    request = GenerateRequest(
        messages=messages,
        strict_schema=body.text is None or body.text.is_strict,
        tools=offered.tools,
        tool_choice=offered.choice,
        template_options=body.chat_template_kwargs or {},
        **body.thinking_asked(),
        **(body.text.structure() if body.text is not None else {}),
    )
    return ConversationRequest(request=request, offer=offered)


def with_sampling(request: GenerateRequest, body: AnswerBody) -> GenerateRequest:
    """The request with how it is to be answered. Raises InvalidRequest."""
    sampling = body.sampling()
    followed = one_structure(
        {name: sampling.pop(name) for name in STRUCTURES if name in sampling},
        body.text.structure() if body.text is not None else {},
    )
    if body.max_output_tokens is not None:
        sampling["max_tokens"] = body.max_output_tokens
    return replace(request, logprobs=body.logprobs(), **followed, **sampling)
