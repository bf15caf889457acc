"""A llama.cpp engine in this process that is given requests, and does turns until they are done."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.engine import LlamaEngine
from modeldeck.core.runtime.engines.llama.turns import Turns
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    CommandFailed,
    EngineReport,
    LoadModel,
    PromptProgress,
    RequestWaits,
    TextPiece,
    TokensRead,
)
from modeldeck.core.schema import (
    ErrorInfo,
    GenerateRequest,
    LoadOptions,
    TokenizedText,
    TokenLogprob,
    TokenQuery,
)

CONTEXT = 2048
LIKELIEST = 8
"""Likeliest tokens that are told of answers given alone: some have exactly the same weights."""
TIE = 1e-4
"""Difference of two log probabilities that is too small to tell which token comes."""


@dataclass(slots=True)
class Told:
    """What the engine reported of one request."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    progress: list[PromptProgress] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    done: AnswerDone | None = None
    counted: TokenizedText | None = None
    error: ErrorInfo | None = None

    @property
    def over(self) -> bool:
        return any(end is not None for end in (self.done, self.counted, self.error))

    @property
    def read(self) -> int:
        """Tokens of the prompt that were evaluated rather than found."""
        assert self.done is not None
        return (self.done.prompt_tokens or 0) - (self.done.cached_tokens or 0)


def alike(told: Told, alone: Told) -> bool:
    """Whether an answer is the one that was given alone.

    What shares a batch moves the last digits of the logits. So they may part, but only where two
    tokens were as likely as each other.
    """
    assert told.error is None, told.error
    assert alone.error is None, alone.error
    if told.text == alone.text:
        return True
    pairs = enumerate(zip(told.text, alone.text, strict=False))
    parts = next((i for i, (one, other) in pairs if one != other), len(told.text))
    at = 0
    for token in alone.logprobs:
        end = at + (1 if token.token.startswith("bytes:") else len(token.token))
        (_, best), *others = token.top
        gaps = [best - logprob for _, logprob in others if logprob < best]
        if at <= parts <= end and min(gaps, default=1.0) < TIE:
            return True
        at = end
    return False


def _close_files() -> None:
    """Close what llama-cpp-python opens and leaves open: at the end of the tests, Python warns."""
    for name in ("outnull_file", "errnull_file"):
        getattr(importlib.import_module("llama_cpp._utils"), name).close()


class EngineTurns:
    """One engine with a model."""

    def __init__(
        self,
        path: Path,
        options: LoadOptions | None = None,
        *,
        cache_bytes: int = 0,
        turn_s: float = 60.0,
        stop_loops: bool = False,
        draft: Path | None = None,
        projector: Path | None = None,
        folder: Path | None = None,
        disk_bytes: int = 0,
    ) -> None:
        self.flag = Flag()
        self.engine = LlamaEngine(self.flag)
        self.engine.hello()
        _close_files()
        command = LoadModel(
            id=1,
            path=str(path),
            options=options or LoadOptions(),
            default_context=CONTEXT,
            prefix_cache_bytes=cache_bytes,
            turn_s=turn_s,
            stop_loops=stop_loops,
            draft=str(draft) if draft else None,
            projector=str(projector) if projector else None,
            prefix_cache_folder=str(folder) if folder else None,
            prefix_cache_disk_bytes=disk_bytes,
        )
        self.loaded = self.engine.load(command, lambda *_: None)
        self.told: dict[int, Told] = {}

    @property
    def turns(self) -> Turns:
        """What the engine has in work."""
        assert self.engine._loaded is not None
        return self.engine._loaded.turns

    def begin(self, request: GenerateRequest) -> int:
        """Give it a request; return its number."""
        number = len(self.told) + 1
        self.told[number] = Told()
        self.engine.begin(number, request)
        return number

    def begin_count(self, query: TokenQuery) -> int:
        """Ask it for tokens; return the number of the question."""
        number = len(self.told) + 1
        self.told[number] = Told()
        found = self.engine.tokenize(number, query)
        self.told[number].counted = None if found is None else found.found
        return number

    def count(self, query: TokenQuery) -> TokenizedText:
        """The tokens that it is asked for."""
        told = self.told[self.begin_count(query)]
        self.run(lambda: told.over)
        assert told.counted is not None, told.error
        return told.counted

    def step(self) -> list[EngineReport]:
        """Let it do a turn."""
        reports = self.engine.step()
        for report in reports:
            told = self.told[report.id]
            assert not told.over, "a request that is over has no further reports"
            match report:
                case TextPiece():
                    told.text += report.text
                    told.logprobs += report.logprobs
                case PromptProgress():
                    told.progress.append(report)
                case RequestWaits():
                    told.waits.append(report.why)
                case AnswerDone():
                    told.done = report
                case TokensRead():
                    told.counted = report.found
                case CommandFailed():
                    told.error = report.error
        return reports

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Do turns until something holds, or nothing is left to do."""
        while self.engine.working and not (until and until()):
            self.step()

    def together(self, requests: Iterable[GenerateRequest]) -> list[Told]:
        """Answer requests at once."""
        numbers = [self.begin(request) for request in requests]
        self.run()
        return [self.told[number] for number in numbers]

    def refused(self, request: GenerateRequest) -> str:
        """Why a request is not answered; it is told when it is taken in, or in a turn."""
        try:
            (told,) = self.together([request])
        except InvalidRequest as error:
            return str(error)
        assert told.error is not None, "it was answered"
        assert not told.text
        return f"{told.error.message} {told.error.remedy}"

    def alone(self, requests: Sequence[GenerateRequest]) -> list[Told]:
        """Answer requests one after the other, each read anew, with the likeliest tokens."""
        found = []
        for request in requests:
            self.engine.reset()
            found += self.together([replace(request, logprobs=LIKELIEST)])
        return found

    def close(self) -> None:
        """Free the model."""
        self.engine._release()
