"""Which kinds of model mlx-lm knows, told without importing it: the same as it tells itself."""

import ast
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.runtime.engines.mlx import types as mlx_types

mlx_utils: Any = pytest.importorskip("mlx_lm.utils")

KINDS = [
    *("llama", "mistral", "qwen3", "qwen3_moe", "gemma3", "phi-msft", "deepseek_v3", "kimi_k2"),
    *("nobody_knows", "bert", "whisper", "flux"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_tells_the_same_as_mlx_lm_itself(kind: str) -> None:
    types = mlx_types.installed()
    assert types is not None
    try:
        mlx_utils._get_classes({"model_type": kind})
    except ValueError:
        assert not types.knows(kind)
    else:
        assert types.knows(kind)


def test_every_name_that_stands_for_another_one_is_known() -> None:
    types = mlx_types.installed()
    assert types is not None
    assert all(types.knows(name) for name in mlx_utils.MODEL_REMAPPING)


def test_an_mlx_lm_of_another_shape_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("OTHER = {}\n")
    assert mlx_types.read(tmp_path) is None
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "llama.py").touch()
    assert mlx_types.read(tmp_path) is None
    (tmp_path / "utils.py").write_text("MODEL_REMAPPING = {'mistral': 'llama'}\n")
    types = mlx_types.read(tmp_path)
    assert types is not None
    assert types.knows("mistral")
    assert types.knows("llama")
    assert not types.knows("qwen3")


def test_it_is_parsed_again_where_python_3_11_confuses_two_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ast.parse` raises SystemError there, now and then, while another thread parses as well."""
    (tmp_path / "utils.py").write_text("MODEL_REMAPPING = {'mistral': 'llama'}\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "llama.py").touch()
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 2

    def confused(*given: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return parse(*given, **more)

    with monkeypatch.context() as patch:  # pytest parses to tell of a failure
        patch.setattr(ast, "parse", confused)
        types = mlx_types.read(tmp_path)
    assert types is not None
    assert types.knows("mistral")
