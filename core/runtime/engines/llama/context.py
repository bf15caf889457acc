"""Answers and embeds with a model that llama.cpp has loaded."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from modeldeck.core.errors import Cancelled, ContextExceeded, EngineFailed, InvalidRequest
from modeldeck.core.runtime.engines.answer_writer import AnswerWriter
from modeldeck.core.runtime.engines.base import (
    GRAMMAR_S,
    READ_GRAMMAR_S,
    TEMPLATE_BYTES,
    TEMPLATE_S,
    TOKENS_S,
    Flag,
)
from modeldeck.core.runtime.engines.call_grammar import grammar_for
from modeldeck.core.runtime.engines.chat import (
    CHATML,
    CHATML_STOP,
    ChatPrompt,
    ChatTemplate,
    check_tools,
    knows_tools,
    nothing_written,
    wants_tools,
)
from modeldeck.core.runtime.engines.llama import ranking
from modeldeck.core.runtime.engines.llama.answer import SlotAnswer, TokenPieces
from modeldeck.core.runtime.engines.llama.batch import set_abort_callback
from modeldeck.core.runtime.engines.llama.loader import POOLING_LAST, POOLING_RANK
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.runtime.engines.llama.sampler import SamplerChain
from modeldeck.core.runtime.engines.llama.turns import Turns
from modeldeck.core.runtime.engines.llama.vocabulary import make_vocabulary
from modeldeck.core.runtime.engines.thought_guide import guide_for
from modeldeck.core.runtime.engines.thoughts import AnswerPart
from modeldeck.core.runtime.engines.tool_formats import SIGNS
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar
from modeldeck.core.runtime.grammar.matcher import GrammarVocabulary
from modeldeck.core.runtime.process.messages import (
    EmbeddingVector,
    LoadModel,
    TextPiece,
    TextRanked,
    TokensRead,
)
from modeldeck.core.schema import GenerateRequest, TokenizedText, TokenLogprob, TokenQuery

RANKERS = "Rerankers rank (/v1/rerank), embedding models make vectors (/v1/embeddings)."


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
        """
        self._c = c
        self._model = model
        self._context = context
        self._vocab = c.llama_model_get_vocab(model)
        self.length = length
        """Tokens that one request may reach, its answer included."""
        self._turns = turns
        self._abort = set_abort_callback(c, context, flag)
        self._stop_loops = command.stop_loops
        self._flag = flag
        self._log = log
        self._pieces = TokenPieces(c, self._vocab)
        self._templates = self._read_templates()
        self._markers = self._sign_tokens(SIGNS)
        self._grammars = GrammarVocabulary(partial(make_vocabulary, c, self._vocab))
        self._has_no_template = not c.llama_model_chat_template(model, None)
        if turns is not None and self._has_no_template:
            log.say("warning", "the model brings no chat template; using ChatML")

    @property
    def embedding(self) -> bool:
        """Whether it embeds texts instead of answering."""
        return self._turns is None

    def _read_templates(self) -> tuple[ChatTemplate, ...]:
        """The model's chat template, and its template for tools where that is another one."""
        found: list[str] = []
        for name in (None, b"tool_use"):
            text = self._c.llama_model_chat_template(self._model, name)
            if text and (source := text.decode("utf-8", "replace")) not in found:
                found.append(source)
        begin = self._token_text(self._c.llama_vocab_bos(self._vocab))
        end = self._token_text(self._c.llama_vocab_eos(self._vocab))
        values = {"bos_token": begin, "eos_token": end}
        return tuple(ChatTemplate(source, values) for source in found or [CHATML])

    def _template_for(self, request: GenerateRequest) -> ChatTemplate:
        """The template for this request."""
        fitting = [t for t in self._templates if knows_tools(t.source)]
        chosen = fitting[0] if wants_tools(request) and fitting else self._templates[0]
        return chosen

    def _token_text(self, token: int) -> str:
        text = self._c.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return text.decode("utf-8", "replace") if text else ""

    def _tokenize(self, text: str, *, special: bool, names: bool | None = None) -> list[int]:
        """Tokenize a text. `special` adds the tokens that the model expects around it (BOS).

        With `names`, or by default without `special`, the names of special tokens in the text
        become those tokens.
        """
        names = not special if names is None else names
        data = text.encode()
        room = len(data) + 8  # a token is at least a byte, and a few are added
        tokens = (self._c.llama_token * room)()
        count = self._c.llama_tokenize(self._vocab, data, len(data), tokens, room, special, names)
        if count < 0:
            raise EngineFailed("llama.cpp could not turn the text into tokens.")
        return list(tokens[:count])

    def _sign_tokens(self, signs: Iterable[str]) -> dict[int, bytes]:
        """The signs that are single tokens, by token: they have no text otherwise."""
        found = ((sign, self._tokenize(sign, special=False)) for sign in signs)
        return {tokens[0]: text.encode() for text, tokens in found if len(tokens) == 1}

    # Generation

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in. Raises ContextExceeded when it does not fit the context."""
        turns = self.turns
        prompt, stops, grammar, chat = self._prompt(request)
        room = self.length - len(prompt)
        if room <= 0:
            raise ContextExceeded.of(len(prompt), room + len(prompt))
        limit = min(room, request.max_tokens or room)
        visible = self._visible(request, chat)

        def emit(part: AnswerPart, logprobs: tuple[TokenLogprob, ...]) -> None:
            turns.report(
                TextPiece(id=number, text=part.text, thought=part.thought, logprobs=logprobs)
            )

        answer = SlotAnswer(
            number,
            request,
            prompt,
            limit=limit,
            guesses=turns.guesses,
            stop_loops=self._stop_loops and grammar is None,
            writer=AnswerWriter(
                request, stops, emit, limit=limit, splitter=chat.splitter() if chat else None
            ),
            sampler=self._sampler(request, grammar, chat, visible),
            pieces=self._pieces,
            visible=visible,
            bounds=self._flag.bounds,
        )
        turns.begin(answer)

    def _visible(self, request: GenerateRequest, chat: ChatPrompt | None) -> dict[int, bytes]:
        """Special tokens that count as text in an answer, with that text."""
        visible = self._markers if wants_tools(request) else {}
        return visible | self._sign_tokens(chat.signs) if chat is not None else visible

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
            tokenize=partial(self._tokenize, special=False),
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

    def _prompt(
        self, request: GenerateRequest
    ) -> tuple[list[int], tuple[str, ...], AnswerGrammar | None, ChatPrompt | None]:
        """The prompt's tokens, the stop strings, the grammar, and how the answer is read."""
        bounds = self._flag.bounds
        template = self._template_for(request) if request.messages else None
        source = template.source if template else ""
        check_tools(request, source)
        grammar = bounds.run(
            "The grammar of the answer",
            partial(self._grammar, request, source),
            cpu_s=GRAMMAR_S,
        )
        if template is None:
            return self._plain(request), request.stop, grammar, None
        chat = self._rendered(request, template)
        stops = (*request.stop, CHATML_STOP) if self._has_no_template else request.stop
        tokens = self._tokens_of(chat.text, special=False)
        if not tokens:
            raise nothing_written()
        return tokens, stops, grammar, chat

    def _grammar(self, request: GenerateRequest, template: str) -> AnswerGrammar | None:
        """The grammar of an answer, with the tokens that the signs of tool calls are."""
        signs = self._sign_tokens(SIGNS) if wants_tools(request) else {}
        return grammar_for(
            request, template, {text.decode(): token for token, text in signs.items()}
        )

    def _plain(self, request: GenerateRequest) -> list[int]:
        """The tokens of a prompt without a template.

        With a suffix they stand around a gap, as the model was trained for. Raises InvalidRequest
        for a model that was not.
        """
        if not request.suffix:
            return self._or_bos(self._tokens_of(request.prompt or "", special=True))
        c, vocab = self._c, self._vocab
        signs = [c.llama_vocab_fim_pre(vocab), c.llama_vocab_fim_suf(vocab)]
        middle = c.llama_vocab_fim_mid(vocab)
        if min(*signs, middle) < 0:
            raise InvalidRequest(
                "This model does not fill gaps: it has no tokens for what is before and after.",
                "Leave the suffix out, or take a model for code such as Qwen2.5-Coder.",
            )
        parts = (request.prompt or "", request.suffix)
        tokens = [
            [sign, *self._tokens_of(text, special=False, names=False)]
            for sign, text in zip(signs, parts, strict=True)
        ]
        begin = c.llama_vocab_bos(vocab)
        before = [begin] if begin >= 0 and c.llama_vocab_get_add_bos(vocab) else []
        return [*before, *tokens[0], *tokens[1], middle]

    def _rendered(self, request: GenerateRequest, template: ChatTemplate) -> ChatPrompt:
        """The conversation as the template writes it, within bounds."""
        return self._flag.bounds.run(
            "The model's chat template",
            partial(template.prompt, request),
            cpu_s=TEMPLATE_S,
            memory_bytes=TEMPLATE_BYTES,
        )

    def _written(self, request: GenerateRequest) -> str:
        """The text that the model reads of a request."""
        if not request.messages:
            return request.prompt or ""
        template = self._template_for(request)
        check_tools(request, template.source)
        return self._rendered(request, template).text

    def _or_bos(self, tokens: list[int]) -> list[int]:
        """The tokens of a prompt; for an empty one, the token that begins a text."""
        begin = self._c.llama_vocab_bos(self._vocab)
        if not tokens and begin < 0:
            raise InvalidRequest("There is nothing to continue.", "Send a prompt.")
        return tokens or [begin]

    def _tokens_of(self, text: str, *, special: bool, names: bool | None = None) -> list[int]:
        """Tokenize as `_tokenize` does, within bounds."""
        return self._flag.bounds.run(
            "Turning the text into tokens",
            partial(self._tokenize, text, special=special, names=names),
            cpu_s=TOKENS_S,
        )

    def tokenize(self, query: TokenQuery) -> TokensRead:
        """Return a text and its tokens, without evaluating them."""
        text, tokens = query.text or "", list(query.tokens or ())
        last = self._c.llama_vocab_n_tokens(self._vocab) - 1
        if any(not 0 <= token <= last for token in tokens):
            raise InvalidRequest(f"Tokens of this model are from 0 to {last}.")
        if query.request is not None:
            text = self._written(query.request)
            tokens = self._tokens_of(text, special=not query.request.messages)
        elif query.tokens is None:
            tokens = self._tokens_of(text, special=query.begin, names=query.names)
        if query.count_only:
            return TokensRead(found=TokenizedText(count=len(tokens)))
        pieces = tuple(self._pieces.named(token) for token in tokens)
        if query.request is None:
            text = b"".join(pieces).decode("utf-8", "replace")
        return TokensRead(
            found=TokenizedText(count=len(tokens), text=text, tokens=tuple(tokens), pieces=pieces)
        )

    # Embeddings

    def embed(self, text: str, *, truncate: bool = False) -> EmbeddingVector:
        """Embed a text; `truncate` cuts off what is too long.

        Raises InvalidRequest when it is longer than the context, or than one batch for models that
        need the whole text in one.
        """
        if self._turns is not None:
            raise InvalidRequest(
                "This model is loaded for text.", "Load it with the embedding option."
            )
        if self._ranks:
            raise InvalidRequest("This model ranks texts, and makes no vectors.", RANKERS)
        tokens = self._tokens_of(text, special=True)
        values, count = self._pooled(tokens, truncate=truncate)
        width = self._c.llama_model_n_embd_out(self._model)
        length = math.hypot(*values[:width]) or 1.0
        return EmbeddingVector(
            values=tuple(value / length for value in values[:width]), tokens=count
        )

    def rank(self, query: str, text: str) -> TextRanked:
        """Tell how well a text answers a query.

        Raises InvalidRequest where the model is no reranker, and for texts that are too long.
        """
        if not self._ranks:
            raise InvalidRequest("This model does not rank texts.", RANKERS)
        tokens = ranking.pair_tokens(
            self._c, self._model, partial(self._tokens_of, special=False), query, text
        )
        values, count = self._pooled(tokens)
        classes = self._c.llama_model_n_cls_out(self._model)
        score = float(values[0])
        return TextRanked(
            score=score, probability=ranking.probability(score, classes), tokens=count
        )

    @property
    def _ranks(self) -> bool:
        """Whether the model is a reranker."""
        return bool(
            self._turns is None and self._c.llama_pooling_type(self._context) == POOLING_RANK
        )

    def _pooled(self, tokens: list[int], *, truncate: bool = False) -> tuple[Any, int]:
        """What the model makes of a text: a pointer to its numbers; and how many tokens it read.

        `truncate` cuts off what is too long; else that raises InvalidRequest.
        """
        memory = self._c.llama_get_memory(self._context)
        step = room = self._c.llama_n_batch(self._context)
        if memory and self._c.llama_pooling_type(self._context) == POOLING_LAST:
            room = self._c.llama_n_ctx(self._context)
        if truncate:
            tokens = tokens[:room]
        if not 0 < len(tokens) <= room:
            raise InvalidRequest(f"A text to embed has 1 to {room} tokens, not {len(tokens)}.")
        if memory:
            self._c.llama_memory_clear(memory, True)
        for start in range(0, len(tokens), step):
            self._read(tokens[start : start + step])
        values = self._c.llama_get_embeddings_seq(self._context, 0)
        if not values:
            raise failure("llama.cpp gave no embedding", self._log)
        return values, len(tokens)

    def _read(self, tokens: list[int]) -> None:
        """Evaluate a batch of tokens of a text to embed."""
        array = (self._c.llama_token * len(tokens))(*tokens)
        batch = self._c.llama_batch_get_one(array, len(tokens))
        outputs = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))  # pooling needs every token
        batch.logits = outputs
        causal = self._c.llama_model_has_decoder(self._model)
        run = self._c.llama_decode if causal else self._c.llama_encode
        if run(self._context, batch) != 0:
            if self._flag:
                raise Cancelled("The request was cancelled.")
            raise failure("llama.cpp could not evaluate the text", self._log)
