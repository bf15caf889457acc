"""README's lines of curl work as they stand, on a machine that has the models they name."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from modeldeck.core.api.examples import EMBEDDING_MODEL, MODEL, RERANKER
from modeldeck.core.api.route_table import ROUTES
from tests.api_table import HOST, curl
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
EMBED = "deck/tiny-embed-GGUF:F16"
RANK = "deck/rerank-GGUF:F16"
INSTEAD = {
    "hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0": f"hf.co/{TINY}",
    "/Qwen/Qwen3-0.6B-GGUF:Q8_0": f"/{TINY}",
    "Qwen%2FQwen3-0.6B-GGUF": "deck%2Ftiny-GGUF",
    EMBEDDING_MODEL: "tiny-embed-GGUF:F16",
    RERANKER: "rerank-GGUF:F16",
    MODEL: "tiny-GGUF:Q8_0",
    "query=qwen3": "query=tiny",
}
"""What this machine has instead of what the examples name, the longest first."""

ORDER = (
    *("ollamaPull", "deckGetState", "deckSearch", "deckGetRepository", "deckGetFit", "deckLoad"),
    *("openaiListModels", "openaiGetModel", "openaiGetModelByName", "openaiChat"),
    *("responsesCreate", "responsesInputTokens", "openaiComplete", "ollamaChat"),
    *("ollamaGenerate", "ollamaPs", "ollamaShow", "ollamaTags", "rerank", "rerankCohere"),
    *("rerankTei", "openaiEmbed", "ollamaEmbed", "ollamaEmbedOne", "deckPlanDeletion"),
    *("deckUnloadAll", "ollamaDelete", "deckGetCache", "deckGetLog", "deckGetAudit"),
    *("modelsSnapshot", "openapi", "wellKnownHealth", "wellKnownVersion", "health", "metrics"),
    "ollamaRunning",
)
"""Operations that follow from each other."""


def run(core: CoreProcess, line: str) -> str:
    """What a line prints; fails where the answer is an error."""
    for name, instead in INSTEAD.items():
        line = line.replace(name, instead)
    done = subprocess.run(
        [
            "sh",
            "-c",
            line.replace(HOST, core.url).replace("curl ", "curl -sS --fail-with-body ", 1),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_lines_of_readme(shared_core: CoreProcess) -> None:
    assert shutil.which("curl"), "curl is missing: install it"
    route_of = {route.operation_id: route for route in ROUTES}
    for name in (EMBED, RANK):
        run(shared_core, curl(route_of["ollamaPull"]).replace("Qwen/Qwen3-0.6B-GGUF:Q8_0", name))
    for name in ORDER:
        printed = run(shared_core, curl(route_of[name]))
        assert printed or name == "ollamaDelete"


def test_lines_of_ollama_s_documentation_need_no_type(shared_core: CoreProcess) -> None:
    line = f'curl {HOST}/api/show -d \'{{"model": "x"}}\''
    with pytest.raises(AssertionError, match="not found"):
        run(shared_core, line)


def test_a_browser_s_form_is_refused(shared_core: CoreProcess) -> None:
    line = f"curl -A Mozilla/5.0 {HOST}/api/pull -d 'model=x'"
    with pytest.raises(AssertionError, match="Content-Type: application/json"):
        run(shared_core, line)
