import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldeck.core.config import config, config_file
from modeldeck.core.config.config import Config, DownloadSettings
from modeldeck.core.config.config_file import changed, load, set_value, set_values
from modeldeck.core.errors import InvalidRequest, StorageFailed
from modeldeck.core.schema import LoadOptions


def test_nothing_written_means_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml", {}) == (Config(), ())


def test_a_file_is_read_by_section(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[api]\nport = 5323\nallowed_origins = ["http://localhost:3000"]\n'
        '[runtime]\nwhen_full = "unload_idle"\n'
    )
    settings, problems = load(path, {})
    assert not problems
    assert settings.api.port == 5323
    assert settings.api.allowed_origins == ("http://localhost:3000",)
    assert settings.runtime.when_full == "unload_idle"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[api]\n\nport = 99999\n", 3, "65535"),
        ("# hello\n[api]\nprot = 1\n", 3, "'prot'"),
        ("[api]\nport = 1\n\n[weather]\nsun = 1\n", 4, "'weather'"),
        ('[runtime]\nwhen_full = "panic"\n', 2, "when_full"),
        ("[runtime]\ncontext_length = 0\n", 2, "16"),
        ("[api]\nport = \n", 2, "not TOML"),
        ("api = 3\n", 1, "'api'"),
        ("api.prot = 3\n", 1, "'prot'"),
        ('[downloads]\nschedule = {"7-8" = "none"}\n', 2, "schedule"),
        ('\n[downloads.schedule]\n"01:00-07:00" = "fast"\n', 2, "schedule"),
    ],
)
def test_what_is_not_taken_is_named_with_its_line_and_the_rest_stands(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    settings, (problem,) = load(path, {})
    assert problem.where == f"{path}:{line}"
    assert says in problem.message
    assert settings.downloads == Config().downloads


def test_a_file_that_cannot_be_read_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    settings, (problem,) = load(tmp_path, {})
    assert settings == Config()
    assert "cannot be read" in problem.message


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("MODELDECK_API_PORT", "0", "api", "port", 0),
        (
            "MODELDECK_DOWNLOADS_SCHEDULE",
            '{"01:00-02:00" = 9}',
            "downloads",
            "schedule",
            {"01:00-02:00": 9},
        ),
        ("MODELDECK_API_SOCKET", "false", "api", "socket", False),
        ("MODELDECK_API_ALLOWED_HOSTS", "a.local, b", "api", "allowed_hosts", ("a.local", "b")),
        ("MODELDECK_RUNTIME_WHEN_FULL", "unload_idle", "runtime", "when_full", "unload_idle"),
        ("MODELDECK_HUB_TIMEOUT_S", "2.5", "hub", "timeout_s", 2.5),
        ("HF_ENDPOINT", "http://127.0.0.1:9/", "hub", "endpoint", "http://127.0.0.1:9"),
    ],
)
def test_the_environment_wins(
    tmp_path: Path, variable: str, text: str, section: str, key: str, value: object
) -> None:
    settings, problems = load(tmp_path / "none.toml", {variable: text})
    assert not problems
    assert getattr(getattr(settings, section), key) == value


def test_a_bad_value_in_the_environment_is_named(tmp_path: Path) -> None:
    settings, (problem,) = load(tmp_path / "none.toml", {"MODELDECK_API_PORT": "many"})
    assert problem.where == "MODELDECK_API_PORT"
    assert settings.api.port is None


def test_keys_of_the_dashboard_are_free(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[keys]\n"catalog.download" = "D"\n\ncatalog.load = "X"\n')
    settings, (problem,) = load(path, {})
    assert settings.keys == {"catalog.download": "D"}
    assert problem.where == f"{path}:4"
    assert "quotes" in problem.message


def test_machines_are_read_by_their_name_with_a_preference(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[hosts]\na = "me@a"\nb = { ssh = "b", prefer = 1 }\nc = { ssh = "c", prefer = 101 }\n'
    )
    config, problems = load(path, {})
    assert {name: host.prefer for name, host in config.hosts.items()} == {"a": 0, "b": 1}
    assert "hosts.c" in problems[0].message


def test_a_change_keeps_comments_and_order(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "# mine\n[runtime]\nidle_ttl_s = 60  # a minute\n\n[api] # the door\nport = 1\n"
    )
    set_value(path, "api", "port", 5323)
    set_value(path, "downloads", "jobs_at_once", 4)
    text = path.read_text()
    assert text.startswith("# mine\n[runtime]\nidle_ttl_s = 60  # a minute\n\n[api] # the door\n")
    assert load(path, {})[0].api.port == 5323
    assert load(path, {})[0].downloads.jobs_at_once == 4
    set_value(path, "api", "port", None)
    assert "port" not in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


def test_several_settings_are_changed_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    set_values(path, "downloads", {"schedule": {"01:00-07:00": "none", "08:00-09:00": 5}})
    set_values(path, "downloads", {"give_way": True, "rate_limit_bytes_per_s": 7})
    settings, problems = load(path, {})
    assert not problems
    assert settings.downloads.schedule == {"01:00-07:00": "none", "08:00-09:00": 5}
    assert (settings.downloads.give_way, settings.downloads.rate_limit_bytes_per_s) == (True, 7)
    set_values(path, "downloads", {"schedule": None, "rate_limit_bytes_per_s": None})
    assert load(path, {})[0].downloads == DownloadSettings(give_way=True)


def test_a_change_is_checked_before_it_is_made() -> None:
    assert changed(DownloadSettings(), "downloads", {"jobs_at_once": 5}) == DownloadSettings(
        jobs_at_once=5
    )
    for bad in ({"jobs_at_once": 0}, {"schedule": {"noon": "none"}}, {"speed": 1}):
        with pytest.raises(InvalidRequest):
            changed(DownloadSettings(), "downloads", bad)


@pytest.mark.parametrize(
    ("section", "key", "value"), [("api", "prot", 1), ("sky", "x", 1), ("api", "port", -1)]
)
def test_a_bad_change_leaves_the_file_alone(
    tmp_path: Path, section: str, key: str, value: object
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[api]\nport = 1\n")
    with pytest.raises(InvalidRequest):
        set_value(path, section, key, value)
    assert path.read_text() == "[api]\nport = 1\n"


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[api\n")
    with pytest.raises(StorageFailed):
        set_value(path, "api", "port", 1)
    assert path.read_text() == "[api\n"


def test_every_setting_has_its_reason() -> None:
    source = Path(config.__file__).read_text()
    for section, key in config_file.names():
        kind = type(getattr(config.Config(), section)).__name__
        body = source.split(f"class {kind}:")[1].split("\n@dataclass")[0]
        after = body.split(f"\n    {key}:")[1].split("\n", 1)[1].lstrip()
        assert after.startswith('"""'), f"{section}.{key} has no docstring"


def test_how_single_models_are_loaded_is_read_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[models."Qwen/Qwen3-8B-GGUF:Q4_K_M"]\ncontext_length = 4096\nkv_cache_type = "q8_0"\n'
        '[models."a/b"]\nengine = "mlx"\n'
    )
    settings, problems = load(path, {})
    assert not problems
    assert settings.models == {
        "Qwen/Qwen3-8B-GGUF:Q4_K_M": LoadOptions(context_length=4096, kv_cache_type="q8_0"),
        "a/b": LoadOptions(engine="mlx"),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[models]\n"a/b" = 3\n', "written as a table"),
        ('[models."a/b"]\nctx = 3\n', "'ctx'"),
        ('[models."a/b"]\nthreads = 1000\n', "from 1 to 512"),
    ],
)
def test_a_bad_option_of_a_model_is_named_with_it(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    settings, (problem,) = load(path, {})
    assert settings.models == {}
    assert says in problem.message


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o644])
def test_a_linked_file_stays_linked_and_keeps_its_mode(tmp_path: Path, bits: int) -> None:
    (tmp_path / "dotfiles").mkdir()
    real, path = tmp_path / "dotfiles" / "modeldeck.toml", tmp_path / "config.toml"
    real.write_text("[api]\nport = 1  # mine\n")
    real.chmod(bits)
    path.symlink_to("dotfiles/modeldeck.toml")
    set_value(path, "api", "port", 2)
    assert path.is_symlink()
    assert real.read_text() == "[api]\nport = 2  # mine\n"
    assert mode(real) == bits
    assert [each.name for each in real.parent.iterdir()] == [real.name]


def test_a_new_file_is_the_owners_and_a_link_to_none_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.symlink_to("elsewhere/modeldeck.toml")
    set_value(path, "api", "port", 2)
    assert path.is_symlink()
    assert mode(tmp_path / "elsewhere" / "modeldeck.toml") == 0o600


MANY: dict[str, int] = {
    "stall_s": 5, "jobs_at_once": 3, "connections": 4, "retries": 7, "retry_wait_s": 9,
}  # fmt: skip


def test_settings_that_are_changed_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("# mine\n" * 500)
    start = threading.Barrier(len(MANY))

    def change(key: str) -> None:
        start.wait()
        set_value(path, "downloads", key, MANY[key])

    with ThreadPoolExecutor(len(MANY)) as threads:
        list(threads.map(change, MANY))
    settings, problems = load(path, {})
    assert not problems
    assert {key: getattr(settings.downloads, key) for key in MANY} == MANY


def test_settings_that_several_processes_change_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    script = (
        "import pathlib, sys\n"
        "from modeldeck.core.config.config_file import set_value\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for value in range(1, 21):\n"
        "    set_value(pathlib.Path(sys.argv[1]), 'downloads', sys.argv[2], value)\n"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for key in ("connections", "retries")
    ]  # fmt: skip
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        program.communicate("go\n", timeout=150)
        assert program.returncode == 0
    settings, _ = load(path, {})
    assert (settings.downloads.connections, settings.downloads.retries) == (20, 20)
