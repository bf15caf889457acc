from pathlib import Path

import pytest

from core.catalog.token import stored


@pytest.mark.parametrize(
    ("environ", "file", "expected"),
    [
        ({"HF_TOKEN": " hf_env "}, "hf_file", "hf_env"),
        ({"HUGGING_FACE_HUB_TOKEN": "hf_old"}, None, "hf_old"),
        ({}, "hf_file\n", "hf_file"),
        ({"HF_TOKEN": ""}, "hf_file", "hf_file"),
        ({}, "  \n", None),
        ({}, None, None),
    ],
)
def test_the_token_is_where_the_hubs_tools_keep_it(
    tmp_path: Path, environ: dict[str, str], file: str | None, expected: str | None
) -> None:
    if file is not None:
        (tmp_path / "token").write_text(file)
    assert stored(tmp_path, environ) == expected


def test_a_file_of_its_own_wins_over_the_home(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_home")
    (tmp_path / "mine").write_text("hf_mine")
    assert stored(tmp_path, {"HF_TOKEN_PATH": str(tmp_path / "mine")}) == "hf_mine"
