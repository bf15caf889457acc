"""The chat template that a model brings, in each of the places where one may lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeldeck.core.service.library.chat_templates import read

PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
WITH_TOOLS = "{% for t in tools %}{{ t }}{% endfor %}"


def test_a_gguf_file_has_it_in_its_header(demo_models: Path) -> None:
    found = read(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf", "gguf")
    assert found is not None
    assert "messages" in found.text
    assert read(demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf", "gguf") is None
    assert read(demo_models / "broken-GGUF" / "broken-Q8_0.gguf", "gguf") is None
    assert read(demo_models / "nothing", "gguf") is None


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"chat_template.jinja": PLAIN, "tokenizer_config.json": "{}"}, PLAIN),
        ({"tokenizer_config.json": json.dumps({"chat_template": WITH_TOOLS})}, WITH_TOOLS),
        (
            {
                "tokenizer_config.json": json.dumps(
                    {
                        "chat_template": [
                            {"name": "default", "template": PLAIN},
                            {"name": "tool_use", "template": WITH_TOOLS},
                        ]
                    }
                )
            },
            WITH_TOOLS,
        ),
        ({"tokenizer_config.json": "{"}, None),
        ({"tokenizer_config.json": '{"chat_template": 1}'}, None),
        ({}, None),
    ],
)
def test_a_folder_has_it_in_a_file(tmp_path: Path, files: dict[str, str], text: str | None) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    found = read(tmp_path, "mlx")
    assert (found.text if found else None) == text
    assert found is None or found.takes_tools == (text == WITH_TOOLS)
