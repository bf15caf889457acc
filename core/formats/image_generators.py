"""GGUF files of models that generate images or video: valid files, but not language models.

Their `general.architecture` is a name that ComfyUI-GGUF and stable-diffusion.cpp write
(ComfyUI-GGUF, loader.py, `IMG_ARCH_LIST`); none is an architecture of llama.cpp (llama-arch.cpp).
"""

from __future__ import annotations

from modeldeck.core.errors import EngineFailed

ARCHITECTURES = frozenset(
    {"flux", "flux2", "sd1", "sd2", "sdxl", "sd3", "aura", "auraflow", "hidream", "cosmos"}
    | {"ltxv", "ltxv2", "hyvid", "hunyuan_video", "wan", "lumina2", "z_image", "qwen_image"}
    | {"chroma", "pixart", "kolors", "omnigen", "mochi", "pig"}
)


def refusal(architecture: str | None) -> EngineFailed | None:
    """Return the error for an architecture that generates images or video; else None."""
    if architecture not in ARCHITECTURES:
        return None
    return EngineFailed(
        f"This model makes images or video ({architecture}); llama.cpp does not load it.",
        "Run it with ComfyUI or stable-diffusion.cpp, or take a model that writes text.",
    )
