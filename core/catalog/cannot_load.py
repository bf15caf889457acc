"""Detect GGUF files that are not a model of their own, by their headers. Pure.

llama.cpp either refuses these with an error about a missing tensor, or loads them and then can
neither generate nor embed. Sources: `general.type` of the GGUF specification (ggml, docs/gguf.md;
gguf-py, `GGUFType`), and the names of architectures in llama.cpp (src/llama-arch.cpp).
"""

from __future__ import annotations

from modeldeck.core.formats.gguf_header import GgufHeader

Reason = tuple[str, str]
"""What the file is, as a sentence, and the remedy."""

_MODEL = "Take the model itself: a file without this word in its name, or another repository."
_KINDS: dict[str, Reason] = {
    "adapter": (
        "It is an adapter, which changes the weights of another model.",
        "Load the model that it was made for, with this file as --lora.",
    ),
    "mmproj": (
        "It is a vision projector, which turns pictures into input of another model.",
        "Take the model that it was made for.",
    ),
    "imatrix": (
        "It is an importance matrix, which only helps to quantize a model.",
        "Take the model that it was made of.",
    ),
    "vocab": ("It holds a vocabulary and no weights.", _MODEL),
}
_DRAFTS = "It only guesses ahead for another model, inside an engine that knows that one."
_ARCHITECTURES: dict[str, Reason] = {
    **dict.fromkeys(("dflash", "eagle3", "gemma4-assistant"), (_DRAFTS, _MODEL)),
    "clip": _KINDS["mmproj"],
    "imatrix": _KINDS["imatrix"],
    "wavtokenizer-dec": ("It turns the tokens of another model into sound.", _MODEL),
}


def by_architecture(architecture: str | None) -> Reason | None:
    """Return why this architecture is not a model of its own; None if it is one."""
    return _ARCHITECTURES.get(architecture or "")


def by_header(header: GgufHeader) -> Reason | None:
    """Return why a file is not a model of its own; None if it is one by its header."""
    if (reason := _KINDS.get(header.text("general.type") or "")) is not None:
        return reason
    if (reason := by_architecture(header.architecture)) is not None:
        return reason
    # The first file of a split model may hold the metadata alone.
    if not header.tensors and header.split_count == 1:
        return _KINDS["vocab"]
    return None
