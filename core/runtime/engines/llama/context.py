"""Answers and embeds with a model that llama.cpp has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from modeldeck.core.errors import Cancelled, ContextExceeded, DeckError, InvalidRequest
from modeldeck.core.runtime.engines.base import READ_GRAMMAR_S, Flag
from modeldeck.core.runtime.engines.llama.answer import SlotAnswer, TokenPieces
from modeldeck.core.runtime.engines.llama.batch import set_abort_callback
from modeldeck.core.runtime.engines.llama.log import EngineLog
from modeldeck.core.runtime.engines.llama.media_reader import MediaReader, RequestMedia
from modeldeck.core.runtime.engines.llama.media_tokens import shown
from modeldeck.core.runtime.engines.llama.pooled_texts import RANKERS, PooledTexts
from modeldeck.core.runtime.engines.llama.projector import Projector
from modeldeck.core.runtime.engines.llama.prompt import PromptReader, ReadPrompt
from modeldeck.core.runtime.engines.llama.sampler import SamplerChain
from modeldeck.core.runtime.engines.llama.turns import Turns
from modeldeck.core.runtime.engines.llama.vocabulary import make_vocabulary
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar
from modeldeck.core.runtime.grammar.matcher import GrammarVocabulary
from modeldeck.core.runtime.process.messages import (
    CommandFailed,
    EmbedTexts,
    EngineReport,
    LoadModel,
    RankTexts,
    TextPiece,
    TokensRead,
)
from modeldeck.core.runtime.text.answer_writer import AnswerWriter
from modeldeck.core.runtime.text.chat_prompt import ChatPrompt, wants_tools
from modeldeck.core.runtime.text.thought_guide import guide_for
from modeldeck.core.runtime.text.thoughts import AnswerPart
from modeldeck.core.runtime.text.tool_formats import SIGNS
from modeldeck.core.schema import GenerateRequest, TokenizedText, TokenLogprob, TokenQuery
from modeldeck.core.schema.errors import to_info


@dataclass(slots=True, eq=False)
class TakenRequest:
    """A request whose images are being taken in."""

    number: int
    request: GenerateRequest
    media: RequestMedia
    query: TokenQuery | None = None
    """What is asked of its tokens, where they are counted; None where it is answered."""
    paused: bool = False


class LlamaContext:
    """A model and its context, which the caller frees."""

    def __init__(
        self,
        c: Any,
        model: Any,
        context: Any,
        command: LoadModel,
        flag: Flag,
        log: EngineLog,
        *,
        length: int,
        turns: Turns | None,
        projector: Projector | None = None,
        no_media: tuple[str, str] | None = None,
    ) -> None:
        """Use a model and a context.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            context: `llama_context *`.
            command: The load.
            flag: Cancels running work.
            log: The log of llama.cpp.
            length: Tokens that one request may reach, its answer included.
            turns: Answers requests; None where the context was made for embeddings.
            projector: Reads images and recordings, if anything does.
            no_media: Why it reads none where it could, as the end of a sentence; and what to do.
        """
        self._c = c
        self._model = model
        self._context = context
        self._vocab = c.llama_model_get_vocab(model)
        self.length = length
        """Tokens that one request may reach, its answer included."""
        self._turns = turns
        self._texts: PooledTexts | None = None
        self._abort = set_abort_callback(c, context, flag)
        self._stop_loops = command.stop_loops
        self._flag = flag
        self._log = log
        self._pieces = TokenPieces(c, self._vocab)
        self._prompts = PromptReader(c, model, flag.bounds)
        if projector is not None:
            self._prompts.media = MediaReader(projector, flag.bounds, c.llama_n_ubatch(context))
        if no_media is not None:
            self._prompts.no_media = no_media
        if turns is None:
            self._texts = PooledTexts(c, model, context, self._prompts, flag, log)
        self._taking: list[TakenRequest] = []
        """Requests whose images are being taken in."""
        self._markers = self._prompts.sign_tokens(SIGNS)
        self._grammars = GrammarVocabulary(partial(make_vocabulary, c, self._vocab))
        if turns is not None and not self._prompts.has_template:
            log.say("warning", "the model brings no chat template; using ChatML")

    @property
    def parallel(self) -> int:
        """Requests that are answered at the same time."""
        return int(self._c.llama_n_seq_max(self._context))

    @property
    def embedding(self) -> bool:
        """Whether it embeds texts instead of answering."""
        return self._turns is None

    def begin_texts(self, number: int, command: EmbedTexts | RankTexts) -> None:
        """Take in a request for vectors or scores. Raises as `PooledTexts.begin`."""
        if self._texts is not None:
            self._texts.begin(number, command)
        elif isinstance(command, EmbedTexts):
            raise InvalidRequest(
                "This model is loaded for text.", "Load it with the embedding option."
            )
        else:
            raise InvalidRequest("This model does not rank texts.", RANKERS)

    # Generation

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in; one with images is taken in by `step`, an image at a time.

        Raises ContextExceeded when it does not fit the context.
        """
        turns = self.turns
        media = self._prompts.take(request)
        if media is None:
            self._begin(turns, number, request, None)
        else:
            self._taking.append(TakenRequest(number, request, media))

    def _begin(
        self, turns: Turns, number: int, request: GenerateRequest, media: RequestMedia | None
    ) -> None:
        try:
            turns.begin(self._answer(number, request, self._prompts.read(request, media)))
        except BaseException:
            if media is not None:
                media.close()
            raise

    def step(self) -> list[EngineReport]:
        """Take an image in, if a request brings one, and do a turn for all that are in work."""
        if self._texts is not None:
            return self._texts.step()
        return [*self._take_media(), *self.turns.step()]

    def _take_media(self) -> list[EngineReport]:
        """Take an image in; a request that cannot be answered is over."""
        one = next((taking for taking in self._taking if not taking.paused), None)
        if one is None:
            return []
        self._flag.bounds.number = one.number
        try:
            one.media.take_one()
            if one.media.complete and one.query is not None:
                found = self._tokens(one.query, one.media)
                self.cancel(one.number)
                return [msgspec.structs.replace(found, id=one.number)]
            if one.media.complete:
                self._taking.remove(one)
                self._begin(self.turns, one.number, one.request, one.media)
        except Cancelled:
            raise
        except DeckError as error:
            self.cancel(one.number)
            return [CommandFailed(id=one.number, error=to_info(error))]
        return []

    @property
    def working(self) -> bool:
        """Whether a request is in work that is not paused."""
        if self._texts is not None:
            return self._texts.working
        return self.turns.working or any(not taking.paused for taking in self._taking)

    @property
    def idle(self) -> bool:
        """Whether no request is in work."""
        if self._texts is not None:
            return self._texts.idle
        return not self._taking and not self.turns.answers

    def cancel(self, number: int) -> None:
        """Forget a request."""
        if self._texts is not None:
            self._texts.cancel(number)
            return
        for taking in [taking for taking in self._taking if taking.number == number]:
            self._taking.remove(taking)
            taking.media.close()
        if answer := self.turns.find(number):
            self.turns.cancel(answer)

    def set_paused(self, number: int, paused: bool) -> None:
        """Give a request no further tokens, or go on with it."""
        if self._texts is not None:
            self._texts.set_paused(number, paused)
            return
        for found in (*self._taking, self.turns.find(number)):
            if found is not None and found.number == number:
                found.paused = paused

    def reset(self) -> None:
        """Forget all requests, and everything that was read."""
        if self._texts is not None:
            self._texts.reset()
            return
        for taking in list(self._taking):
            self.cancel(taking.number)
        self.turns.reset()

    def _answer(self, number: int, request: GenerateRequest, prompt: ReadPrompt) -> SlotAnswer:
        """The answer to a request. Raises ContextExceeded when it does not fit the context."""
        turns, chat, grammar = self.turns, prompt.chat, prompt.grammar
        length = len(prompt.tokens)
        room = self.length - length
        if room <= 0:
            raise ContextExceeded.of(length, self.length)
        limit = min(room, request.max_tokens or room)
        visible = self._visible(request, chat)

        def emit(part: AnswerPart, logprobs: tuple[TokenLogprob, ...]) -> None:
            turns.report(
                TextPiece(id=number, text=part.text, thought=part.thought, logprobs=logprobs)
            )

        return SlotAnswer(
            number,
            request,
            prompt.tokens,
            media=prompt.media,
            limit=limit,
            guesses=turns.guesses,
            stop_loops=self._stop_loops and grammar is None,
            writer=AnswerWriter(
                request,
                prompt.stops,
                emit,
                limit=limit,
                splitter=chat.splitter() if chat else None,
            ),
            sampler=self._sampler(request, grammar, chat, visible),
            pieces=self._pieces,
            visible=visible,
            bounds=self._flag.bounds,
        )

    def _visible(self, request: GenerateRequest, chat: ChatPrompt | None) -> dict[int, bytes]:
        """Special tokens that count as text in an answer, with that text."""
        visible = self._markers if wants_tools(request) else {}
        return visible | self._prompts.sign_tokens(chat.signs) if chat is not None else visible

    @property
    def turns(self) -> Turns:
        """The requests in work. Raises InvalidRequest where the model gives no text."""
        if self._turns is None:
            raise InvalidRequest("This model is loaded for embeddings and gives no text.")
        return self._turns

    def _sampler(
        self,
        request: GenerateRequest,
        grammar: AnswerGrammar | None,
        chat: ChatPrompt | None,
        visible: Mapping[int, bytes],
    ) -> SamplerChain:
        """The sampler of an answer. Raises InvalidRequest for an unusable grammar."""
        bounds = self._flag.bounds
        guide = guide_for(
            chat,
            request,
            held=grammar is not None,
            tokenize=partial(self._prompts.tokenize, special=False),
            piece=lambda token: visible.get(token) or self._pieces.piece(token),
        )
        matcher = None
        if grammar is not None:
            matcher = bounds.run(
                "Reading the grammar of the answer",
                partial(self._grammars.matcher, grammar),
                cpu_s=READ_GRAMMAR_S,
            )
        return SamplerChain(
            self._c, self._context, self._vocab, request, matcher, bounds=bounds, guide=guide
        )

    def tokenize(self, number: int, query: TokenQuery) -> TokensRead | None:
        """Return a text and its tokens, without evaluating them.

        None for a request with images: `step` takes them in, one at a time, and then reports.
        """
        media = None if query.request is None else self._prompts.take(query.request)
        if query.request is None or media is None:
            return self._tokens(query)
        self._taking.append(TakenRequest(number, query.request, media, query))
        return None

    def _tokens(self, query: TokenQuery, media: RequestMedia | None = None) -> TokensRead:
        text, tokens = query.text or "", list(query.tokens or ())
        last = self._c.llama_vocab_n_tokens(self._vocab) - 1
        if any(not 0 <= token <= last for token in tokens):
            raise InvalidRequest(f"Tokens of this model are from 0 to {last}.")
        if query.request is not None:
            prompt = self._prompts.written(query.request, media)
            text, tokens = prompt.text, shown(prompt.tokens)
        elif query.tokens is None:
            tokens = self._prompts.tokens_of(text, special=query.begin, names=query.names)
        if query.count_only:
            return TokensRead(found=TokenizedText(count=len(tokens)))
        pieces = tuple(self._pieces.named(token) if token >= 0 else b"" for token in tokens)
        if query.request is None:
            text = b"".join(pieces).decode("utf-8", "replace")
        return TokensRead(
            found=TokenizedText(count=len(tokens), text=text, tokens=tuple(tokens), pieces=pieces)
        )
