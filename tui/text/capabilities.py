"""What a model can do: in four cells for a column, and in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.schema import Model, SearchHit

UNTOLD = "?"
"""Sign of what is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a model can do; None where that is not known."""

    embedding: bool = False
    """Whether it makes vectors of texts; then nothing else is asked of it."""
    rerank: bool = False
    """Whether it sorts texts by a question; then nothing else is asked of it."""
    vision: bool | None = None
    tools: bool | None = None
    thinking: bool | None = None
    always_thinking: bool = False
    """Whether it cannot be told not to think."""
    audio: bool | None = None

    @property
    def places(self) -> tuple[bool | None, ...]:
        """Sees images, calls tools, reasons first, hears audio."""
        return self.vision, self.tools, self.thinking, self.audio


def of_model(model: Model) -> Abilities:
    """What is known of a listed model: of its files, else of what the catalog tells."""
    if "embedding" in model.usage or "rerank" in model.usage:
        return Abilities(embedding="embedding" in model.usage, rerank="rerank" in model.usage)
    told = model.capabilities
    known = model.downloaded or model.source in ("builtin", "catalog")
    sees = "vision" in told or model.projector is not None
    if not model.downloaded:
        sees = sees or "vision" in model.usage
    return Abilities(
        vision=sees or _no(known),
        tools="tools" in told or _no(known),
        thinking="thinking" in told or "always_thinking" in told or _no(known),
        always_thinking="always_thinking" in told,
        audio="audio" in told or _no(known),
    )


def of_hit(hit: SearchHit) -> Abilities:
    """What the tags of a repository on the Hub tell; what they do not tell is not known."""
    if "embedding" in hit.usage or "rerank" in hit.usage:
        return Abilities(embedding="embedding" in hit.usage, rerank="rerank" in hit.usage)
    vision, tools, thinking, audio = (
        True if name in hit.usage else None for name in ("vision", "tools", "thinking", "audio")
    )
    return Abilities(vision=vision, tools=tools, thinking=thinking, audio=audio)


def _no(known: bool) -> bool | None:
    return False if known else None


def letters(can: Abilities, no: str) -> str:
    """Four cells, a letter for each ability in its place, and the sign `no` where it has none.

    `emb` makes vectors, `rank` sorts texts; `?` stands for what is not known.

    >>> letters(Abilities(vision=False, tools=True, thinking=True, audio=False), "·")
    '·tr·'
    >>> letters(Abilities(vision=True), "·"), letters(Abilities(rerank=True), "·")
    ('v???', 'rank')
    """
    if can.embedding or can.rerank:
        return "emb" if can.embedding else "rank"
    if all(place is None for place in can.places):
        return UNTOLD
    signs = zip("vtra", can.places, strict=True)
    return "".join(UNTOLD if has is None else letter if has else no for letter, has in signs)


def spelled(can: Abilities) -> str:
    """The same in words: `calls tools, thinks first`.

    >>> spelled(Abilities(vision=False, tools=False, thinking=False, audio=False))
    'reads and writes text'
    """
    if can.embedding or can.rerank:
        return "makes vectors of texts" if can.embedding else "sorts texts by a question"
    thinks = "always thinks first" if can.always_thinking else "thinks first"
    words = ("sees images", "calls tools", thinks, "hears audio")
    able = [word for word, has in zip(words, can.places, strict=True) if has]
    if able:
        return ", ".join(able)
    known = all(has is not None for has in can.places)
    return "reads and writes text" if known else "what it can do shows once it is downloaded"
