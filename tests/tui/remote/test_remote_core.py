"""A core at a URL: over TLS, with a token, as a command and as a dashboard sees it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from modeldeck.core.client.client import Client
from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import CoreUnreachable, Forbidden, InvalidRequest, Unauthorized
from modeldeck.core.schema.state import State
from modeldeck.tui.cli.main import main
from modeldeck.tui.dashboard.fleet import low_bandwidth, trip
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from modeldeck.tui.remote.machines import Machine
from modeldeck.tui.remote.remote_core import core_of, token_in
from tests.support.process import CoreProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A core that answers beyond its machine."""

    url: str
    token: Path
    certificate: Path

    @property
    def remote(self) -> RemoteSettings:
        """As the configuration names it."""
        return RemoteSettings(
            url=self.url, token_file=str(self.token), ca_file=str(self.certificate)
        )

    def options(self) -> list[str]:
        """As the command line names it."""
        files = ("--token-file", str(self.token), "--ca-file", str(self.certificate))
        return ["--url", self.url, *files]


@pytest.fixture(scope="module")
def outside(shared_hub: DemoHub) -> Iterator[Outside]:
    with tempfile.TemporaryDirectory(prefix="md-") as name:
        folder = Path(name)
        key, certificate, token = folder / "key.pem", folder / "cert.pem", folder / "token"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=deck"),
                *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)),
                *("-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        environ = {
            **os.environ,
            "MODELDECK_HOME": str(folder / "home"),
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": shared_hub.url,
        }
        with CoreProcess(environ) as core:
            token.touch(mode=0o600)
            token.write_text(asyncio.run(made(core)) + "\n")
        there = {
            "MODELDECK_API_OUTSIDE": "127.0.0.1:0",
            "MODELDECK_API_TLS_CERTIFICATE": str(certificate),
            "MODELDECK_API_TLS_KEY": str(key),
        }
        with CoreProcess(environ | there) as core:
            yield Outside(url=asyncio.run(answers(core)), token=token, certificate=certificate)


async def made(core: CoreProcess) -> str:
    async with Client(socket=core.socket) as client:
        return (await client.create_token("laptop", ("manage",))).secret


async def answers(core: CoreProcess) -> str:
    async with Client(socket=core.socket) as client:
        return (await client.state()).host.urls[-1]


def test_commands_work_at_a_url(outside: Outside) -> None:
    done = CliRunner().invoke(main, [*outside.options(), "ps", "--json"])
    assert (done.exit_code, done.stdout) == (0, "[]\n"), done
    done = CliRunner().invoke(main, [*outside.options(), "status", "--json"])
    assert json.loads(done.stdout)["host"]["urls"][-1] == outside.url


async def test_the_feed_comes_over_tls_with_the_token(outside: Outside) -> None:
    core = core_of(Machine(name="cloud", remote=outside.remote))
    async with core.attach() as client, client.feed.watch() as items:
        assert isinstance(await anext(items), State)
    assert await core.leave() is None
    assert not await core.revive()


async def test_who_it_is_and_who_asks_are_both_checked(outside: Outside, tmp_path: Path) -> None:
    unknown = RemoteSettings(url=outside.url, token_file=str(outside.token))
    with pytest.raises(CoreUnreachable, match="certificate"):
        async with core_of(Machine(name="cloud", remote=unknown)).attach():
            pass
    other = tmp_path / "token"
    other.touch(mode=0o600)
    other.write_text("deck_" + "A" * 43)
    wrong = RemoteSettings(url=outside.url, token_file=str(other), ca_file=str(outside.certificate))
    with pytest.raises(Unauthorized):
        async with core_of(Machine(name="cloud", remote=wrong)).attach():
            pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token-file", "x", "ps"], "go with --url"),
        (["--url", "https://x", "--on", "@a", "ps"], "contradict"),
        (["--url", "http://gpu.lan:1", "ps"], "unencrypted"),
        (["--url", "https://me:planted@gpu.lan", "ps"], "must not hold a password"),
        (["--url", "https://[::1", "ps"], "is no URL"),
        (["--url", "https://gpu.lan:99999", "ps"], "is no URL"),
        (["@gpu1", "serve"], "this machine"),
        (["@gpu1", "demo"], "this machine"),
        (["@gpu1", "service", "status"], "this machine"),
        (["copy", "m", "@a"], "from where to where"),
        (["copy", "m", "a", "b"], "from where to where"),
        (["@all", "ps"], "No machines are named"),
    ],
)
def test_words_that_make_no_sense_are_refused(options: list[str], words: str, home: Path) -> None:
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2, done
    assert words in " ".join(done.stderr.split())
    assert "planted" not in done.output


def test_a_token_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(0o644)
    with pytest.raises(Forbidden, match="Others may read"):
        token_in(str(file))
    file.chmod(0o600)
    assert token_in(str(file)) == "secret"
    assert token_in(None) is None
    file.write_text("two\nlines")
    with pytest.raises(InvalidRequest, match="no token"):
        token_in(str(file))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        token_in(str(tmp_path / "nothing"))
    os.mkfifo(tmp_path / "pipe", 0o600)  # a pipe without a writer
    with pytest.raises(InvalidRequest, match="named pipe"):
        token_in(str(tmp_path / "pipe"))
    file.write_bytes(b"\xef\xbb\xbfdeck_planted\n")  # as some editors begin a file
    with pytest.raises(InvalidRequest, match="no token") as raised:
        token_in(str(file))
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("wanted", "over_ssh", "round_trip_s", "low"),
    [
        (None, False, None, False),
        (None, False, 0.02, False),
        (None, False, 0.31, True),
        (None, True, None, True),
        (True, False, None, True),
        (False, True, 0.5, False),
    ],
)
def test_a_slow_line_is_drawn_on_seldom(
    wanted: bool | None, over_ssh: bool, round_trip_s: float | None, low: bool
) -> None:
    assert low_bandwidth(wanted, over_ssh=over_ssh, round_trip_s=round_trip_s) is low


@pytest.mark.parametrize(
    ("round_trip_s", "words"), [(None, ""), (0.004, ""), (0.02, "20 ms"), (0.31, "310 ms")]
)
def test_the_round_trip_is_told_where_it_is_felt(round_trip_s: float | None, words: str) -> None:
    assert trip(LinkStatus(state=LinkState.LIVE, round_trip_s=round_trip_s)) == words
