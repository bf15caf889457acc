import os
import stat
from pathlib import Path

import pytest

from modeldeck.core.config.paths import SOCKET_PATH_LIMIT, locate
from modeldeck.core.storage.files import make_private


def test_one_variable_puts_everything_of_ours_under_one_folder(tmp_path: Path) -> None:
    paths = locate({"MODELDECK_HOME": str(tmp_path)})
    ours = [paths.config, paths.state, paths.cache, paths.runtime, paths.log]
    assert all(folder.parent == tmp_path for folder in ours)
    assert len(set(ours)) == len(ours)
    assert not paths.hf_cache.is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["config", "state", "cache", "runtime", "log"])
def test_each_folder_can_be_moved_alone(tmp_path: Path, name: str) -> None:
    paths = locate({"MODELDECK_HOME": "/home", f"MODELDECK_{name.upper()}_DIR": str(tmp_path)})
    assert getattr(paths, name) == tmp_path


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/hub", "HF_HOME": "/b"}, "/a/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({}, os.path.expanduser("~/.cache/huggingface/hub")),
        ({"HF_HOME": "~/models"}, os.path.expanduser("~/models/hub")),
    ],
)
def test_the_cache_is_where_the_hubs_own_tools_keep_it(
    environ: dict[str, str], expected: str
) -> None:
    assert str(locate(environ).hf_cache) == expected


def test_a_socket_path_is_never_too_long_for_a_socket(tmp_path: Path) -> None:
    short = locate({"MODELDECK_HOME": "/tmp/x"}).socket
    assert short == Path("/tmp/x/runtime/core.sock")
    long = [locate({"MODELDECK_HOME": f"{tmp_path}/{'x' * 100}{n}"}).socket for n in (1, 2)]
    assert all(len(os.fsencode(path)) <= SOCKET_PATH_LIMIT for path in long)
    assert long[0] != long[1]


def test_a_private_folder_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True, mode=0o755)
    assert stat.S_IMODE(make_private(folder).stat().st_mode) == 0o700
    assert stat.S_IMODE(make_private(tmp_path / "new").stat().st_mode) == 0o700
