"""Example requests and responses by operation, for the OpenAPI document and README.

Each has the type of its route, and works on a machine that has the models it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL = "Qwen3-0.6B-GGUF:Q8_0"
"""A short name that needs no percent-encoding in a path."""
EMBEDDING_MODEL = "Qwen3-Embedding-0.6B-GGUF:Q8_0"
RERANKER = "Qwen3-Reranker-0.6B-GGUF:Q8_0"
_ASKED = "Why is the sky blue?"
_RANKED = ["Air scatters blue light most.", "Bread is baked."]
_HUB_NAME = "hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0"
_HELLO = [{"role": "user", "content": "Why is the sky blue?"}]
_DIGEST = "9f" * 32
_COMMIT = "1a" * 20
_SEED = {
    "name": "My model",
    "version": "1",
    "created": {"value": "2026-01-31T12:00:00Z"},
    "cloud": False,
    "type": "SPEED",
    "usage": "CODE_CONVERSATION",
    "unique": "/models/mine.gguf",
}

BODIES: Mapping[str, Any] = {
    "modelUpdate": {"id": "MODEL_ID", **_SEED, "name": "A better name"},
    "modelsCreateNewModel": _SEED,
    "modelsDeleteSpecificModelCache": {},
    "piecesConnect": {
        "application": {"name": "OPEN_SOURCE", "platform": "LINUX", "version": "0.0.0"}
    },
    "deckCreateModel": {"unique": "/models/mine.gguf", "name": "My model"},
    "deckUpdateModel": {"description": "The one with the long memory."},
    "deckPlanLoad": {"context_length": 8192},
    "deckLoad": {"context_length": 8192, "idle_ttl_s": 600, "wait": True},
    "deckSaveDefaults": {"context_length": 16384, "kv_cache_type": "q8_0"},
    "deckDownload": {"force": False},
    "deckBench": {"at_once": [1, 4], "load": True},
    "deckCancelDownload": {"discard": False},
    "deckMoveDownload": {"to": "first"},
    "deckLimitDownload": {"bytes_per_s": 5_000_000},
    "deckChangeInstance": {"pinned": True},
    "deckPlanDeletion": {"models": [MODEL]},
    "deckDeleteCached": {"models": [MODEL]},
    "deckVerifyCache": {"models": [MODEL]},
    "deckChangeSettings": {"jobs_at_once": 2, "rate_limit_bytes_per_s": None},
    "openaiChat": {"model": MODEL, "messages": _HELLO},
    "openaiComplete": {"model": MODEL, "prompt": "The sky is", "max_tokens": 20},
    "openaiEmbed": {"model": EMBEDDING_MODEL, "input": ["The sky is blue."]},
    "responsesCreate": {"model": MODEL, "input": "Why is the sky blue?"},
    "responsesInputTokens": {"model": MODEL, "input": "Why is the sky blue?"},
    "conversationsCreate": {"metadata": {"topic": "sky"}},
    "conversationsUpdate": {"metadata": {"topic": "weather"}},
    "conversationsAddItems": {"items": _HELLO},
    "rerank": {"model": RERANKER, "query": _ASKED, "documents": _RANKED, "top_n": 1},
    "rerankCohere": {"model": RERANKER, "query": _ASKED, "documents": _RANKED},
    "rerankTei": {"query": _ASKED, "texts": _RANKED},
    "anthropicCreate": {"model": MODEL, "max_tokens": 200, "messages": _HELLO},
    "anthropicCountTokens": {"model": MODEL, "messages": _HELLO},
    "llamaChat": {"model": MODEL, "messages": _HELLO},
    "llamaTokenize": {"model": MODEL, "content": "The sky is blue."},
    "llamaDetokenize": {"model": MODEL, "tokens": [785, 12884, 374, 6303]},
    "llamaApplyTemplate": {"model": MODEL, "messages": _HELLO},
    "llamaCountChat": {"model": MODEL, "messages": _HELLO},
    "ollamaShow": {"model": _HUB_NAME},
    "ollamaPull": {"model": _HUB_NAME},
    "ollamaDelete": {"model": _HUB_NAME},
    "ollamaChat": {"model": _HUB_NAME, "messages": _HELLO},
    "ollamaGenerate": {"model": _HUB_NAME, "prompt": "Why is the sky blue?", "keep_alive": "10m"},
    "ollamaEmbed": {"model": EMBEDDING_MODEL, "input": ["The sky is blue."]},
    "ollamaEmbedOne": {"model": EMBEDDING_MODEL, "prompt": "The sky is blue."},
    "deckCreateToken": {"name": "laptop", "scopes": ["read", "infer"]},
    "deckUndo": {},
    "deckRecord": {"seconds": 300},
    "deckTake": {
        "peer": "/run/user/1000/other.sock",
        "manifest": {
            "model": {
                "id": "MODEL_ID",
                "unique": "Qwen/Qwen3-0.6B-GGUF:Q8_0",
                "name": "Qwen3 0.6B Q8_0",
                "format": "gguf",
                "source": "hub",
            },
            "repo": "Qwen/Qwen3-0.6B-GGUF",
            "revision": _COMMIT,
            "ref": "main",
            "files": [
                {
                    "path": "Qwen3-0.6B-Q8_0.gguf",
                    "size_bytes": 639_446_688,
                    "blob": _DIGEST,
                    "lfs": True,
                }
            ],
        },
    },
}
"""Example body of each operation that has one."""

_SEEING = "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M"
_SHOWN = "What colour is it?"
_IMAGE = "R0lGODdhAQABAIEAAP8AAAAAAAAAAAAAACwAAAAAAQABAAAIBAABBAQAOw=="
"""A red dot, as GIF."""
_IMAGE_URL = f"data:image/gif;base64,{_IMAGE}"
_IMAGE_PARTS = [
    {"type": "image_url", "image_url": {"url": _IMAGE_URL}},
    {"type": "text", "text": _SHOWN},
]
_IMAGE_ITEMS = [
    {"type": "input_image", "image_url": _IMAGE_URL},
    {"type": "input_text", "text": _SHOWN},
]
_IMAGE_BLOCKS = [
    {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/gif", "data": _IMAGE},
    },
    {"type": "text", "text": _SHOWN},
]

IMAGE_BODIES: Mapping[str, Any] = {
    "openaiChat": {"model": _SEEING, "messages": [{"role": "user", "content": _IMAGE_PARTS}]},
    "responsesCreate": {"model": _SEEING, "input": [{"role": "user", "content": _IMAGE_ITEMS}]},
    "anthropicCreate": {
        "model": _SEEING,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": _IMAGE_BLOCKS}],
    },
    "ollamaChat": {
        "model": f"hf.co/{_SEEING}",
        "messages": [{"role": "user", "content": _SHOWN, "images": [_IMAGE]}],
    },
    "ollamaGenerate": {"model": f"hf.co/{_SEEING}", "prompt": _SHOWN, "images": [_IMAGE]},
}
"""Example body with an image of each operation that takes some."""

QUERIES: Mapping[str, Mapping[str, Any]] = {
    "deckFeed": {"max_hz": 4},
    "deckGetFit": {"context_length": 8192},
    "deckBenches": {"model": MODEL},
    "deckSearch": {"query": "qwen3", "limit": 10},
    "deckGetLog": {"limit": 20},
    "deckGetAudit": {"limit": 20},
}
"""Example query parameters."""

HEADERS: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
"""Example values of headers that tell routes apart."""

SEGMENTS: Mapping[str, str] = {
    "model": MODEL,
    "host": "hf.co",
    "owner": "Qwen",
    "repo": "Qwen%2FQwen3-0.6B-GGUF",
    "download": "DOWNLOAD_ID",
    "instance": "INSTANCE_ID",
    "request": "REQUEST_ID",
    "check": "CHECK_ID",
    "token": "laptop",
    "digest": "sha256:0",
    "blob": _DIGEST,
    "response": "RESPONSE_ID",
    "conversation": "CONVERSATION_ID",
    "item": "ITEM_ID",
}
"""Example values of path segments."""

_CALLED = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
_USAGE = {
    "prompt_tokens": 14,
    "completion_tokens": 7,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
_TIMINGS = {"tokens_per_s": 42.0, "time_to_first_token_s": 0.12}
_NOW = "2026-01-31T12:00:00.000000Z"
_DETAILS = {
    "format": "gguf",
    "family": "qwen3",
    "families": ["qwen3"],
    "parameter_size": "596.00M",
    "quantization_level": "Q8_0",
    "parent_model": "",
    "context_length": 40960,
}
_COUNTS = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 512_000_000,
    "load_duration": 2_000_000,
    "prompt_eval_count": 14,
    "prompt_eval_duration": 120_000_000,
    "eval_count": 7,
    "eval_duration": 390_000_000,
}

ANSWERS: Mapping[str, Any] = {
    "openaiListModels": {
        "object": "list",
        "data": [
            {
                "id": "Qwen/Qwen3-0.6B-GGUF:Q8_0",
                "object": "model",
                "created": 1767225600,
                "owned_by": "Qwen",
                "context_length": 40960,
                "max_model_len": 40960,
                "capabilities": ["completion", "tools", "thinking"],
                "meta": {"n_ctx_train": 40960, "n_params": 596_000_000, "size": 639_446_688},
            }
        ],
    },
    "openaiChat": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1769860800,
        "model": "Qwen/Qwen3-0.6B-GGUF:Q8_0",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "tool_calls": [{"id": "a1b2c3d4e", "type": "function", "function": _CALLED}],
                },
            }
        ],
        "usage": _USAGE,
        "timings": _TIMINGS,
    },
    "openaiComplete": {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1769860800,
        "model": "Qwen/Qwen3-0.6B-GGUF:Q8_0",
        "choices": [
            {"index": 0, "text": " blue, as a rule.", "finish_reason": "stop", "logprobs": None}
        ],
        "usage": _USAGE,
        "timings": _TIMINGS,
    },
    "openaiEmbed": {
        "object": "list",
        "model": "Qwen/Qwen3-Embedding-0.6B-GGUF:Q8_0",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    },
    "anthropicCreate": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "Qwen/Qwen3-0.6B-GGUF:Q8_0",
        "content": [{"type": "text", "text": "Because air scatters blue light most."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 10,
            "output_tokens": 7,
        },
    },
    "anthropicCountTokens": {"input_tokens": 14},
    "ollamaTags": {
        "models": [
            {
                "name": _HUB_NAME,
                "model": _HUB_NAME,
                "modified_at": _NOW,
                "size": 639_446_688,
                "digest": _DIGEST,
                "details": _DETAILS,
                "capabilities": ["completion", "tools", "thinking"],
            }
        ]
    },
    "ollamaPs": {
        "models": [
            {
                "name": _HUB_NAME,
                "model": _HUB_NAME,
                "size": 1_100_000_000,
                "digest": _DIGEST,
                "details": _DETAILS,
                "expires_at": _NOW,
                "context_length": 8192,
                "parallel": 4,
                "cache_tokens": 8192,
                "size_vram": 0,
            }
        ]
    },
    "ollamaShow": {
        "details": _DETAILS,
        "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
        "capabilities": ["completion", "tools", "thinking"],
        "modified_at": _NOW,
    },
    "ollamaPull": {
        "status": f"pulling {_DIGEST[:12]}",
        "digest": f"sha256:{_DIGEST}",
        "total": 639_446_688,
        "completed": 104_857_600,
    },
    "responsesCreate": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1767225600,
        "completed_at": 1767225601,
        "status": "completed",
        "model": "Qwen/Qwen3-0.6B-GGUF:Q8_0",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": "Because air scatters blue light most.",
                        "annotations": [],
                        "logprobs": [],
                    }
                ],
            }
        ],
        "usage": {
            "input_tokens": 14,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 21,
        },
    },
    "rerank": {
        "id": "rerank-1",
        "object": "list",
        "model": "Qwen/Qwen3-Reranker-0.6B-GGUF:Q8_0",
        "results": [{"index": 0, "relevance_score": 0.98}],
        "usage": {"prompt_tokens": 160, "total_tokens": 160},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    },
    "responsesInputTokens": {"object": "response.input_tokens", "input_tokens": 14},
    "conversationsCreate": {
        "id": "conv_1",
        "object": "conversation",
        "created_at": 1767225600,
        "metadata": {"topic": "sky"},
    },
    "conversationsDelete": {"id": "conv_1", "object": "conversation.deleted", "deleted": True},
    "responsesDelete": {"id": "resp_1", "object": "response.deleted", "deleted": True},
    "ollamaChat": {
        "model": _HUB_NAME,
        "created_at": _NOW,
        "message": {
            "role": "assistant",
            "content": "Because air scatters blue light most.",
            "thinking": "They ask for the cause.",
        },
        **_COUNTS,
    },
    "ollamaGenerate": {
        "model": _HUB_NAME,
        "created_at": _NOW,
        "response": "Because air scatters blue light most.",
        **_COUNTS,
    },
    "ollamaEmbed": {
        "model": EMBEDDING_MODEL,
        "embeddings": [[0.6, -0.8]],
        "total_duration": 30_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": 6,
    },
}
"""Example responses, where the type alone does not explain them."""
