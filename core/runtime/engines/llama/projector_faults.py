"""Tells by the header of a projector that llama.cpp would abort over it. Pure.

libmtmd checks few of the numbers in a projector's header. Over others it aborts, some only when it
encodes the first image or recording, and with it ends the process that others get answers from. So
a file whose numbers do not fit each other, or its tensors, is refused before libmtmd reads it.

Each check says which lines of llama.cpp it follows (tools/mtmd). A kind that none is known of is
let through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

from modeldeck.core.formats.gguf_header import GgufHeader

FRAMES = 3000
"""Columns of the spectrum of half a minute, which Whisper's encoder takes (mtmd-audio.cpp)."""


@dataclass(frozen=True, slots=True)
class ProjectorPart:
    """The encoder for images, or that for recordings, of a projector."""

    header: GgufHeader
    name: str
    """`vision` or `audio`."""

    @property
    def kind(self) -> str:
        """The name that libmtmd has for its kind (`clip_model_loader::load_hparams`, clip.cpp)."""
        own = self.header.text(f"clip.{self.name}.projector_type")
        found = self.header.text("clip.projector_type") or own or ""
        if found == "qwen2.5o":
            return "qwen2.5vl_merger" if self.name == "vision" else "qwen2a"
        return found

    def number(self, key: str, default: int = 0) -> int:
        """A number of this part; the default where it is missing."""
        found = self.header.number(f"{self.name}.{key}")
        return default if found is None else found

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor; None where it is missing."""
        return next((t.shape for t in self.header.tensors if t.name == name), None)

    def rows(self, name: str) -> int | None:
        """The second number of the shape of a tensor, 1 where it has one; None where missing."""
        shape = self.shape(name)
        return None if shape is None else (*shape, 1)[1]

    @property
    def side(self) -> int:
        """Patches of an image each way, for kinds whose images all have one size."""
        return self.number("image_size") // max(1, self.number("patch_size"))


Check = Callable[[ProjectorPart], str | None]
"""Why a part cannot be used, as the end of a sentence that names the file; None for no reason."""


def fault(header: GgufHeader) -> str | None:
    """Why llama.cpp would abort over a projector, as a sentence; None where nothing tells so.

    >>> fault(GgufHeader(version=3, array_lengths={}, tensors=(), data_offset=0, metadata={
    ...     "general.architecture": "clip", "clip.projector_type": "ultravox",
    ...     "clip.has_audio_encoder": True, "clip.audio.projector.stack_factor": 8,
    ...     "clip.audio.embedding_length": 64}))
    ... # doctest: +ELLIPSIS
    'its stack factor is 8: of 1500 steps of sound llama.cpp would expect 187 tokens and ...'
    """
    for name in header.encoders:
        part = ProjectorPart(header, name)
        for check in (_epsilon, *_CHECKS.get(part.kind, ())):
            if (why := check(part)) is not None:
                return why
    return None


def _epsilon(part: ProjectorPart) -> str | None:
    """What norms divide by (`ggml_compute_forward_norm`, ggml-cpu/ops.cpp)."""
    found = part.header.metadata.get(f"clip.{part.name}.attention.layer_norm_epsilon", 0.0)
    if isinstance(found, float) and not found >= 0:
        return f"its layer_norm_epsilon is {found:g}"
    return None


def _heads(part: ProjectorPart) -> str | None:
    """The queries of a block are cut into heads (`clip_graph::build_vit`, clip.cpp)."""
    shape = part.shape(f"{part.name[0]}.blk.0.attn_q.weight")
    if shape is None:
        return None
    width, heads = part.number("embedding_length"), part.number("attention.head_count")
    if heads < 1:
        return f"it has {heads} attention heads"
    each = part.number("attention.head_dim") or width // heads
    if each * heads != (*shape, 1)[1]:
        return f"its {(*shape, 1)[1]} numbers of attention are no {heads} heads of {each}"
    return None


def _blocks(part: ProjectorPart) -> str | None:
    """Each block has queries, keys and values, in one matrix or three (`build_vit`, clip.cpp)."""
    if part.number("block_count") < 1:
        return "it has no blocks"
    names = {tensor.name for tensor in part.header.tensors}
    for number in range(part.number("block_count")):
        own = f"{part.name[0]}.blk.{number}.attn"
        if f"{own}_qkv.weight" in names:
            continue
        for one in "qkv":
            if (missing := f"{own}_{one}.weight") not in names:
                return f"{missing} is missing"
    return None


def _needs(*names: str) -> Check:
    """Tensors that a graph uses without asking whether they are there."""

    def check(part: ProjectorPart) -> str | None:
        missing = next((name for name in names if part.shape(name) is None), None)
        return None if missing is None else f"{missing} is missing"

    return check


def _without(*names: str) -> Check:
    """Tensors that a graph has no place for."""

    def check(part: ProjectorPart) -> str | None:
        found = next((name for name in names if part.shape(name) is not None), None)
        return None if found is None else f"{found} has no place in a projector of its kind"

    return check


# Images


def _patches(part: ProjectorPart) -> str | None:
    """The first step takes an image apart (`clip_graph::build_inp`, clip.cpp)."""
    shape = part.shape("v.patch_embd.weight")
    if shape is None or len(shape) < 3:
        return None
    patch, width = part.number("patch_size"), part.number("embedding_length")
    if shape[:2] != (patch, patch):
        return (
            f"its patches have {patch} pixels each way, and their weights {shape[0]} x {shape[1]}"
        )
    made = (*shape, 1)[3]
    return None if made == width else f"its width is {width}, and its patches become {made} numbers"


def _flat_patches(part: ProjectorPart) -> str | None:
    """Patches are the input of a matrix (`clip_graph_llama4`)."""
    shape, patch = part.shape("v.patch_embd.weight"), part.number("patch_size")
    if shape is None or shape[0] == 3 * patch**2:
        return None
    return f"its patches have {patch} pixels each way, and their weights {shape[0]} numbers"


def _side(part: ProjectorPart) -> str | None:
    return "its images are smaller than a patch" if part.side < 1 else None


def _places(part: ProjectorPart, *, whole: bool = True) -> str | None:
    """Each patch has its own vector (`learned_pos_embd`, clip.cpp; `positions`, llava.cpp)."""
    if (why := _side(part)) is not None:
        return why
    rows = part.rows("v.position_embd.weight")
    needed = part.side**2 + (part.shape("v.class_embd") is not None)
    if rows is None or (rows == needed if whole else rows >= needed):
        return None
    return f"an image of it has {needed} places, and it knows {rows}"


def _enough_places(part: ProjectorPart) -> str | None:
    return _places(part, whole=False)


def _merged_whole(part: ProjectorPart) -> str | None:
    """Squares of patches become a token (`clip_graph_internvl`, `clip_graph_llama4`)."""
    side, merge = part.side, part.number("projector.scale_factor", 1)
    if merge >= 1 and side >= merge and side % merge == 0:
        return None
    return f"{side} patches each way cannot be merged by {merge}"


def _merged_or_left(part: ProjectorPart) -> str | None:
    """Patches are averaged, and those left over at the edge are not counted (siglip.cpp)."""
    side, merge = part.side, part.number("projector.scale_factor", 4)
    if 1 <= merge <= side and side**2 // merge**2 == (side // merge) ** 2:
        return None
    return f"{side} patches each way cannot be merged by {merge}"


def _halved(part: ProjectorPart) -> str | None:
    """Four patches become a token (`clip_graph_llava`, and `clip_n_output_tokens`)."""
    side = part.side
    if side >= 2 and (side // 2) ** 2 == side**2 // 4:
        return None
    return f"{side} patches each way cannot be merged by 2"


def _merged_padded(part: ProjectorPart) -> str | None:
    """Squares of patches become a token (`build_patch_merge_permute`, clip.cpp)."""
    merge = part.number("projector.scale_factor", 1)
    return None if merge > 1 else f"its patches cannot be merged by {merge}"


def _merged_by_two(part: ProjectorPart) -> str | None:
    """Tokens are counted by pairs of patches each way (`clip_n_output_tokens`, clip.cpp)."""
    merge = part.number("spatial_merge_size", 2)
    return None if merge == 2 else f"it merges patches by {merge}, which must be 2"


def _input(name: str, key: str, default: int) -> Check:
    """Merged patches are the input of a matrix."""

    def check(part: ProjectorPart) -> str | None:
        shape = part.shape(name)
        made = part.number("embedding_length") * part.number(key, default) ** 2
        if shape is None or shape[0] == made:
            return None
        return f"its merged patches have {made} numbers, and {name} takes {shape[0]}"

    return check


def _windows(part: ProjectorPart) -> str | None:
    """Every nth block sees the whole image, others a window of it (`clip_graph_qwen2vl`)."""
    pattern = part.number("n_wa_pattern")
    return "none of its blocks looks at windows of an image" if pattern == 1 else None


def _projected(part: ProjectorPart) -> str | None:
    """What comes out is put in order by windows (`clip_graph_qwen2vl`)."""
    rows, width = part.rows("mm.2.weight"), part.number("projection_dim")
    if rows in (None, width):
        return None
    return f"its projection_dim is {width}, and mm.2.weight makes {rows} numbers"


def _queries(part: ProjectorPart) -> str | None:
    """As many tokens come of an image as it has queries (`clip_graph_minicpmv`)."""
    version = part.header.number("minicpmv_version") or 2
    usual = 64 if version in (3, 4, 5, 6, 100045) else 96
    counted = part.header.number("minicpmv_query_num") or usual
    rows = part.rows("resampler.query")
    if rows in (None, counted):
        return None
    return f"it has {rows} queries, and version {version} has {counted}"


def _tiles(least: int, most: int, limit: int) -> Check:
    """The tiles that an image is cut into (`load_hparams`, clip.cpp)."""

    def check(part: ProjectorPart) -> str | None:
        low = part.number("preproc_min_tiles", least)
        high = part.number("preproc_max_tiles", most)
        if 0 <= low <= high <= limit:
            return None
        return f"it cuts an image into {low} to {high} tiles"

    return check


def _one_of(key: str, default: int, *values: int) -> Check:
    """`load_hparams` (clip.cpp) lets only some values in, and aborts over others."""

    def check(part: ProjectorPart) -> str | None:
        found = part.number(key, default)
        if found in values:
            return None
        return f"its {key} is {found}, which must be {' or '.join(map(str, values))}"

    return check


def _least_pixels(part: ProjectorPart) -> str | None:
    """Images are made as large as this (`mtmd_image_preprocessor_dyn_size`, mtmd-image.cpp)."""
    found = part.number("image_min_pixels", 1)
    return None if found > 0 else f"its smallest image has {found} pixels"


def _longest_edge(part: ProjectorPart) -> str | None:
    """Images are made as large as this, for minutes where it is huge; clip.cpp bounds others so."""
    found = part.number("preproc_image_size")
    return None if found <= 8192 else f"its images are made {found} pixels wide; 8192 are the most"


def _square(part: ProjectorPart) -> str | None:
    """Places are resized from a square of them (`resize_position_embeddings`, clip.cpp)."""
    rows = part.rows("v.position_embd.weight")
    if rows is None or isqrt(rows) ** 2 == rows:
        return None
    return f"its {rows} places are no square"


# Recordings


def _stacked(part: ProjectorPart) -> str | None:
    """Steps of time become a token: they are counted, and made, in different ways.

    `clip_n_output_tokens`, `build_vit` and `build_stack`, clip.cpp; `clip_graph_whisper_enc`.
    Voxtral's steps are averaged in pairs first.
    """
    if (why := _can_stack(part)) is not None:
        return why
    stack, steps = part.number("projector.stack_factor"), FRAMES // 2
    counted = steps // stack if part.kind == "glma" else -(-FRAMES // stack) // 2
    if part.kind == "voxtral":
        steps, counted = steps // 2, counted // 2
    made = _tokens_made(steps, part.number("embedding_length"), stack)
    if counted == made:
        return _stacked_input(part, stack)
    return (
        f"its stack factor is {stack}: of {steps} steps of sound llama.cpp would expect {counted} "
        f"tokens and make {made}"
    )


def _tokens_made(steps: int, width: int, stack: int) -> int:
    """How many tokens `build_stack` makes. `GGML_PAD` (ggml.h) rounds by powers of 2 only.

    So it depends on the width: the numbers of Ultravox, 1280 and 8, go well, those of others not.

    >>> _tokens_made(1500, 1280, 8), _tokens_made(1500, 64, 8), _tokens_made(750, 1280, 4)
    (187, 188, 187)
    """
    each = max(1, width * stack)
    return steps if stack == 1 else ((steps * width + each - 1) & -each) // each


def _stacked_input(part: ProjectorPart, stack: int) -> str | None:
    name = "mm.a.mlp.1.weight" if part.kind == "voxtral" else "mm.a.norm_pre.weight"
    shape, made = part.shape(name), stack * part.number("embedding_length")
    if part.kind == "glma" or shape is None or shape[0] == made:
        return None
    return f"its stacked steps have {made} numbers, and {name} takes {shape[0]}"


def _can_stack(part: ProjectorPart) -> str | None:
    stack = part.number("projector.stack_factor")
    return f"its stack factor is {stack}" if stack < 1 else None


def _spectrum(part: ProjectorPart) -> str | None:
    """The spectrum goes through a convolution, and each step gets a place (whisper-enc.cpp)."""
    shape, rows = part.shape("a.conv1d.1.weight"), part.rows("a.position_embd.weight")
    bins = part.number("num_mel_bins")
    if shape is not None and (*shape, 1)[1] != bins:
        return f"its spectrum has {bins} bins, and its weights {(*shape, 1)[1]}"
    if rows is not None and rows < FRAMES // 2:
        return f"half a minute has {FRAMES // 2} places, and it knows {rows}"
    return None


def _kernel(part: ProjectorPart) -> str | None:
    """`load_hparams`, clip.cpp."""
    found = part.number("conv_kernel_size", 1)
    return None if found % 2 == 1 else f"its conv_kernel_size is {found}, which must be odd"


def _chunk(part: ProjectorPart) -> str | None:
    """`load_hparams`, clip.cpp."""
    found = part.number("chunk_size", 1)
    return None if 0 < found <= 8192 else f"its chunk_size is {found}; 1 to 8192 are possible"


_SEEING = (_heads, _blocks, _needs("v.patch_embd.weight"), _patches)
_FIRST = tuple(f"a.blk.0.{n}" for n in ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"))
_WHISPER = (
    *(_heads, _blocks, _spectrum, _without("a.blk.0.attn_k.bias")),
    _needs(*_FIRST, "a.blk.0.attn_q.bias", "a.blk.0.attn_v.bias", "a.position_embd.weight"),
)
_PAIRS = (_merged_by_two,)
_QWEN = (*_SEEING, *_PAIRS, _without("v.class_embd", "v.patch_embd.bias"))
_CLASS = _needs("v.class_embd", "v.position_embd.weight")
_LLAVA = (*_SEEING, _enough_places)
_SCALE, _SPATIAL = "projector.scale_factor", "spatial_merge_size"

_CHECKS: dict[str, tuple[Check, ...]] = {
    "gemma3": (*_SEEING, _places, _merged_or_left),
    "idefics3": (
        *(*_SEEING, _places, _merged_padded, _merged_whole, _longest_edge),
        _input("mm.model.fc.weight", _SCALE, 1),
    ),
    "janus_pro": (*_SEEING, _places),
    "internvl": (
        *(*_SEEING, _CLASS, _places, _merged_whole, _tiles(1, 12, (1 << 31) - 2)),
        _input("mm.model.mlp.1.weight", _SCALE, 1),
    ),
    "llama4": (
        *(_heads, _blocks, _CLASS, _flat_patches, _merged_whole, _places),
        _input("mm.model.mlp.1.weight", _SCALE, 1),
    ),
    "lfm2": (*_SEEING, _square, _merged_padded, _input("mm.1.weight", _SCALE, 1)),
    "kimivl": (*_SEEING, _square, _merged_padded, _input("mm.1.weight", _SCALE, 1)),
    "kimik25": (_merged_padded, _least_pixels),
    "nemotron_v2_vl": (_merged_padded,),
    "pixtral": (*_SEEING, _input("mm.patch_merger.weight", _SPATIAL, 1)),
    "mlp": _LLAVA,
    "ldp": _LLAVA,
    "ldpv2": _LLAVA,
    "adapter": (*_LLAVA, _halved),
    "resampler": (*_SEEING, _side, _queries, _without("v.class_embd")),
    "minicpmv4_6": (_one_of(_SCALE, 4, 2, 4),),
    "qwen2vl_merger": _QWEN,
    "qwen2.5vl_merger": (*_QWEN, _windows, _projected),
    "qwen3vl_merger": (*_SEEING, *_PAIRS, _without("v.class_embd")),
    "ling3vl": _PAIRS,
    "exaone4_5": _PAIRS,
    "mimovl": (*_PAIRS, _least_pixels),
    "minimax_m3": _PAIRS,
    "glm4v": _PAIRS,
    "glm5v": (*_PAIRS, _least_pixels),
    "youtuvl": _PAIRS,
    "muse-glimmer": _PAIRS,
    "phi4": (_square, _least_pixels),
    "dots_ocr": (_least_pixels,),
    "dots3note_v": (_least_pixels,),
    "paddleocr": (_least_pixels,),
    "hunyuanvl": (_least_pixels,),
    "deepseekocr": (_tiles(2, 9, 256),),
    "deepseekocr2": (_tiles(2, 6, 256),),
    "ultravox": (_stacked, *_WHISPER),
    "voxtral": (_stacked, *_WHISPER),
    "meralion": (_stacked, *_WHISPER),
    "glma": (_stacked, *_WHISPER),
    "qwen2a": _WHISPER,
    "musicflamingo": _WHISPER,
    "parakeet": (_one_of("subsampling_factor", 8, 8), _kernel),
    "granite_speech": (_chunk,),
}
"""What is checked of each kind, by libmtmd's name of it."""
