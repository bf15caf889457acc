"""Models from URLs that are not the Hub's, by the API and the command line."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from modeldeck.core.demo.model_writer import expected
from modeldeck.tui.cli.main import main
from tests.support.files import FileServer


@pytest.fixture
def files(demo_models: Path) -> Iterator[FileServer]:
    """A plain server with a tiny model."""
    model = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    with FileServer.in_thread({"models/tiny-Q8_0.gguf": model}) as files:
        yield files


def repository(api: Any, url: str) -> Any:
    """What the list of the cache has of a URL, or None."""
    return next((r for r in api.get("/deck/cache")["repositories"] if r["url"] == url), None)


def test_the_main_job_with_a_url(api: Any, home: Path, files: FileServer) -> None:
    url = files.url("models/tiny-Q8_0.gguf")
    size = files.files["models/tiny-Q8_0.gguf"].stat().st_size
    fit = api.get(f"/deck/models/{quote(url, safe='')}/fit?context_length=512")
    assert (fit["verdict"], fit["exact"]) == ("fits", True)
    assert api.model(url) is None  # looked at, and not listed

    job = api.pull(url)
    assert (job["url"], job["verifiable"], job["total_bytes"]) == (url, False, size)
    model = api.model(url)
    assert (model["downloaded"], model["custom"], model["quantization"]) == (True, True, "Q8_0")
    assert model["context_length"]
    assert Path(model["path"]).is_relative_to(home / "files")
    listed = repository(api, url)
    assert listed["size_bytes"] == size
    api.load(url, context_length=512)
    assert api.ask("tiny-Q8_0.gguf", "Please count for me") == expected("count")

    refused = api.post("/deck/cache/delete", {"models": [url]}, status=409)
    assert refused["error"]["code"] == "in_use"
    for instance in api.state()["instances"]:
        api.post(f"/deck/instances/{instance['id']}/unload")
    receipt = api.post("/deck/cache/delete", {"models": [url]})
    assert (receipt["freed_bytes"], receipt["failed"], receipt["undo"]) == (size, [], None)
    assert not api.model(url)["downloaded"]
    assert repository(api, url) is None
    assert list((home / "files").glob("models--*")) == []
    assert api.until(lambda s: s["disk"])["cache_bytes"] == 0


def test_the_command_line_says_what_is_not_verified(
    api: Any, home: Path, files: FileServer
) -> None:
    url = files.url("models/tiny-Q8_0.gguf")
    ran = CliRunner().invoke(main, ["pull", url])
    assert ran.exit_code == 0, ran.output
    assert "1 file not verified" in ran.stdout
    assert "The server gives no hash" in ran.stderr
    assert "http://127.0.0.1" in CliRunner().invoke(main, ["cache", "ls"]).stdout
    ran = CliRunner().invoke(main, ["cache", "verify", "--json"])
    check = json.loads(ran.stdout)
    assert (check["files"], check["wrong"]) == (1, [])

    content = files.files["models/tiny-Q8_0.gguf"].read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    promised = CliRunner().invoke(main, ["pull", f"{url}#sha256={sha256}"])
    assert promised.exit_code == 0, promised.output
    assert "is downloaded already" in promised.stdout  # what came has that very hash
    assert "gives no hash" not in promised.stderr
    wrong = CliRunner().invoke(main, ["pull", f"{url}#sha256={'0' * 64}"])
    assert "corrupt" in wrong.stderr
    assert wrong.exit_code == 1
    for refused, why in (
        ("http://example.org/x.gguf", "trusted_hosts"),
        (files.url("no.gguf"), "nothing at"),
    ):
        ran = CliRunner().invoke(main, ["pull", refused])
        assert ran.exit_code != 0
        assert why in ran.stderr
        assert api.model(refused) is None
    assert api.state()["host"]["hub_error"] is None


def test_what_costs_nothing_is_taken_back(api: Any, files: FileServer) -> None:
    url = files.url("models/tiny-Q8_0.gguf")
    assert api.get("/deck/undo")["actions"] == []
    api.post("/deck/undo", status=404)
    job = api.pull(url)
    api.call("DELETE", f"/deck/downloads/{job['id']}", status=204)
    assert api.state()["downloads"] == []
    assert api.post("/deck/undo")["what"] == f"cleared the download of {url}"
    back = api.until(lambda s: s["downloads"])[0]
    assert (back["id"], back["state"]) == (job["id"], "completed")

    key = api.model(url)["id"]
    api.call("DELETE", f"/deck/models/{key}", status=204)
    assert api.model(url) is None
    (entry,) = api.get("/deck/undo")["actions"]
    assert entry["what"] == "removed tiny-Q8_0 from the list"
    api.post("/deck/undo", {"id": entry["id"]})
    assert api.model(url)["id"] == key
    assert not api.model(url)["downloaded"]  # its bytes came back to the disk at once
    api.post("/deck/undo", {"id": entry["id"]}, status=404)
    assert [e["action"] for e in api.get("/deck/audit")["entries"]].count("undo") == 4
