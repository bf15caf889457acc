"""What becomes of every field of Ollama's requests; see `modeldeck.core.api.openai.field_table`.

Source: api/types.go of github.com/ollama/ollama.
"""

from __future__ import annotations

from modeldeck.core.api.openai.field_table import FieldTable

CHAT = FieldTable(harmless=frozenset({"shift", "_debug_render_only"}))
"""`shift`: an answer ends where the context is full; nothing is left out in its middle."""
GENERATE = FieldTable(
    refused={
        "template": (),
        "context": (),
        "width": (0,),
        "height": (0,),
        "steps": (0,),
    },
    harmless=CHAT.harmless,
)
EMBED = FieldTable()
OPTIONS = FieldTable(
    harmless=frozenset(
        # How Ollama's own runner keeps a model.
        {"numa", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only", "embedding_only"}
        # Kept at the beginning of a context that is shifted: none is.
        | {"num_keep"}
        # llama.cpp has these samplers no more, and neither has Ollama.
        | {"tfs_z", "penalize_newline"}
    )
)
