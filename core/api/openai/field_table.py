"""What becomes of every field of a request: honoured, refused or harmless.

A field is honoured where the body's class has it. One that would change the answer and is not
supported is refused in words, unless it has a value that changes nothing. One that is harmless
concerns a server's own affairs or only the speed. Unknown fields are passed over: programs send
many.

Sources: OpenAI's API reference, tools/server/README.md of github.com/ggml-org/llama.cpp, and
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modeldeck.core.api.http.messages import Request, convert
from modeldeck.core.errors import InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldTable:
    """The fields of a request that are not honoured."""

    refused: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Refused fields, each with the values that change nothing; null and empty ones never do."""
    harmless: frozenset[str] = frozenset()

    def check(self, given: object) -> None:
        """Raise InvalidRequest for a refused field."""
        if not isinstance(given, dict):
            return
        for name, plain in self.refused.items():
            value = given.get(name)
            if value not in (None, "", [], {}) and not any(_same(value, one) for one in plain):
                raise InvalidRequest(f"{name} is not supported.", "Leave it out.")


def _same(value: object, plain: object) -> bool:
    """Whether a value is one that changes nothing: 0 is not false here."""
    return value == plain and isinstance(value, bool) == isinstance(plain, bool)


def parsed(request: Request, type_: type[T], table: FieldTable) -> T:
    """The body of a request. Raises InvalidRequest, for refused fields as well."""
    return read(request.json(), type_, table)


def read(given: Any, type_: type[T], table: FieldTable) -> T:
    """A decoded body as its record. Raises InvalidRequest, for refused fields as well."""
    table.check(given)
    return convert({} if given is None else given, type_, "The body")


_ACCOUNT = frozenset({"user", "store", "metadata", "service_tier", "safety_identifier"})
"""Fields for the service that OpenAI runs."""
_CACHES = frozenset(
    {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "cache_salt", "id_slot"}
    | {"n_cache_reuse", "prediction"}
)
"""Fields that only change the speed."""
_SAMPLING: dict[str, tuple[object, ...]] = {
    "allowed_token_ids": (),
    "bad_words": (),
    "dynatemp_range": (0,),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": (),
    "lora": (),
    "min_keep": (0, 1),
    "min_tokens": (0,),
    "n_indent": (0,),
    "n_probs": (0,),
    "prompt_logprobs": (False, 0),
    "samplers": (),
    "skip_special_tokens": (True,),
    "stop_token_ids": (),
    "t_max_predict_ms": (-1, 0),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
}
"""What llama-server and vLLM take besides, and is not done here."""
_MISC = frozenset(
    {"dynatemp_exponent", "early_stopping", "guided_decoding_backend", "guided_whitespace_pattern"}
    | {"n_discard", "n_keep", "post_sampling_probs", "request_id", "return_progress"}
    | {"return_token_ids", "return_tokens", "spaces_between_special_tokens", "timings_per_token"}
    | {"response_fields", "logprobs_mode", "vllm_xargs", "kv_transfer_params"}
)

CHAT = FieldTable(
    refused={
        **_SAMPLING,
        "add_generation_prompt": (True,),
        "audio": (),
        "chat_template": (),
        "continue_final_message": (True,),  # as it always is
        "documents": (),
        "echo": (False,),
        "mm_processor_kwargs": (),
        "modalities": (["text"],),
        "reasoning_budget_message": (),
        "web_search_options": (),
    },
    harmless=_ACCOUNT
    | _CACHES
    | _MISC
    | {"verbosity", "moderation", "add_special_tokens", "parse_tool_calls", "cache_control"},
)
COMPLETION = FieldTable(refused=_SAMPLING, harmless=_ACCOUNT | _CACHES | _MISC)
RESPONSE = FieldTable(refused=_SAMPLING)
"""For `/v1/responses`, beside its own table of OpenAI's fields."""
EMBEDDING = FieldTable(harmless=_ACCOUNT)
MESSAGE = FieldTable(harmless=frozenset({"audio"}))
"""`audio` names an earlier answer in sound, of which the text is there as well."""
