"""The `options` of Ollama's requests, and their conversion to ours. Pure.

Ollama reads them loosely: a number may have a fraction where a whole one is meant, -1 stands for no
limit, and unknown ones are passed over. Source: `Options` in api/types.go of
github.com/ollama/ollama.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec

from modeldeck.core.schema import LoadOptions

Count = Annotated[float, msgspec.Meta(ge=-2, le=1 << 24)]
"""A number of tokens; below 0 for no limit."""
Weight = Annotated[float, msgspec.Meta(ge=-10, le=10)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(ge=0, le=100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of loading and sampling. Unknown ones are ignored."""

    num_ctx: Annotated[float, msgspec.Meta(ge=16, le=1 << 24)] | None = None
    """Context length in tokens. A model that is loaded with less is loaded again where nothing else
    uses it; else the request is refused. The other load options only apply to a new load."""
    num_batch: Annotated[float, msgspec.Meta(ge=16, le=16384)] | None = None
    num_gpu: Annotated[float, msgspec.Meta(ge=-1, le=10_000)] | None = None
    """Layers on the GPU."""
    num_thread: Annotated[float, msgspec.Meta(ge=-1, le=512)] | None = None
    """0 and -1 leave it to the engine."""
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    draft_num_predict: Annotated[float, msgspec.Meta(ge=0, le=64)] | None = None
    """Tokens that a draft model guesses at a time."""
    num_predict: Count | None = None
    """Tokens of the answer at most; below 1 for no limit but the context."""
    temperature: Positive | None = None
    top_k: Count | None = None
    """Below 1 for all tokens."""
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    presence_penalty: Weight | None = None
    frequency_penalty: Weight | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(ge=0.01, le=10)] | None = None
    repeat_last_n: Annotated[float, msgspec.Meta(ge=-1, le=1 << 20)] | None = None
    """Tokens that the penalties look back at; -1 for the whole context, 0 for none."""
    mirostat: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    mirostat_tau: Positive | None = None
    mirostat_eta: Share | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | float | None = None
    stop: str | list[str] | None = None

    def load(self) -> LoadOptions:
        """The options that are used when the model is loaded."""
        threads = _whole(self.num_thread)
        return LoadOptions(
            context_length=_whole(self.num_ctx),
            batch_size=_whole(self.num_batch),
            gpu_layers=_whole(self.num_gpu),
            threads=threads if threads is not None and threads > 0 else None,
            mmap=self.use_mmap,
            mlock=self.use_mlock,
            draft_tokens=_whole(self.draft_num_predict) or None,
        )

    def sampling(self) -> dict[str, Any]:
        """The sampling fields of a `GenerateRequest`."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        limit, top_k = _whole(self.num_predict), _whole(self.top_k)
        seed = _whole(self.seed)
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "max_tokens": limit if limit is not None and limit > 0 else None,
            "top_k": None if top_k is None else max(0, top_k),
            "repeat_last_n": _whole(self.repeat_last_n),
            "mirostat": _whole(self.mirostat),
            "seed": None if seed is None else seed & 0xFFFF_FFFF,
            "stop": tuple(text for text in stop if text),
        }


_NAMES = {
    **{option.name: option.name for option in fields(Options)},
    "max_tokens": "num_predict",
    "max_output_tokens": "num_predict",
}
"""Options by their names beside `options`: their own, and those of OpenAI for the limit."""


def with_options_inside(given: Any) -> Any:
    """A request with those of its options inside `options` that were sent beside it.

    Programs made after OpenAI's API send `temperature`, `top_p` and `max_output_tokens` there, such
    as ollama-ai-provider-v2. What is inside `options` already outranks them.

    >>> with_options_inside({"model": "m", "top_p": 0.9, "options": {"seed": 7}})
    {'model': 'm', 'options': {'top_p': 0.9, 'seed': 7}}
    """
    if not isinstance(given, dict) or not isinstance(given.get("options"), Mapping | None):
        return given
    beside = {_NAMES[name]: value for name, value in given.items() if name in _NAMES}
    if not beside:
        return given
    rest = {name: value for name, value in given.items() if name not in _NAMES}
    return {**rest, "options": {**beside, **(given.get("options") or {})}}


_PLAIN = (
    *("temperature", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty"),
    *("repeat_penalty", "mirostat_tau", "mirostat_eta"),
)
"""Options that have the same name and form in a `GenerateRequest`."""


def _whole(value: float | None) -> int | None:
    """A number without its fraction."""
    return None if value is None else int(value)
