"""Which machine is meant."""

from __future__ import annotations

import pytest

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import InvalidRequest
from modeldeck.tui.remote.machines import (
    HERE,
    SYSTEM_SOCKET,
    beside,
    chosen,
    from_command_line,
    machine,
)

HOSTS = {
    "gpu1": RemoteSettings(ssh="me@gpu1.lan"),
    "cloud": RemoteSettings(url="https://cloud.example:5323", token_file="t"),
}
OPTIONS = ("--on", "--url")


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("@gpu1", "--on @gpu1"),
        ("@a @b ps --json", "--on @a --on @b ps --json"),
        ("--ascii @a", "--ascii --on @a"),
        ("--on @a @b ps", "--on @a --on @b ps"),
        ("--url @x status", "--url @x status"),
        ("run model @tell", "run model @tell"),
        ("copy m @a @b", "copy m @a @b"),
        ("", ""),
    ],
)
def test_names_before_the_command_are_options(words: str, read: str) -> None:
    assert from_command_line(words.split(), OPTIONS) == read.split()


def test_a_name_of_the_configuration_comes_before_one_that_ssh_knows() -> None:
    assert machine("gpu1", HOSTS).remote == RemoteSettings(ssh="me@gpu1.lan")
    assert machine("gpu2", HOSTS).remote == RemoteSettings(ssh="gpu2")
    assert machine("me@10.0.0.7", HOSTS).remote == RemoteSettings(ssh="me@10.0.0.7")
    assert machine("local", HOSTS) == HERE
    assert machine("system", HOSTS).remote == RemoteSettings(socket=str(SYSTEM_SOCKET))


def test_all_are_those_of_the_configuration_each_once() -> None:
    assert [m.name for m in chosen(["@all", "@gpu1", "@x"], HOSTS)] == ["gpu1", "cloud", "x"]
    with pytest.raises(InvalidRequest, match="No machines are named"):
        chosen(["@all"], {})


@pytest.mark.parametrize(
    ("named", "others"),
    [
        (["@local"], ["gpu1", "cloud"]),
        (["@gpu1"], ["local", "cloud"]),
        (["@x"], ["local", "gpu1", "cloud"]),
        (["@all"], []),
        (["@gpu1", "@x"], []),
    ],
)
def test_one_machine_has_those_of_the_configuration_beside_it(
    named: list[str], others: list[str]
) -> None:
    found, wrong = beside(chosen(named, HOSTS), HOSTS)
    assert [each.name for each in found] == others
    assert wrong == ()
    assert beside(chosen(["@local"], {}), {}) == ((), ())


def test_a_machine_that_is_named_wrongly_is_told_and_left_out() -> None:
    found, wrong = beside([HERE], {**HOSTS, "bad": RemoteSettings(ssh="-oProxyCommand=x")})
    assert [each.name for each in found] == ["gpu1", "cloud"]
    assert len(wrong) == 1
    assert "hosts.bad" in wrong[0]


@pytest.mark.parametrize("name", ["-oProxyCommand=evil", "a b", "a;b", "$(x)", "", "a\nb"])
def test_what_ssh_could_misread_is_no_destination(name: str) -> None:
    with pytest.raises(InvalidRequest, match="no destination"):
        machine(name, {})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://gpu.lan:5323", "unencrypted"),
        ("ftp://x", "is no URL"),
        ("gpu.lan:5323", "is no URL"),
    ],
)
def test_a_token_goes_over_no_line_that_others_can_read(url: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        machine("x", {"x": RemoteSettings(url=url)})
    machine("x", {"x": RemoteSettings(url="http://127.0.0.1:5323")})
