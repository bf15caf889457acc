"""Turns requests into prompts for a model of llama.cpp: rendered by its template, and tokenized."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.runtime.engines.base import (
    GRAMMAR_S,
    TEMPLATE_BYTES,
    TEMPLATE_S,
    TOKENS_S,
)
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.engines.llama.batch import Tokens
from modeldeck.core.runtime.engines.llama.media_reader import MediaReader, RequestMedia, name_of
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar
from modeldeck.core.runtime.media.media_prompt import MediaSigns, forged_signs, media_of
from modeldeck.core.runtime.text.call_grammar import grammar_for
from modeldeck.core.runtime.text.chat_prompt import (
    CHATML,
    CHATML_STOP,
    ChatPrompt,
    ChatTemplate,
    check_tools,
    knows_tools,
    nothing_written,
    wants_tools,
)
from modeldeck.core.runtime.text.tool_formats import SIGNS
from modeldeck.core.schema import GenerateRequest

NO_MEDIA = (
    "this model has no projector, which would turn images or audio into its input.",
    "Leave it out, or take a model that sees.",
)
"""Why a model without a projector cannot read an image, as the end of a sentence; what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPrompt:
    """A request as the model reads it."""

    text: str
    """As it is told to others."""
    tokens: Sequence[int] | Tokens
    stops: tuple[str, ...] = ()
    """Strings that end the answer."""
    grammar: AnswerGrammar | None = None
    chat: ChatPrompt | None = None
    """How the answer is read; None for a prompt without a template."""
    media: RequestMedia | None = None
    """Its images and recordings; None for none."""


class PromptReader:
    """Reads the requests to one model."""

    def __init__(self, c: Any, model: Any, bounds: Bounds) -> None:
        """Use a model.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            bounds: Bound time and memory.
        """
        self._c = c
        self._model = model
        self._vocab = c.llama_model_get_vocab(model)
        self._bounds = bounds
        self.media: MediaReader | None = None
        """Takes images and recordings in; None where the model reads none."""
        self.no_media = NO_MEDIA
        """Why the model reads none, and what to do."""
        self.has_template = bool(c.llama_model_chat_template(model, None))
        """Whether the model brings a chat template."""
        self._templates = self._read_templates()

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
        return fitting[0] if wants_tools(request) and fitting else self._templates[0]

    def _token_text(self, token: int) -> str:
        text = self._c.llama_vocab_get_text(self._vocab, token) if token >= 0 else None
        return text.decode("utf-8", "replace") if text else ""

    # Requests

    def take(self, request: GenerateRequest) -> RequestMedia | None:
        """Begin to take its images and recordings in; None where it brings none.

        Raises InvalidRequest where the model reads none.
        """
        media = media_of(request)
        if not media:
            return None
        if self.media is None:
            why, remedy = self.no_media
            raise InvalidRequest(f"{name_of(media[0])} cannot be read: {why}", remedy)
        return self.media.take(media, private=not request.cache)

    def read(self, request: GenerateRequest, media: RequestMedia | None = None) -> ReadPrompt:
        """Read a request, whose images are taken in.

        Raises InvalidRequest for one that cannot be answered.
        """
        template = self._template_for(request) if request.messages else None
        source = template.source if template else ""
        check_tools(request, source)
        grammar = self._bounds.run(
            "The grammar of the answer",
            partial(self._grammar, request, source),
            cpu_s=GRAMMAR_S,
        )
        if template is None:
            tokens = self._plain(request)
            return ReadPrompt(text="", tokens=tokens, stops=request.stop, grammar=grammar)
        stops = request.stop if self.has_template else (*request.stop, CHATML_STOP)
        text, found, chat = self._conversation(request, template, media)
        if not len(found):
            raise nothing_written()
        return ReadPrompt(
            text=text, tokens=found, stops=stops, grammar=grammar, chat=chat, media=media
        )

    def written(self, request: GenerateRequest, media: RequestMedia | None = None) -> ReadPrompt:
        """What the model would read of a request, which need not be one that can be answered.

        Its images, which are taken in, are counted in its tokens.
        """
        if not request.messages:
            text = request.prompt or ""
            return ReadPrompt(text=text, tokens=self.tokens_of(text, special=True))
        template = self._template_for(request)
        check_tools(request, template.source)
        text, tokens, _ = self._conversation(request, template, media)
        return ReadPrompt(text=text, tokens=tokens)

    def _conversation(
        self, request: GenerateRequest, template: ChatTemplate, media: RequestMedia | None
    ) -> tuple[str, Sequence[int] | Tokens, ChatPrompt]:
        """A conversation as text, as tokens, and how its answer is read."""
        forged = self._forged(request)
        if media is None and not forged:
            chat = self._rendered(request, template)
            return chat.text, self.tokens_of(chat.text, special=False), chat
        signs = MediaSigns(media_of(request), forged)
        chat = self._rendered(signs.marked(request), template)
        parts = signs.split(chat.text)
        if media is not None:
            return signs.shown(chat.text), media.prompt(parts), chat
        texts = (part for part in parts if isinstance(part, str))
        tokens = [token for text in texts for token in self.tokens_of(text, special=False)]
        return signs.shown(chat.text), tokens, chat

    def _forged(self, request: GenerateRequest) -> tuple[str, ...]:
        """Names of the model's tokens for images that stand in the texts of a conversation."""
        if self.media is None or not (written := forged_signs(request)):
            return ()
        found = self._bounds.run(
            "Turning the text into tokens", partial(self.sign_tokens, written), cpu_s=TOKENS_S
        )
        return tuple(text.decode() for text in found.values())

    def _rendered(self, request: GenerateRequest, template: ChatTemplate) -> ChatPrompt:
        """The conversation as the template writes it, within bounds."""
        return self._bounds.run(
            "The model's chat template",
            partial(template.prompt, request),
            cpu_s=TEMPLATE_S,
            memory_bytes=TEMPLATE_BYTES,
        )

    def _grammar(self, request: GenerateRequest, template: str) -> AnswerGrammar | None:
        """The grammar of an answer, with the tokens that the signs of tool calls are."""
        signs = self.sign_tokens(SIGNS) if wants_tools(request) else {}
        return grammar_for(
            request, template, {text.decode(): token for token, text in signs.items()}
        )

    def _plain(self, request: GenerateRequest) -> list[int]:
        """The tokens of a prompt without a template.

        With a suffix they stand around a gap, as the model was trained for. Raises InvalidRequest
        for a model that was not.
        """
        if not request.suffix:
            return self._or_bos(self.tokens_of(request.prompt or "", special=True))
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
            [sign, *self.tokens_of(text, special=False, names=False)]
            for sign, text in zip(signs, parts, strict=True)
        ]
        begin = c.llama_vocab_bos(vocab)
        before = [begin] if begin >= 0 and c.llama_vocab_get_add_bos(vocab) else []
        return [*before, *tokens[0], *tokens[1], middle]

    def _or_bos(self, tokens: list[int]) -> list[int]:
        """The tokens of a prompt; for an empty one, the token that begins a text."""
        begin = self._c.llama_vocab_bos(self._vocab)
        if not tokens and begin < 0:
            raise InvalidRequest("There is nothing to continue.", "Send a prompt.")
        return tokens or [begin]

    # Tokens

    def tokenize(self, text: str, *, special: bool, names: bool | None = None) -> list[int]:
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

    def tokens_of(self, text: str, *, special: bool, names: bool | None = None) -> list[int]:
        """Tokenize as `tokenize` does, within bounds."""
        return self._bounds.run(
            "Turning the text into tokens",
            partial(self.tokenize, text, special=special, names=names),
            cpu_s=TOKENS_S,
        )

    def sign_tokens(self, signs: Iterable[str]) -> dict[int, bytes]:
        """The signs that are single tokens, by token: they have no text otherwise."""
        found = ((sign, self.tokenize(sign, special=False)) for sign in signs)
        return {tokens[0]: text.encode() for text, tokens in found if len(tokens) == 1}
