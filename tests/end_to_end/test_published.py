"""Repositories as people really publish them: told before the download, or loaded as others do."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repository import DemoRepo
from modeldeck.core.demo.vocabulary import expected
from tests.support.odd_repositories import build_odd

REFUSED = [
    ("deck/code-mlx", "names Python code to run (auto_map)", 403),
    ("deck/newer-mlx", "mlx-lm does not support models of type unknown_kind", 500),
    ("deck/newer-GGUF:F16", "unknown model architecture: 'llamb'", 500),
    ("deck/lora-GGUF:F16", "It is an adapter", 500),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoRepo, ...]:
    return build_odd(tmp_path_factory.mktemp("odd"))


@pytest.fixture(autouse=True)
def published(shared_hub: DemoHub, odd: tuple[DemoRepo, ...]) -> None:
    """All of them, on the hub that the core knows."""
    for repo in odd:
        shared_hub.publish(repo)


@pytest.fixture
def core(shared_core: Any) -> Any:
    return shared_core


def of(unique: str, verb: str) -> str:
    return f"/deck/models/{quote(unique, safe='')}/{verb}"


def test_an_index_of_the_original_does_not_keep_a_model_from_loading(api: Any) -> None:
    unique = "deck/quant-mlx"
    before = api.get(of(unique, "fit?context_length=512"))
    assert before["verdict"] == "fits"
    api.pull(unique)
    assert api.get(of(unique, "fit?context_length=512"))["forecast"] == before["forecast"]
    instance = api.load(unique, context_length=512)
    assert api.ask(unique, "Please count for me") == expected("count")
    api.post(f"/deck/instances/{instance['id']}/unload")


@pytest.mark.parametrize(("unique", "words", "status"), REFUSED)
def test_what_refuses_a_load_is_told_before_the_download(
    api: Any, shared_hub: DemoHub, unique: str, words: str, status: int
) -> None:
    fit = api.get(of(unique, "fit"))
    assert (fit["verdict"], fit["forecast"]) == ("refused", None)
    assert words in fit["reason"]
    plan = api.post(of(unique, "load/plan"), {})
    assert words in plan["refusal"]["message"]
    refusal = api.post(of(unique, "download"), {}, status=status)["error"]
    assert words in refusal["message"]
    assert "--force" in refusal["remedy"]
    assert not [job for job in api.state()["downloads"] if job["unique"] == unique]
    quick = api.get("/deck/fits")["fits"][api.model(unique)["id"]]
    assert quick["verdict"] == "refused", "the list says the same as the details"
    repo = unique.partition(":")[0]
    (variant,) = api.get(f"/deck/repositories/{quote(repo, safe='')}")["variants"]
    assert words in variant["refusal"], "the list of the repository does as well"
    weights = [e for e in shared_hub.log if e.file.startswith(repo)]
    assert sum(e.bytes_sent for e in weights if e.file.endswith(".safetensors")) < 1 << 20


@pytest.mark.parametrize(("unique", "words"), [(u, w) for u, w, _ in REFUSED if "mlx" in u])
def test_the_list_of_a_repository_tells_it(api: Any, unique: str, words: str) -> None:
    (variant,) = api.get(f"/deck/repositories/{quote(unique, safe='')}")["variants"]
    assert words in variant["refusal"]


def test_what_is_refused_is_fetched_when_somebody_insists(api: Any) -> None:
    api.pull("deck/code-mlx", force=True)
    assert api.model("deck/code-mlx")["downloaded"]
    error = api.post(of("deck/code-mlx", "load"), {"wait": True}, status=500)["error"]
    assert "names Python code to run" in error["message"]


def test_a_head_beside_a_model_is_not_offered(api: Any) -> None:
    found = api.get(f"/deck/repositories/{quote('deck/heads-GGUF', safe='')}")["variants"]
    assert [(v["unique"], v["files"][0]["path"]) for v in found] == [
        ("deck/heads-GGUF:Q8_0", "heads-Q8_0.gguf")
    ]
    api.pull("deck/heads-GGUF:Q8_0")
    path = Path(api.model("deck/heads-GGUF:Q8_0")["path"])
    assert path.name == "heads-Q8_0.gguf"
    api.load("deck/heads-GGUF:Q8_0", context_length=512)
    assert api.ask("deck/heads-GGUF:Q8_0", "Please count for me") == expected("count")
