"""What libmtmd's log tells of a projector's memory, and what is estimated besides."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.runtime.engines.llama import projector_needs
from modeldeck.core.runtime.engines.llama.projector_needs import (
    CONTEXT_BYTES,
    HEARING_BYTES,
    MASK_BYTES,
    PIXEL_BYTES,
    SECOND_BYTES,
    MediaWork,
    Reserved,
    fits_text_model,
    has_windows,
    largest_image,
    media_of,
    reserved,
)
from modeldeck.core.runtime.engines.llama.projector_plan import ProjectorPlan
from modeldeck.core.schema import DeviceBytes
from tests.support.projectors import write_projector

MIB = 1 << 20
LOG = """\
load_hparams: patch_size:         14
load_hparams: image_max_pixels:   1605632 (custom value)
load_hparams: model size:         40.30 MiB
get_dummy_batch: warmup with image size = 1288 x 1288
get_dummy_batch: warmup with image size = 1288 x 1288
reserve_compute_meta:      CUDA0 compute buffer size =    80.00 MiB
reserve_compute_meta:        CPU compute buffer size =     5.25 MiB
reserve_compute_meta: graph splits = 1, nodes = 70
get_dummy_batch: warmup with audio size = 3000
reserve_compute_meta:        CPU compute buffer size =     2.29 MiB
reserve_compute_meta: graph splits = 1, nodes = 60
"""


def header(tmp_path: Path, kind: str) -> GgufHeader:
    return gguf_parser.read(write_projector(tmp_path / f"{kind}.gguf", kind))


def test_the_log_tells_of_images_and_audio_apart() -> None:
    found = reserved(LOG.splitlines())
    assert found == Reserved(
        image_bytes=round(85.25 * MIB),
        audio_bytes=round(2.29 * MIB),
        image_pixels=1288**2,
        most_pixels=1605632,
        patch_pixels=196,
        audio_steps=3000,
    )
    assert found.compute_bytes == found.image_bytes + found.audio_bytes


def test_flash_attention_that_is_tried_in_vain_counts_once() -> None:
    twice = [*LOG.splitlines()[:8], *LOG.splitlines()[5:8]]
    assert reserved(twice).image_bytes == round(85.25 * MIB)


def test_a_larger_image_takes_what_encoding_it_reserved() -> None:
    lines = [
        "reserve_compute_meta:        CPU compute buffer size =    27.36 MiB",
        "reserve_compute_meta: graph splits = 1, nodes = 70",
        "clip_encode: copying image 1/1 to input buffer (nx=1260, ny=1288)",
    ]
    small = Reserved(image_bytes=3 * MIB, image_pixels=448**2, most_pixels=1 << 21)
    found = small.with_image(reserved(lines))
    assert (found.image_bytes, found.image_pixels) == (round(27.36 * MIB), 1260 * 1288)
    assert found.most_pixels == 1 << 21


def test_a_smaller_image_takes_its_part_and_a_mask_the_square_of_it() -> None:
    large = Reserved(image_bytes=1000, image_pixels=2000, most_pixels=1000)
    assert large.smaller(windows=False).image_bytes == 500
    mask = MASK_BYTES * 2000**2
    whole = Reserved(image_bytes=mask + 1000, image_pixels=2000, most_pixels=1000)
    assert whole.smaller(windows=True).image_bytes == mask // 4 + 500


@pytest.mark.parametrize(
    ("tokens", "sides"), [(2048, (64, 32)), (1024, (32, 32)), (1120, (35, 32)), (7, (7, 1))]
)
def test_the_largest_image_has_all_its_tokens(tokens: int, sides: tuple[int, int]) -> None:
    assert largest_image(tokens, tokens * 28 * 28) == (sides[0] * 28, sides[1] * 28)


def test_the_header_tells_what_a_projector_takes(tmp_path: Path) -> None:
    sees, hears = header(tmp_path, "qwen2.5vl"), header(tmp_path, "ultravox")
    assert (media_of(sees).sees, media_of(sees).hears) == (True, False)
    assert (media_of(hears).sees, media_of(hears).hears) == (False, True)
    assert has_windows(sees)
    assert not has_windows(header(tmp_path, "qwen2vl"))
    assert fits_text_model(sees, 256)
    assert not fits_text_model(sees, 512)


def test_an_image_is_cut_or_encoded_and_a_recording_is_heard(tmp_path: Path) -> None:
    found = Reserved(image_pixels=56 * 56, patch_pixels=14 * 14, audio_steps=3000)
    work = MediaWork.of(header(tmp_path, "llava"), found, [16, 16], 256, 0.0)
    # The widest product is that of the last matrix: 16 rows of 256 numbers of 16 bits.
    assert work.work_bytes == 2 * 16 * 256
    held = 2 * 12 * 56 * 56 + 4 * 16 * 256
    own = CONTEXT_BYTES + work.work_bytes
    assert work.bytes(10**7) == int(own + held + PIXEL_BYTES * 10**7)
    assert work.bytes(0) == own + held + 12 * 56 * 56
    heard = MediaWork.of(header(tmp_path, "ultravox"), found, [], 256, 100.0)
    assert heard.bytes(10**7) == CONTEXT_BYTES + heard.work_bytes + HEARING_BYTES + int(
        100 * SECOND_BYTES
    )


def test_weights_and_buffers_go_to_the_first_gpu() -> None:
    plan = ProjectorPlan(weights_bytes=5, compute_bytes=3, besides_bytes=1)
    model = DeviceBytes(name="CUDA0", weights_bytes=10, kv_bytes=4, compute_bytes=2)
    other = DeviceBytes(name="CUDA1", weights_bytes=1, kv_bytes=1, compute_bytes=1)
    assert plan.on_device((model, other), "CUDA0") == (
        DeviceBytes(name="CUDA0", weights_bytes=15, kv_bytes=4, compute_bytes=5),
        other,
    )
    assert plan.on_device((), "CUDA0") == (
        DeviceBytes(name="CUDA0", weights_bytes=5, kv_bytes=0, compute_bytes=3),
    )
    assert plan.total_bytes == 9


def test_docs() -> None:
    assert not doctest.testmod(projector_needs).failed
