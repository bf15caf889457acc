"""The commands of tokens, against a real core: also one that must not start without a token."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import CoreUnreachable
from modeldeck.core.schema import TOKEN_SECRET
from modeldeck.tui.cli.commands.tokens import DurationParam
from modeldeck.tui.cli.main import main
from tests.support.process import CoreProcess
from tests.tui.conftest import PATIENCE_S


def run(*words: str, code: int = 0) -> str:
    """What a command writes to standard output; it must end with this code."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, (done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def told(*words: str) -> Any:
    """The one document that a command answers."""
    (line,) = run(*words, "--json").splitlines()
    return json.loads(line)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDECK_API_OUTSIDE", "")  # the commands set it for a core they start


def test_a_token_s_life(core: CoreProcess) -> None:
    assert told("token", "list") == []
    secret = run("token", "create", "laptop", "--scope", "read", "--expires", "30d").strip()
    assert TOKEN_SECRET.fullmatch(secret)
    (token,) = told("token", "list")
    assert (token["name"], token["scopes"]) == ("laptop", ["read"])
    assert token["expires_at"] > token["created_at"]
    shown = run("token", "list")
    assert "laptop" in shown
    assert "never" in shown
    assert secret not in shown
    bearer = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{core.url}/models", headers=bearer, timeout=PATIENCE_S).status_code == 200
    assert (
        httpx.post(f"{core.url}/deck/stop", headers=bearer, timeout=PATIENCE_S).status_code == 403
    )
    assert "already" in run("token", "create", "laptop", code=4)
    assert "name" in run("token", "create", "a b", code=2)
    assert run("token", "revoke", "laptop") == "laptop holds no more.\n"
    assert httpx.get(f"{core.url}/models", headers=bearer, timeout=PATIENCE_S).status_code == 401
    assert "token list" in run("token", "revoke", "laptop", code=3)
    actions = httpx.get(f"{core.url}/deck/audit", timeout=PATIENCE_S).json()["entries"]
    assert [(entry["action"], entry["outcome"]) for entry in actions] == [
        ("revoke token", "not_found"),
        ("revoke token", "done"),
        ("create token", "invalid_request"),
        ("create token", "conflict"),
        ("create token", "done"),
    ]
    assert all(entry["origin"].startswith(f"unix uid={os.getuid()} pid=") for entry in actions)


def test_the_first_one_can_be_made_though_the_core_would_not_start(
    home: Path, hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('[api]\noutside = "127.0.0.1:0"\n')
    environ = {**os.environ, "HF_ENDPOINT": hub.url}
    del environ["MODELDECK_API_OUTSIDE"]
    with pytest.raises(CoreUnreachable) as refused, CoreProcess(environ):
        pass
    assert any("modeldeck token create" in line for line in refused.value.details)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    secret = told("token", "create", "first")["secret"]
    with CoreProcess(environ) as core:
        url = httpx.get(f"{core.url}/deck/state", timeout=PATIENCE_S).json()["host"]["urls"][-1]
        assert httpx.get(f"{url}/models", timeout=PATIENCE_S).status_code == 401
        bearer = {"Authorization": f"Bearer {secret}"}
        assert httpx.get(f"{url}/models", headers=bearer, timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43200), ("30d", 2592000), ("1y", 31536000)]
)
def test_times(text: str, seconds: float) -> None:
    assert DurationParam().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5h", "-1d", "9999999d", "1 h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    assert "not a time" in run("token", "create", "a", "--expires", text, code=2)
