"""Writes one answer alone, step by step: with a draft model, a quantized KV cache or a seed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

from modeldeck.core.runtime.engines.mlx.answer import MlxAnswer
from modeldeck.core.runtime.engines.mlx.model import MlxModel
from modeldeck.core.runtime.engines.mlx.prefix_cache import FoundPrefix
from modeldeck.core.runtime.engines.mlx.sampling import WatchedSampler, after, look_back


class AloneAnswer:
    """An answer that nothing is written beside, as far as it has come."""

    def __init__(self, model: MlxModel, answer: MlxAnswer, found: FoundPrefix) -> None:
        """Begin to read the answer's text, which begins with what was found."""
        self._model = model
        self.answer = answer
        answer.read = found.tokens
        self._caches = found.caches or model.new_caches()
        # With a draft, mlx-lm counts tokens for penalties differently, and does not tell samplers
        # which tokens it drops, so the draft is not used then.
        self._drafts = (
            model.draft is not None
            and not answer.penalties
            and not isinstance(answer.sample, WatchedSampler)
        )
        self._steps: Generator[Any] | None = None
        """The tokens by mlx-lm; None while the prompt is read."""
        self._wired = ExitStack()
        self.go_on()

    def go_on(self) -> None:
        """Wire memory, on macOS, until `suspend` or `close`."""
        generate = self._model.generate
        self._wired.enter_context(
            generate.wired_limit(self._model.model, [generate.generation_stream])
        )

    def suspend(self) -> None:
        """Let others be written; this keeps what it has."""
        self._wired.close()

    def step(self) -> tuple[int, Any] | None:
        """Write a token: return it, with the log probabilities of all. None while it reads."""
        answer, model = self.answer, self._model
        if self._steps is None and answer.read < len(answer.text) - 1:
            part = answer.text[answer.read : min(answer.read + model.step, len(answer.text) - 1)]
            model.read(part, self._caches, with_draft=self._drafts)
            answer.read += len(part)
            return None
        if self._steps is None:
            self._steps = self._write()
        token, likely, *_ = next(self._steps)
        return token, likely

    def _write(self) -> Generator[Any]:
        """The tokens that follow the text, of which all but the last one are read."""
        answer, model = self.answer, self._model
        last = model.mx.array(answer.text[-1:])
        if not self._drafts:
            return model.generate.generate_step(  # type: ignore[no-any-return]  # untyped library
                last,
                model.model,
                max_tokens=answer.writer.room,
                sampler=answer.sample,
                logits_processors=after(
                    model.mx, answer.text[:-1], answer.penalties, look_back(answer.request)
                ),
                prompt_cache=self._caches[: model.layers],
            )
        return model.generate.speculative_generate_step(  # type: ignore[no-any-return]  # as above
            last,
            model.model,
            model.draft,
            num_draft_tokens=model.draft_tokens,
            max_tokens=answer.writer.room,
            sampler=answer.sample,
            prompt_cache=self._caches,
        )

    def close(self) -> tuple[list[int], list[Any]] | None:
        """End; return the text that was read and its caches, where these are known to hold it."""
        if self._steps is not None:
            self._steps.close()
        self._wired.close()
        text = self.answer.text[: self.answer.read]
        caches = self._caches
        sizes = [size for c in caches if isinstance(size := getattr(c, "offset", None), int)]
        if not self._drafts:
            whole = self._model.draft is None and all(size == len(text) for size in sizes)
            return (text, caches) if whole else None
        # The draft's cache may be shorter than the model's: both are cut to the same length.
        least = min(sizes, default=0)
        if len(sizes) < len(caches) or not 0 < least <= len(text):
            return None
        for cache, size in zip(caches, sizes, strict=True):
            cache.trim(size - least)
        return text[:least], caches
