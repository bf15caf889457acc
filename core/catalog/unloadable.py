"""GGUF files that llama.cpp cannot answer from by themselves, told by their headers. Pure.

llama.cpp either refuses these with words about a missing tensor, or reads them and then can neither
answer nor embed. Sources: `general.type` of the GGUF specification (ggml, docs/gguf.md; gguf-py,
`GGUFType`), and the names of architectures in llama.cpp (src/llama-arch.cpp).
"""

from __future__ import annotations

from modeldeck.core.formats.gguf_header import GgufHeader

Reason = tuple[str, str]
"""What it is, as a sentence, and what to do about it."""

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
    """Why a model of this architecture answers nothing by itself; None where nothing is known."""
    return _ARCHITECTURES.get(architecture or "")


def by_header(header: GgufHeader) -> Reason | None:
    """Why a file answers nothing by itself; None where its header tells of nothing against it."""
    if (reason := _KINDS.get(header.text("general.type") or "")) is not None:
        return reason
    if (reason := by_architecture(header.architecture)) is not None:
        return reason
    # The first file of a split model may hold the metadata alone.
    if not header.tensors and header.split_count == 1:
        return _KINDS["vocab"]
    return None
