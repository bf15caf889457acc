"""Every field of a request that Anthropic's client knows is honoured, refused or harmless here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import anthropic.types as sdk
import anthropic.types.beta as beta
import pytest
from anthropic.types import content_block_param, thinking_config_param, tool_choice_param
from anthropic.types.beta import message_count_tokens_params as beta_count
from anthropic.types.beta import message_create_params as beta_create
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from modeldeck.core.api.anthropic.conversation import Block, TurnForm
from modeldeck.core.api.anthropic.request import (
    CountTokensBody,
    MessagesBody,
    OutputConfig,
    OutputFormat,
    ThinkingForm,
    ToolChoiceForm,
    ToolEntry,
)

HARMLESS: Mapping[type, Mapping[str, str]] = {
    CountTokensBody: {
        "betas": "a header names them, and what they bring is told by other fields",
        "billing_policy": "concerns the bill",
        "cache_control": "every prefix is kept as long as there is room",
        "compaction": "the client compacts a conversation itself where the server does not",
        "container": "holds files of tools that do not run here",
        "context_management": "what a server may leave out of a prompt; nothing is left out",
        "diagnostics": "asks for facts about Anthropic's cache",
        "fallback_credit_token": "concerns the bill",
        "fallbacks": "other models, should this one refuse",
        "inference_geo": "where to compute",
        "mcp_servers": "tools that Anthropic's servers would call",
        "metadata": "names the user",
        "service_tier": "concerns the bill",
        "speed": "a faster kind of service",
        "thread": "names a conversation of Anthropic's own apps",
        "user_profile_id": "names the user",
        "workspace_id": "names the customer",
    },
    TurnForm: {},
    Block: {
        "cache_control": "every prefix is kept as long as there is room",
        "caller": "who made a call, the model or a tool of Anthropic's",
        "citations": "where a text is from, or whether to tell",
        "data": "an encrypted thought of another server, which is left out",
        "file_id": "a file of tools that do not run here",
        "toolset_name": "a set of tools of Anthropic's own",
        "transformations": "of an image, which Anthropic's own servers would do",
    },
    ToolEntry: {
        "allowed_callers": "which of Anthropic's tools may call it",
        "cache_control": "every prefix is kept as long as there is room",
        "defer_loading": "there is no search for tools here: the model gets every tool",
        "eager_input_streaming": "the input of a call comes in one piece",
    },
    ToolChoiceForm: {},
    ThinkingForm: {},
    OutputConfig: {
        "task_budget": "a budget for all requests of a task, which only the client knows"
    },
    OutputFormat: {},
}
"""Fields that change no answer, and why, by our type that has the others."""

TYPES: list[tuple[Any, type]] = [
    (MessageCreateParamsStreaming, MessagesBody),
    (beta_create.MessageCreateParamsStreaming, MessagesBody),
    (sdk.MessageCountTokensParams, CountTokensBody),
    (beta_count.MessageCountTokensParams, CountTokensBody),
    *((each, TurnForm) for each in get_args(sdk.MessageParam)),
    *((each, Block) for each in get_args(content_block_param.ContentBlockParam)),
    (sdk.ToolParam, ToolEntry),
    (beta.BetaToolParam, ToolEntry),
    *((each, ToolChoiceForm) for each in get_args(tool_choice_param.ToolChoiceParam)),
    *((each, ThinkingForm) for each in get_args(thinking_config_param.ThinkingConfigParam)),
    (sdk.OutputConfigParam, OutputConfig),
    (beta.BetaOutputConfigParam, OutputConfig),
    (sdk.JSONOutputFormatParam, OutputFormat),
]


@pytest.mark.parametrize(
    ("theirs", "ours"), TYPES, ids=lambda kind: f"{kind.__module__.split('.')[0]}:{kind.__name__}"
)
def test_no_field_is_passed_over_in_silence(theirs: Any, ours: type[Any]) -> None:
    harmless = HARMLESS[CountTokensBody if ours is MessagesBody else ours]
    honoured = {field.name for field in fields(ours)}
    assert not honoured & set(harmless)
    assert set(theirs.__annotations__) <= honoured | set(harmless)


def test_the_table_has_no_field_that_is_gone() -> None:
    known = {name for theirs, _ in TYPES for name in theirs.__annotations__}
    assert {name for table in HARMLESS.values() for name in table} <= known
