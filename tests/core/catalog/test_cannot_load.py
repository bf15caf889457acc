"""What is told of a GGUF file that answers nothing by itself, from its header."""

from pathlib import Path

import pytest

from modeldeck.core.catalog import cannot_load
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.gguf_header import GgufHeader, TensorInfo
from tests.support.adapters import write_gguf_adapter
from tests.support.recipes import UNFIT

ONE = (TensorInfo(name="t", shape=(1,), type=0, offset=0, size_bytes=4),)


def header(*, tensors: tuple[TensorInfo, ...] = ONE, **metadata: int | str) -> GgufHeader:
    told = {name.replace("__", "."): value for name, value in metadata.items()}
    return GgufHeader(version=3, metadata=told, array_lengths={}, tensors=tensors, data_offset=0)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (header(general__architecture="llama"), None),
        (header(general__architecture="llama", general__type="model"), None),
        (header(general__architecture="llama", general__type="adapter"), "adapter"),
        (header(general__architecture="clip"), "projector"),
        (header(general__architecture="clip", general__type="mmproj"), "projector"),
        (header(general__type="imatrix"), "importance matrix"),
        (header(general__architecture="eagle3"), "guesses ahead"),
        (header(general__architecture="llama", tensors=()), "vocabulary and no weights"),
        (header(general__architecture="llama", split__count=2, tensors=()), None),
    ],
)
def test_each_kind_is_called_what_it_is(made: GgufHeader, words: str | None) -> None:
    reason = cannot_load.by_header(made)
    if words is None:
        assert reason is None
        return
    assert reason is not None
    assert words in reason[0]
    assert reason[1]


def test_a_real_adapter_and_a_real_model(tmp_path: Path, demo_models: Path) -> None:
    adapter = gguf_parser.read(write_gguf_adapter(tmp_path / "a.gguf"))
    assert cannot_load.by_header(adapter) is not None
    model = gguf_parser.read(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    assert cannot_load.by_header(model) is None


def test_every_architecture_that_is_known_to_answer_nothing_is_told() -> None:
    assert all(cannot_load.by_architecture(name) for name in UNFIT)
    assert cannot_load.by_architecture(None) is None
