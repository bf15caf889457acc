"""One answer of an MLX model: what was asked, how it is sampled, and the text so far."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from modeldeck.core.errors import ContextExceeded, DeckError, InvalidRequest
from modeldeck.core.runtime.engines.base import (
    GRAMMAR_S,
    READ_GRAMMAR_S,
    TOKENS_S,
    Emit,
    Flag,
)
from modeldeck.core.runtime.engines.mlx.chat import MlxChat
from modeldeck.core.runtime.engines.mlx.grammar import GrammarSampler, make_vocabulary
from modeldeck.core.runtime.engines.mlx.guided import GuidedSampler
from modeldeck.core.runtime.engines.mlx.model import MlxModel
from modeldeck.core.runtime.engines.mlx.prefix_cache import Kind, common_length, packed
from modeldeck.core.runtime.engines.mlx.sampling import (
    Penalty,
    Sample,
    Samplers,
    WatchedSampler,
    is_greedy,
)
from modeldeck.core.runtime.engines.mlx.text import Detokenizer, token_bytes
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar
from modeldeck.core.runtime.grammar.matcher import GrammarVocabulary
from modeldeck.core.runtime.process.messages import AnswerDone, TokensRead
from modeldeck.core.runtime.text.answer_writer import AnswerWriter, token_text
from modeldeck.core.runtime.text.call_grammar import grammar_for
from modeldeck.core.runtime.text.chat_prompt import (
    CHATML_STOP,
    ChatPrompt,
    check_tools,
    wants_tools,
)
from modeldeck.core.runtime.text.loops import WINDOW, is_due, repeated_run
from modeldeck.core.runtime.text.thought_guide import guide_for
from modeldeck.core.runtime.text.tool_formats import SIGNS
from modeldeck.core.schema import GenerateRequest, TokenizedText, TokenLogprob, TokenQuery

THOUGHT_TAIL = 11
"""Tokens at the end of a prompt in which a thought may begin, which the next turn's prompt leaves
out (`mlx_lm.server`)."""

SEED = "an answer with a seed is written alone"
"""Company changes the rounding of probabilities, and with it which token a random number means."""


class MlxAnswer:
    """An answer in work."""

    def __init__(
        self,
        model: MlxModel,
        number: int,
        request: GenerateRequest,
        prompt: list[int],
        *,
        writer: AnswerWriter,
        pieces: Detokenizer,
        sample: Sample,
        penalties: list[Penalty],
        places: tuple[tuple[int, Kind], ...],
        stop_loops: bool,
    ) -> None:
        """Begin with the prompt.

        Args:
            model: The model that writes it.
            number: The number of the request.
            request: What is asked.
            prompt: Tokens of the prompt.
            writer: Takes the bytes of the answer.
            pieces: Turns tokens into bytes.
            sample: Its sampler; a `WatchedSampler` where it is held to a grammar.
            penalties: Its logits processors.
            places: Lengths of beginnings of the prompt that other prompts may share, and what they
                end with; only where caches cannot be cut to them.
            stop_loops: Whether the answer is cut when it repeats itself without end.
        """
        self._model = model
        self.number = number
        self.request = request
        self.text = list(prompt)
        """Tokens of prompt and answer so far."""
        self.read = 0
        """Of these, the tokens that the model has read."""
        self.writer = writer
        self.prompt_tokens = len(prompt)
        self._told = 0
        """Tokens of the answer so far, with one that ends it."""
        self._stop_loops = stop_loops
        self._looped = False
        self._pieces = pieces
        self.sample = sample
        self.penalties = penalties
        self.places = places
        self.cached: int | None = None
        """Tokens of the prompt that were found in a cache; None before it was looked for."""
        self.paused = False
        self.waits_for = ""
        """Why it waits, as it was told."""
        self.aside: tuple[list[int], list[Any]] | None = None
        """The text and its caches while it is out of the batch, where they are held for it."""

    @property
    def alone(self) -> str | None:
        """Why it cannot be written together with others, as the end of a sentence."""
        if self.request.seed is not None and not is_greedy(self.request):
            return SEED
        return self._model.alone

    @property
    def failure(self) -> DeckError | None:
        """Why it cannot go on after the tokens that its grammar has admitted."""
        return self.sample.failure if isinstance(self.sample, WatchedSampler) else None

    @property
    def stuck(self) -> bool:
        """Whether the grammar failed over the next token."""
        watch = self.sample
        return (
            isinstance(watch, WatchedSampler)
            and watch.failure is not None
            and (self._told >= watch.count)
        )

    def take(self, token: int, likely: Any) -> bool:
        """Add the next token, chosen by these log probabilities; return whether it goes on."""
        self.text.append(token)
        self.read = len(self.text)
        self._told += 1
        if token in self._model.ends:
            self.writer.end()
            return False
        goes_on = self.writer.take(self._pieces.add(token), self._logprob(token, likely))
        if self._stop_loops and is_due(self._told):
            self._looped = repeated_run(self.text[-WINDOW:]) > 0
        return goes_on and not self._looped

    def take_ahead(self) -> bool:
        """Add the token that the grammar is ahead by, if any; return whether the answer goes on."""
        ahead = self.sample.take_ahead() if isinstance(self.sample, WatchedSampler) else None
        return ahead is None or self.take(*ahead)

    def complete(self) -> AnswerDone:
        """Emit the text that was held back, and return the counts of the answer."""
        self.writer.rest(self._pieces.finish())
        return msgspec.structs.replace(
            self.writer.done(self.prompt_tokens),
            id=self.number,
            cached_tokens=self.cached,
            looped=self._looped,
        )

    def _logprob(self, token: int, likely: Any) -> TokenLogprob | None:
        """Log probabilities of a token and of the likeliest ones; None where not requested."""
        if self.request.logprobs is None:
            return None
        mx, tokenizer = self._model.mx, self._model.tokenizer
        # In 16 bits, as of most models, probabilities do not add up to one.
        likely = likely.reshape(-1).astype(mx.float32)
        likely = likely - mx.logsumexp(likely)
        count = min(self.request.logprobs, likely.shape[-1])
        best: list[int] = []
        if count:
            found = mx.argpartition(-likely, count - 1)[:count].tolist()
            best = sorted(found, key=lambda i: (-likely[i].item(), i))
        return TokenLogprob(
            token=token_text(token_bytes(tokenizer, token)),
            logprob=likely[token].item(),
            top=tuple((token_text(token_bytes(tokenizer, i)), likely[i].item()) for i in best),
        )


class AnswerMaker:
    """Makes answers of requests: renders the prompt, reads the grammar, chooses the sampler."""

    def __init__(self, model: MlxModel, flag: Flag, *, stop_loops: bool) -> None:
        """`flag` has the bounds of this work; `stop_loops` is whether endless answers are cut."""
        self._model = model
        self._stop_loops = stop_loops
        self._bounds = flag.bounds
        tokenizer = model.tokenizer
        self._samplers = Samplers(model.mx, model.vocabulary, model.ends)
        self._grammars = GrammarVocabulary(partial(make_vocabulary, tokenizer, model.ends))
        self._chat = MlxChat(tokenizer, flag.bounds)
        self._special = frozenset(tokenizer.all_special_ids)
        self._template = str(tokenizer.chat_template or "")
        """All its templates, where it has several."""
        self._known: dict[str, int] = tokenizer.get_vocab()
        self._signs = {sign: self._known[sign] for sign in SIGNS if sign in self._known}

    def make(self, number: int, request: GenerateRequest, emit: Emit) -> MlxAnswer:
        """Begin an answer. Raises ContextExceeded when it does not fit the context."""
        prompt, stops, grammar, chat = self._prompt(request)
        room = self._model.context_length - len(prompt)
        if room <= 0:
            raise ContextExceeded.of(len(prompt), self._model.context_length)
        visible = self._ids(SIGNS) if wants_tools(request) else frozenset()
        if chat is not None:
            visible |= self._ids(chat.signs)
        silent = self._special - visible
        goes_on = grammar is not None or chat is None or chat.begun
        return MlxAnswer(
            self._model,
            number,
            request,
            prompt,
            writer=AnswerWriter(
                request,
                stops,
                emit,
                limit=min(room, request.max_tokens or room),
                splitter=chat.splitter() if chat is not None else None,
            ),
            pieces=Detokenizer(
                self._model.tokenizer.detokenizer,
                silent,
                prompt if goes_on else [],
            ),
            sample=self._sampler(number, request, grammar, chat, silent),
            penalties=self._samplers.penalties(request),
            places=self._places(request, prompt),
            stop_loops=self._stop_loops and grammar is None,
        )

    def _ids(self, signs: Iterable[str]) -> frozenset[int]:
        """The tokens that are signs."""
        return frozenset(self._known[sign] for sign in signs if sign in self._known)

    def _sampler(
        self,
        number: int,
        request: GenerateRequest,
        grammar: AnswerGrammar | None,
        chat: ChatPrompt | None,
        silent: frozenset[int],
    ) -> Sample:
        """The sampler of an answer, with its grammar and the bounds of its thought."""
        sample, tokenizer = self._samplers.sampler(request), self._model.tokenizer
        held: GrammarSampler | None = None
        if grammar is not None:
            matcher = self._bounds.run(
                "Reading the grammar of the answer",
                partial(self._grammars.matcher, grammar),
                cpu_s=READ_GRAMMAR_S,
            )
            held = GrammarSampler(
                self._model.mx,
                matcher,
                sample,
                self._model.ends[0],
                bounds=self._bounds,
                number=number,
            )
        guide = guide_for(
            chat,
            request,
            held=grammar is not None,
            tokenize=lambda text: tokenizer.encode(text, add_special_tokens=False),
            piece=lambda token: b"" if token in silent else token_bytes(tokenizer, token),
        )
        follow: Sample | None = held
        if guide is not None:
            follow = GuidedSampler(self._model.mx, guide, sample, held)
        if follow is None:
            return sample
        return WatchedSampler(self._model.mx, follow, self._model.ends[0])

    def _prompt(
        self, request: GenerateRequest
    ) -> tuple[list[int], tuple[str, ...], AnswerGrammar | None, ChatPrompt | None]:
        """The prompt's tokens, the stop strings, the grammar, and how the answer is read."""
        self._samplers.check(request)
        check_tools(request, self._template)
        grammar = self._bounds.run(
            "The grammar of the answer",
            partial(grammar_for, request, self._template, self._signs),
            cpu_s=GRAMMAR_S,
        )
        if request.messages:
            stops = (*request.stop, CHATML_STOP) if self._chat.has_no_template else request.stop
            found, chat = self._chat.tokens(request)
            return found, stops, grammar, chat
        tokens = self._tokens_of(request.prompt or "", begin=True)
        if not tokens and self._model.tokenizer.bos_token_id is not None:
            tokens = [self._model.tokenizer.bos_token_id]
        if not tokens:
            raise InvalidRequest("There is nothing to continue.", "Send a prompt.")
        return tokens, request.stop, grammar, None

    def _tokens_of(self, text: str, *, begin: bool) -> list[int]:
        """Tokenize a text; `begin` adds the tokens that the model expects around it."""
        tokenizer = self._model.tokenizer
        return self._bounds.run(
            "Turning the text into tokens",
            lambda: list(tokenizer.encode(text, add_special_tokens=begin)),
            cpu_s=TOKENS_S,
        )

    def tokenize(self, query: TokenQuery) -> TokensRead:
        """Return a text and its tokens, without evaluating them.

        Names of special tokens in a text always become those tokens: tokenizers have no other way.
        """
        tokens, tokenizer = list(query.tokens or ()), self._model.tokenizer
        if any(not 0 <= token < len(self._known) for token in tokens):
            raise InvalidRequest(f"Tokens of this model are from 0 to {len(self._known) - 1}.")
        if query.request is not None:
            check_tools(query.request, self._template)
            if query.request.messages:
                tokens, _ = self._chat.tokens(query.request)
            else:
                tokens = self._tokens_of(query.request.prompt or "", begin=True)
        elif query.tokens is None:
            tokens = self._tokens_of(query.text or "", begin=query.begin)
        if query.count_only:
            return TokensRead(found=TokenizedText(count=len(tokens)))
        pieces = tuple(token_bytes(tokenizer, token) for token in tokens)
        text = str(tokenizer.decode(tokens))
        return TokensRead(
            found=TokenizedText(count=len(tokens), text=text, tokens=tuple(tokens), pieces=pieces)
        )

    def _places(self, request: GenerateRequest, prompt: list[int]) -> tuple[tuple[int, Kind], ...]:
        """Where to save the caches of a model that cannot cut them: as `mlx_lm.server` does."""
        if self._model.always_cut or not request.cache:
            return ()
        # The last token is never saved: sampling needs to read it.
        end = len(prompt) - 1
        if request.messages and self._model.tokenizer.has_thinking:
            tail = max(0, len(prompt) - THOUGHT_TAIL)
            thought = self._model.tokenizer.rfind_think_start(prompt, start=tail)
            end = thought if thought > 0 else end
        system = self._chat.system_tokens(request)
        begin = common_length(packed(prompt), packed(system))
        places: list[tuple[int, Kind]] = [(begin, "system")] if 0 < begin < end else []
        return (*places, (end, "user")) if end else ()
