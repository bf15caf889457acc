"""Splits an answer into what the model thinks and what it says. Pure.

Models write a thought between two markers before they answer, which their chat templates show;
some templates open the thought themselves at the end of the prompt. The markers are from the public
chat templates of each family. gpt-oss has channels instead:
`modeldeck.core.runtime.text.harmony`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from modeldeck.core.runtime.text.text_streams import overlap


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of an answer."""

    text: str
    thought: bool = False
    """Whether it belongs to the thought; else it is what the model says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtFormat:
    """How a family of models marks a thought."""

    opens: str
    closes: str
    answer: tuple[str, str] | None = None
    """Markers around the answer that follows, where there are any; they are no text."""


def _tags(name: str, answer: tuple[str, str] | None = None) -> ThoughtFormat:
    return ThoughtFormat(opens=f"<{name}>", closes=f"</{name}>", answer=answer)


THINK = _tags("think")
"""Of Qwen, DeepSeek, GLM, MiniMax M2, SmolLM3, Nemotron, Kimi K2 and many others."""

FORMATS: tuple[ThoughtFormat, ...] = (
    THINK,
    _tags("thinking"),
    _tags("thought"),
    _tags("reasoning"),
    _tags("mm:think"),  # MiniMax M3
    _tags("seed:think"),  # Seed-OSS
    _tags("think:opensource"),  # Hunyuan 3
    ThoughtFormat(opens="[THINK]", closes="[/THINK]"),  # Magistral, Ministral 3
    ThoughtFormat(opens="<|channel>thought", closes="<channel|>"),  # Gemma 4
    ThoughtFormat(  # Command A, Command R7B
        opens="<|START_THINKING|>",
        closes="<|END_THINKING|>",
        answer=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    ThoughtFormat(  # Kimi K3
        opens="<|open|>think<|sep|>",
        closes="<|close|>think<|sep|>",
        answer=("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    ),
    ThoughtFormat(  # Solar Open
        opens="<|think|>", closes="<|end|><|begin|>assistant", answer=("<|content|>", "<|end|>")
    ),
    ThoughtFormat(opens="<|inner_prefix|>", closes="<|inner_suffix|>"),  # Apertus
    ThoughtFormat(  # Apriel
        opens="Here are my reasoning steps:",
        closes="[BEGIN FINAL RESPONSE]",
        answer=("", "[END FINAL RESPONSE]"),
    ),
)

_ANSWERS = (("<answer>", "</answer>"), ("<response>", "</response>"))
"""Tags around the answer after `<think>` in templates that name them: Hunyuan, Granite 3.3."""
_SPECIAL = re.compile(r"<\|[^|<>]*\|>")


def formats_of(template: str) -> tuple[ThoughtFormat, ...]:
    r"""The formats whose markers a template names; none for a model that does not think.

    >>> [f.opens for f in formats_of("{{ '<think>\\n' }}{% if '[/THINK]' in x %}")]
    ['<think>', '[THINK]']
    """
    found = []
    for form in FORMATS:
        # `<|think|>` alone is what switches Gemma 4 on.
        named = form.closes in template
        if named or (form.opens in template and form.opens != "<|think|>"):
            answer = next((a for a in _ANSWERS if a[0] in template), None)
            wrapped = form is THINK and answer is not None
            found.append(_tags("think", answer) if wrapped else form)
    return tuple(found)


def opened_by(prompt: str, formats: Sequence[ThoughtFormat]) -> ThoughtFormat | None:
    r"""The format whose opening marker ends a prompt: the answer begins inside the thought.

    >>> opened_by("<|im_start|>assistant\n<think>\n", [THINK]) is THINK
    True
    """
    end = prompt[-256:].rstrip()
    return next((form for form in formats if end.endswith(form.opens.rstrip())), None)


def split_past(text: str, formats: Sequence[ThoughtFormat]) -> tuple[str, str]:
    r"""Thought and answer of an earlier message, in which both may stand in one text.

    >>> split_past("<think>Hm.</think>\n\nYes.", [THINK]), split_past("Yes.", [THINK])
    (('Hm.', 'Yes.'), ('', 'Yes.'))
    """
    begun = text.lstrip()
    for form in formats:
        end = begun.find(form.closes)
        if end >= 0 and begun.startswith(form.opens):
            thought = begun[len(form.opens) : end]
            return thought.strip(), begun[end + len(form.closes) :].lstrip()
    return "", text


def signs_of(formats: Sequence[ThoughtFormat]) -> frozenset[str]:
    """Markers, and the special tokens in them, which have no text unless they are asked for."""
    signs = {
        sign for form in formats for sign in (form.opens, form.closes, *(form.answer or ())) if sign
    }
    return frozenset(signs | {token for sign in signs for token in _SPECIAL.findall(sign)})


class Splitter(Protocol):
    """Stream filter: takes the text of an answer and returns its parts."""

    @property
    def thinking(self) -> bool:
        """Whether the answer is inside a thought now."""

    def feed(self, text: str) -> list[AnswerPart]:
        """Take a piece of the answer and return the parts that are certain; none is empty."""

    def finish(self, *, cut: bool = False) -> list[AnswerPart]:
        """End the answer: return what was held back; `cut` is whether it is not complete."""

    # What a grammar and a budget need (`modeldeck.core.runtime.text.thought_guide`).

    @property
    def free(self) -> bool:
        """Whether a grammar of the answer does not hold yet: it thinks, or is within a marker."""

    @property
    def openings(self) -> tuple[str, ...]:
        """Markers that may begin a thought here; none where it cannot."""

    @property
    def wanted(self) -> str:
        """Text that has to follow: the rest of a marker that has begun; empty for none."""

    def spills(self, text: str) -> bool:
        """Whether this text would end the thought and begin the answer at once."""

    def closing(self, *, settled: bool) -> str:
        """The text that ends the thought here; `settled` also where the answer then begins."""


class ThoughtStream:
    """Splits an answer at the markers of its thought.

    A thought begins with the answer, or with the prompt; later markers are text, as a model may
    write about them. Whitespace around the markers belongs to neither part.
    """

    def __init__(
        self,
        formats: Sequence[ThoughtFormat],
        inside: ThoughtFormat | None = None,
        *,
        begun: bool = False,
    ) -> None:
        """Begin an answer.

        Args:
            formats: The formats to look for.
            inside: The format of the thought that the prompt has opened; None for none.
            begun: Whether the prompt holds the beginning of the answer itself.
        """
        self._formats = tuple(formats)
        self._inside = inside
        self._looking = inside is None and not begun
        """Whether a thought may begin."""
        self._held = ""
        self._skips = inside is not None
        """Whether whitespace is left out, as that after a marker."""
        self._after: ThoughtFormat | None = None
        """The format of the thought that ended before this text."""
        self._ending = ""
        """Marker that ends the answer."""

    @property
    def thinking(self) -> bool:
        """Whether the answer is inside a thought now."""
        return self._inside is not None

    def feed(self, text: str) -> list[AnswerPart]:
        """Take a piece of the answer and return the parts that are certain; none is empty."""
        self._held += text
        parts: list[AnswerPart] = []
        while True:
            before = (self._held, self._inside, self._looking)
            self._step(parts)
            if (self._held, self._inside, self._looking) == before:
                return parts

    def finish(self, *, cut: bool = False) -> list[AnswerPart]:
        """End the answer: return what was held back; `cut` is whether it is not complete."""
        held, self._held = self._held, ""
        if self._inside is not None:
            held = held.rstrip()
        elif self._skips:
            held = held.lstrip()
        return _part(held, thought=self._inside is not None)

    def _step(self, parts: list[AnswerPart]) -> None:
        if self._skips:
            self._held = self._held.lstrip()
            if not self._held:
                return
        if self._inside is not None:
            self._think(self._inside, parts)
        elif self._looking:
            self._look()
        else:
            self._skips = False
            self._say(parts)

    def _look(self) -> None:
        """Consume the marker that opens a thought, or find that none comes."""
        begun = self._held.lstrip()
        found = next((form for form in self._formats if begun.startswith(form.opens)), None)
        if found is not None:
            self._held = begun[len(found.opens) :]
            self._inside, self._looking, self._skips = found, False, True
            return
        around = self._after.answer if self._after is not None else None
        if around is not None and around[0] and begun.startswith(around[0]):
            self._held = begun[len(around[0]) :]
            self._looking, self._skips, self._ending = False, True, around[1]
            return
        if not begun or any(marker.startswith(begun) for marker in self._markers):
            return
        self._looking = False
        if around is not None and not around[0]:
            self._ending = around[1]

    def _think(self, form: ThoughtFormat, parts: list[AnswerPart]) -> None:
        """Return the thought up to its end, or to where the end may begin."""
        at = self._held.find(form.closes)
        if at >= 0:
            parts += _part(self._held[:at].rstrip(), thought=True)
            self._held = self._held[at + len(form.closes) :]
            self._inside, self._after = None, form
            self._looking = self._skips = True
            return
        # Whitespace before the end is no part of the thought either.
        end = len(self._held[: len(self._held) - overlap(self._held, form.closes)].rstrip())
        if end:
            parts += _part(self._held[:end], thought=True)
            self._held, self._skips = self._held[end:], False

    def _say(self, parts: list[AnswerPart]) -> None:
        """Return the text, without the marker that ends it."""
        if not self._ending:
            text, self._held = self._held, ""
        elif (at := self._held.find(self._ending)) >= 0:
            text = self._held[:at].rstrip()
            self._held, self._ending = self._held[at + len(self._ending) :].lstrip(), ""
        else:
            end = len(self._held[: len(self._held) - overlap(self._held, self._ending)].rstrip())
            text, self._held = self._held[:end], self._held[end:]
        parts += _part(text)

    @property
    def free(self) -> bool:
        """Whether a grammar of the answer does not hold yet."""
        return self.thinking or bool(self.wanted)

    @property
    def openings(self) -> tuple[str, ...]:
        """Markers that may begin a thought here; none where it cannot."""
        return () if not self._looking or self._held.strip() else self._markers

    @property
    def _markers(self) -> tuple[str, ...]:
        """What may come where a thought may begin."""
        around = self._after.answer if self._after is not None else None
        markers = (*(form.opens for form in self._formats), around[0] if around else "")
        return tuple(marker for marker in markers if marker)

    @property
    def wanted(self) -> str:
        """The rest of a marker that has begun; empty for none."""
        begun = self._held.lstrip()
        if not self._looking or not begun:
            return ""
        return next((m[len(begun) :] for m in self._markers if m.startswith(begun)), "")

    def spills(self, text: str) -> bool:
        """Whether this text would end the thought and begin the answer at once."""
        if self._inside is None:
            return False
        _, end, rest = (self._held + text).partition(self._inside.closes)
        return bool(end and rest.strip())

    def closing(self, *, settled: bool) -> str:
        """The text that ends the thought here."""
        if self._inside is None:
            return ""
        begun = overlap(self._held, self._inside.closes)
        return self._inside.closes[begun:]


def _part(text: str, *, thought: bool = False) -> list[AnswerPart]:
    return [AnswerPart(text, thought)] if text else []
