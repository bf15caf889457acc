import os
from pathlib import Path

import pytest

from modeldeck.core.catalog.hub_token import stored
from modeldeck.core.errors import HubUnavailable


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


BOM = "\ufeff"


@pytest.mark.parametrize(
    "content",
    [
        (BOM + "hf_file\r\n").encode(),
        (BOM + "hf_file\r\n").encode("utf-16-le"),
        (BOM + "hf_file\r\n").encode("utf-16-be"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_token(tmp_path: Path, content: bytes) -> None:
    # Windows PowerShell writes one, of either kind.
    (tmp_path / "token").write_bytes(content)
    assert stored(tmp_path, {}) == "hf_file"


@pytest.mark.parametrize(
    "content",
    [
        b"hf_secret\nhf_secret2",
        b"hf_secret hf_secret",
        "hf_secret\u200b".encode(),
        f"hf_{BOM}secret".encode(),
        b"hf_secret\x00",
        b"hf_secret\xff\xfe",
        b"\xff\xfehf_secret\x00x",
        b"hf_secret" * 2000,
    ],
)
def test_what_is_no_token_is_refused_by_its_place_and_never_shown(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(HubUnavailable) as refused:
        stored(tmp_path, {})
    assert str(tmp_path / "token") in refused.value.message
    assert "hf auth login" in refused.value.remedy
    cause: BaseException | None = refused.value
    while cause is not None:
        assert "secret" not in repr(cause)
        cause = cause.__cause__


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_variable_that_holds_no_token_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(HubUnavailable, match=f"the token in {name} is not one line") as refused:
        stored(tmp_path, {name: f"hf_{BOM}secret"})
    assert "secret" not in str(refused.value)


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(HubUnavailable, match="cannot be read"):
        stored(tmp_path, {})
    os.mkfifo(tmp_path / "pipe")  # a pipe without a writer: opening it must not wait
    with pytest.raises(HubUnavailable, match="cannot be read"):
        stored(tmp_path, {"HF_TOKEN_PATH": str(tmp_path / "pipe")})
