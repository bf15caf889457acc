"""The kinds of projectors that `tests.support.projectors` writes: their tensors and metadata.

The names and shapes are those that llama.cpp's library for images and audio (libmtmd) asks for
(tools/mtmd/clip.cpp and models/ in llama.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shapes = dict[str, tuple[int, ...]]
"""Of tensors, in ggml's order."""
Keys = dict[str, Any]
"""Metadata, under `clip.`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Sizes of an encoder and its projector."""

    image: int = 56
    """Width and height of an image, or of a tile of one, in pixels."""
    patch: int = 14
    width: int = 64
    feed_forward: int = 128
    heads: int = 2
    blocks: int = 2
    merge: int = 2
    """Patches on each side that become one token of the text model."""
    out: int = 256
    """Width of the text model."""
    bins: int = 80
    """Of the spectrum, for audio."""

    @property
    def patches(self) -> int:
        """Patches of an image of `image` pixels."""
        return (self.image // self.patch) ** 2

    @property
    def merged(self) -> int:
        """Numbers of the patches that become one token."""
        return self.width * self.merge**2


def _encoder(t: Tower, prefix: str = "v", *, gate: bool = False, key_bias: bool = True) -> Shapes:
    """The blocks of an encoder."""
    found: Shapes = {}
    e, f = t.width, t.feed_forward
    for block in range(t.blocks):
        own = f"{prefix}.blk.{block}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            found[f"{own}.{name}.weight"] = (e, e)
            if name != "attn_k" or key_bias:
                found[f"{own}.{name}.bias"] = (e,)
        for norm in ("ln1", "ln2"):
            found |= {f"{own}.{norm}.weight": (e,), f"{own}.{norm}.bias": (e,)}
        found |= {f"{own}.ffn_up.weight": (e, f), f"{own}.ffn_up.bias": (f,)}
        found |= {f"{own}.ffn_down.weight": (f, e), f"{own}.ffn_down.bias": (e,)}
        if gate:
            found |= {f"{own}.ffn_gate.weight": (e, f), f"{own}.ffn_gate.bias": (f,)}
    return found


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def _patches(t: Tower, *, bias: bool = True) -> Shapes:
    found: Shapes = {"v.patch_embd.weight": (t.patch, t.patch, 3, t.width)}
    return found | ({"v.patch_embd.bias": (t.width,)} if bias else {})


def _siglip(t: Tower) -> Shapes:
    """An encoder with learned positions, as Gemma 3, SmolVLM and LFM2 have."""
    positions: Shapes = {"v.position_embd.weight": (t.width, t.patches)}
    return _patches(t) | positions | _encoder(t) | _norm("v.post_ln", t.width)


def _gemma3(t: Tower) -> Shapes:
    return _siglip(t) | {
        "mm.input_projection.weight": (t.out, t.width),
        "mm.soft_emb_norm.weight": (t.width,),
    }


def _idefics3(t: Tower) -> Shapes:
    return _siglip(t) | {"mm.model.fc.weight": (t.merged, t.out)}


def _lfm2(t: Tower) -> Shapes:
    hidden = 2 * t.merged
    first, second = _linear("mm.1", t.merged, hidden), _linear("mm.2", hidden, t.out)
    return _siglip(t) | _norm("mm.input_norm", t.merged) | first | second


def _qwen2vl(t: Tower, *, gate: bool = False) -> Shapes:
    patches = _patches(t, bias=False)
    patches["v.patch_embd.weight.1"] = patches["v.patch_embd.weight"]
    first, second = _linear("mm.0", t.merged, t.merged), _linear("mm.2", t.merged, t.out)
    return patches | _encoder(t, gate=gate) | _norm("v.post_ln", t.width) | first | second


def _qwen25vl(t: Tower) -> Shapes:
    shapes = _qwen2vl(t, gate=True)
    return {name: shape for name, shape in shapes.items() if not _is_norm_bias(name)}


def _is_norm_bias(name: str) -> bool:
    return name.endswith(("ln1.bias", "ln2.bias", "post_ln.bias"))


def _llava(t: Tower) -> Shapes:
    return (
        _patches(t, bias=False)
        | {"v.class_embd": (t.width,), "v.position_embd.weight": (t.width, t.patches + 1)}
        | _norm("v.pre_ln", t.width)
        | _encoder(t)
        | _linear("mm.0", t.width, t.out)
        | _linear("mm.2", t.out, t.out)
    )


def _glm_edge(t: Tower) -> Shapes:
    hidden, wide = 2 * t.width, 2 * t.out
    return (
        _siglip(t)
        | {"adapter.conv.weight": (2, 2, t.width, hidden), "adapter.conv.bias": (hidden,)}
        | {"adapter.linear.linear.weight": (hidden, t.out)}
        | _norm("adapter.linear.norm1", t.out)
        | {
            "adapter.linear.dense_h_to_4h.weight": (t.out, wide),
            "adapter.linear.gate.weight": (t.out, wide),
            "adapter.linear.dense_4h_to_h.weight": (wide, t.out),
            "adapter.boi": (t.out,),
            "adapter.eoi": (t.out,),
        }
    )


def _pixtral(t: Tower) -> Shapes:
    blocks = {
        name: shape for name, shape in _encoder(t, gate=True).items() if not name.endswith(".bias")
    }
    return (
        _patches(t, bias=False)
        | {"v.pre_ln.weight": (t.width,)}
        | blocks
        | {
            "mm.input_norm.weight": (t.width,),
            "mm.patch_merger.weight": (t.merged, t.width),
            "mm.1.weight": (t.width, t.out),
            "mm.2.weight": (t.out, t.out),
            "v.token_embd.img_break": (t.out,),
        }
    )


def _internvl(t: Tower) -> Shapes:
    scales: Shapes = {
        f"v.blk.{i}.ls{n}.weight": (t.width,) for i in range(t.blocks) for n in (1, 2)
    }
    return (
        _patches(t)
        | {"v.class_embd": (t.width,), "v.position_embd.weight": (t.width, t.patches + 1)}
        | _encoder(t)
        | scales
        | _norm("mm.model.mlp.0", t.merged)
        | _linear("mm.model.mlp.1", t.merged, t.out)
        | _linear("mm.model.mlp.3", t.out, t.out)
    )


def _llama4(t: Tower) -> Shapes:
    hidden = 2 * t.merged
    return (
        {"v.patch_embd.weight": (3 * t.patch**2, t.width), "v.class_embd": (t.width,)}
        | {"v.position_embd.weight": (t.width, t.patches + 1)}
        | _norm("v.pre_ln", t.width)
        | _encoder(t)
        | _norm("v.post_ln", t.width)
        | {
            "mm.model.mlp.1.weight": (t.merged, hidden),
            "mm.model.mlp.2.weight": (hidden, hidden),
            "mm.model.fc.weight": (hidden, t.out),
        }
    )


def _kimivl(t: Tower) -> Shapes:
    return (
        _siglip(t)
        | _norm("mm.input_norm", t.width)
        | _linear("mm.1", t.merged, t.merged)
        | _linear("mm.2", t.merged, t.out)
    )


def _minicpmv(t: Tower) -> Shapes:
    found = _siglip(t) | {"v.position_embd.weight": (t.width, 70 * 70)}
    for name in ("q", "k", "v", "out"):
        found |= _linear(f"resampler.attn.{name}", t.out, t.out)
    for name in ("q", "kv", "post"):
        found |= _norm(f"resampler.ln_{name}", t.out)
    return found | {
        "resampler.pos_embed_k": (t.out, 70 * 70),
        "resampler.query": (t.out, 64),
        "resampler.proj.weight": (t.out, t.out),
        "resampler.kv.weight": (t.width, t.out),
    }


STACK = 4
"""Steps of time that become one token, in `_ultravox`."""
PAIRED = 2
"""The same in `_voxtral`, which averages them in pairs first."""


def _whisper(t: Tower) -> Shapes:
    return (
        {"a.position_embd.weight": (t.width, 1500)}
        | {"a.conv1d.1.weight": (3, t.bins, t.width), "a.conv1d.1.bias": (1, t.width)}
        | {"a.conv1d.2.weight": (3, t.width, t.width), "a.conv1d.2.bias": (1, t.width)}
        | _encoder(t, "a", key_bias=False)
        | _norm("a.post_ln", t.width)
    )


def _ultravox(t: Tower) -> Shapes:
    stacked, hidden = STACK * t.width, 2 * t.width
    return _whisper(t) | {
        "mm.a.norm_pre.weight": (stacked,),
        "mm.a.mlp.1.weight": (stacked, 2 * hidden),
        "mm.a.norm_mid.weight": (hidden,),
        "mm.a.mlp.2.weight": (hidden, t.out),
    }


def _voxtral(t: Tower) -> Shapes:
    hidden = 2 * t.width
    return _whisper(t) | {
        "mm.a.mlp.1.weight": (PAIRED * t.width, hidden),
        "mm.a.mlp.2.weight": (hidden, t.out),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorKind:
    """How a kind of projector is written."""

    type: str
    """libmtmd's name of it (`clip.projector_type`)."""
    shapes: Callable[[Tower], Shapes]
    keys: Callable[[Tower], Keys] = lambda _: {}
    """Besides the sizes that all have."""
    text: str = "llama"
    """Architecture of the text model."""
    markers: tuple[str, ...] = ()
    """Tokens that the text model must have, since libmtmd puts them around and between images."""
    grows: bool = False
    """Whether a larger image becomes more tokens in one piece."""
    hears: bool = False
    """Whether it takes audio, not images."""


def _merge(key: str) -> Callable[[Tower], Keys]:
    return lambda t: {f"vision.{key}": t.merge}


_SCALE, _SPATIAL = _merge("projector.scale_factor"), _merge("spatial_merge_size")

KINDS: dict[str, ProjectorKind] = {
    "gemma3": ProjectorKind(
        type="gemma3",
        shapes=_gemma3,
        keys=_SCALE,
        markers=("<start_of_image>", "<end_of_image>"),
    ),
    "qwen2vl": ProjectorKind(
        type="qwen2vl_merger",
        grows=True,
        shapes=_qwen2vl,
        keys=_SPATIAL,
        text="qwen2vl",
        markers=("<|vision_start|>", "<|vision_end|>"),
    ),
    "qwen2.5vl": ProjectorKind(
        type="qwen2.5vl_merger",
        grows=True,
        shapes=_qwen25vl,
        keys=lambda t: _SPATIAL(t) | {"vision.n_wa_pattern": 2, "use_silu": True},
        text="qwen2vl",
        markers=("<|vision_start|>", "<|vision_end|>"),
    ),
    "idefics3": ProjectorKind(
        type="idefics3",
        shapes=_idefics3,
        keys=lambda t: _SCALE(t) | {"vision.preproc_image_size": 2 * t.image},
        markers=(
            *("\n\n", "<fake_token_around_image>", "<global-img>"),
            *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
        ),
    ),
    "llava": ProjectorKind(type="mlp", shapes=_llava),
    "glm-edge": ProjectorKind(type="adapter", shapes=_glm_edge),
    "pixtral": ProjectorKind(
        type="pixtral",
        grows=True,
        shapes=_pixtral,
        keys=lambda t: _SPATIAL(t) | {"use_gelu": False, "use_silu": True},
        markers=("[IMG_END]",),
    ),
    "internvl": ProjectorKind(
        type="internvl", shapes=_internvl, keys=_SCALE, markers=("<img>", "</img>")
    ),
    "llama4": ProjectorKind(
        type="llama4",
        shapes=_llama4,
        keys=_SCALE,
        markers=(
            *("<|image_start|>", "<|image_end|>", "<|image|>"),
            *("<|tile_x_separator|>", "<|tile_y_separator|>"),
        ),
    ),
    "kimivl": ProjectorKind(
        type="kimivl",
        grows=True,
        shapes=_kimivl,
        keys=_SCALE,
        markers=("<|media_start|>", "<|media_end|>"),
    ),
    "lfm2": ProjectorKind(
        type="lfm2",
        shapes=_lfm2,
        keys=_SCALE,
        markers=("<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"),
    ),
    "minicpmv": ProjectorKind(
        type="resampler",
        shapes=_minicpmv,
        keys=lambda _: {"minicpmv_version": 3},
        markers=("<image>", "</image>", "<slice>", "</slice>"),
    ),
    "ultravox": ProjectorKind(
        type="ultravox",
        shapes=_ultravox,
        keys=lambda _: {"audio.projector.stack_factor": STACK},
        hears=True,
    ),
    "voxtral": ProjectorKind(
        type="voxtral",
        shapes=_voxtral,
        keys=lambda _: {"audio.projector.stack_factor": PAIRED},
        markers=("[BEGIN_AUDIO]",),
        hears=True,
    ),
}
"""Gemma 3's images are read non-causally, in one piece; the positions of Qwen-VL's are fewer than
their tokens (M-RoPE); SmolVLM (`idefics3`), `llama4`, `internvl`, `lfm2` and `minicpmv` cut large
images into tiles; `ultravox` and `voxtral` hear, with the encoder of Whisper."""
