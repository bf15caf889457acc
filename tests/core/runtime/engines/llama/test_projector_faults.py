"""A projector that llama.cpp would abort over is refused by its header."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from modeldeck.core.demo.projector import write_projector as write_demo_projector
from modeldeck.core.errors import EngineFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.runtime.engines.llama import projector_faults
from modeldeck.core.runtime.engines.llama.projector import limit_of
from modeldeck.core.runtime.engines.llama.projector_faults import fault
from tests.support import projector_kinds
from tests.support.projector_kinds import KINDS, Tower
from tests.support.projector_mutations import with_number, without_tensor
from tests.support.projectors import write_projector


@pytest.mark.parametrize("kind", KINDS)
def test_sound_projectors_have_no_fault(tmp_path: Path, kind: str) -> None:
    for number, tower in enumerate((Tower(), Tower(image=336, width=256, heads=4, blocks=3))):
        path = write_projector(tmp_path / f"{number}.gguf", kind, tower)
        assert fault(gguf_parser.read(path)) is None


@pytest.mark.parametrize(("kind", "stack"), [("ultravox", 8), ("voxtral", 4)])
def test_the_sizes_that_are_published_have_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stack: int
) -> None:
    """Which the same factors would have with the width of the other tests."""
    monkeypatch.setattr(projector_kinds, "STACK" if kind == "ultravox" else "PAIRED", stack)
    for width in (1280, 64):
        tower = Tower(width=width, heads=width // 64, feed_forward=256)
        path = write_projector(tmp_path / f"{width}.gguf", kind, tower, header_only=True)
        found = fault(gguf_parser.read(path))
        assert found is None if width == 1280 else "would expect 187 tokens" in str(found)


def test_the_projector_of_the_demo_has_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "demo.gguf"
    write_demo_projector(path)
    assert fault(gguf_parser.read(path)) is None


@pytest.mark.parametrize(
    ("kind", "key", "value", "words"),
    [
        ("ultravox", "clip.audio.projector.stack_factor", 8, "stack factor is 8"),
        ("ultravox", "clip.audio.projector.stack_factor", 0, "stack factor is 0"),
        ("ultravox", "clip.audio.num_mel_bins", 128, "128 bins, and its weights 80"),
        ("ultravox", "clip.audio.attention.head_count", 0, "0 attention heads"),
        ("llava", "clip.vision.attention.head_count", 5, "no 5 heads of 12"),
        ("llava", "clip.vision.image_size", 112, "has 65 places, and it knows 17"),
        ("llava", "clip.vision.image_size", 3, "smaller than a patch"),
        ("llava", "clip.vision.patch_size", 28, "28 pixels each way, and their weights 14 x 14"),
        ("llava", "clip.vision.embedding_length", 128, "no 2 heads of 64"),
        ("glm-edge", "clip.vision.image_size", 16, "1 patches each way cannot be merged by 2"),
        ("gemma3", "clip.vision.projector.scale_factor", 5, "4 patches each way cannot"),
        ("gemma3", "clip.vision.image_size", 70, "has 25 places, and it knows 16"),
        ("idefics3", "clip.vision.projector.scale_factor", 1, "cannot be merged by 1"),
        ("idefics3", "clip.vision.projector.scale_factor", 4, "mm.model.fc.weight takes 256"),
        ("internvl", "clip.vision.projector.scale_factor", 3, "4 patches each way cannot"),
        ("llama4", "clip.vision.projector.scale_factor", 3, "4 patches each way cannot"),
        ("lfm2", "clip.vision.projector.scale_factor", 4, "mm.1.weight takes 256"),
        ("kimivl", "clip.vision.projector.scale_factor", 1, "cannot be merged by 1"),
        ("pixtral", "clip.vision.spatial_merge_size", 1, "mm.patch_merger.weight takes 256"),
        ("qwen2vl", "clip.vision.spatial_merge_size", 3, "by 3, which must be 2"),
        ("qwen2.5vl", "clip.vision.spatial_merge_size", 1, "by 1, which must be 2"),
        ("qwen2.5vl", "clip.vision.projection_dim", 512, "mm.2.weight makes 256"),
        ("qwen2.5vl", "clip.vision.n_wa_pattern", 1, "none of its blocks looks at windows"),
        ("kimivl", "clip.vision.block_count", 0, "it has no blocks"),
        ("llama4", "clip.vision.image_size", 28, "has 5 places, and it knows 17"),
        ("idefics3", "clip.vision.preproc_image_size", 65535, "made 65535 pixels wide"),
        ("llama4", "clip.vision.patch_size", 28, "28 pixels each way, and their weights 588"),
        ("ultravox", "clip.audio.projector.stack_factor", 3, "mm.a.norm_pre.weight takes 256"),
        ("voxtral", "clip.audio.projector.stack_factor", 4, "expect 187 tokens and make 188"),
        ("voxtral", "clip.audio.projector.stack_factor", 3, "mm.a.mlp.1.weight takes 128"),
        ("minicpmv", "clip.minicpmv_version", 2, "64 queries, and version 2 has 96"),
    ],
)
def test_numbers_that_do_not_fit_are_told(
    tmp_path: Path, kind: str, key: str, value: int, words: str
) -> None:
    path = write_projector(tmp_path / "mmproj.gguf", kind)
    limit_of(str(path))
    path.write_bytes(with_number(path.read_bytes(), key, value))
    with pytest.raises(EngineFailed) as caught:
        limit_of(str(path))
    assert str(path) in caught.value.message
    assert words in caught.value.message
    assert "vision=false" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("qwen2vl", "v.blk.1.attn_k.weight"),
        ("gemma3", "v.patch_embd.weight"),
        ("internvl", "v.class_embd"),
        ("ultravox", "a.blk.0.attn_v.bias"),
        ("ultravox", "a.position_embd.weight"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, kind: str, name: str) -> None:
    path = write_projector(tmp_path / "mmproj.gguf", kind)
    path.write_bytes(without_tensor(path.read_bytes(), name))
    assert fault(gguf_parser.read(path)) == f"{name} is missing"


def test_the_example_in_the_documentation_holds() -> None:
    result = doctest.testmod(projector_faults)
    assert result.attempted
    assert not result.failed
