# ruff: noqa: F403 (the star imports are for the type checker, which resolves them)
"""The records that cross a border: between parts of the core, over the API, into a front end.

All are frozen. Units are bytes, seconds and fractions from 0 to 1, and every name that reaches the
wire carries its unit. `None` means "not known"; it never stands for zero. Strings that came from
outside (model names, cards, logs) are kept as they came: the code that draws them strips them.

Each module is imported when one of its names is first asked for: making all the classes takes
longer than a quick command has.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeldeck.core.schema.bench import *
    from modeldeck.core.schema.cache import *
    from modeldeck.core.schema.downloads import *
    from modeldeck.core.schema.errors import *
    from modeldeck.core.schema.generation import *
    from modeldeck.core.schema.loading import *
    from modeldeck.core.schema.memory import *
    from modeldeck.core.schema.models import *
    from modeldeck.core.schema.recordings import *
    from modeldeck.core.schema.requests import *
    from modeldeck.core.schema.runtime import *
    from modeldeck.core.schema.service import *
    from modeldeck.core.schema.tokens import *
    from modeldeck.core.schema.verification import *

_NAMES = {
    "bench": "LIVE_BENCH Bench BenchProgress BenchRow BenchState BenchWish last_same",
    "cache": (
        "CachedFile CachedSnapshot CacheListing CacheRepository CacheRevision CacheSelection "
        "DeletionItem DeletionPlan DeletionReceipt DeletionUnload KeptItem"
    ),
    "downloads": "Download DownloadFile DownloadState QueueMove",
    "errors": "ErrorInfo",
    "generation": (
        "Chunk FinishReason GenerateRequest Media MediaKind Message TextScore TextVector "
        "ThinkingEffort TokenizedText TokenLogprob TokenQuery Tool ToolCall"
    ),
    "loading": "Eviction LoadAlternative LoadPlan LoadRecord LoadVerdict LoadWish OptionOrigin",
    "memory": "DeviceBytes Disk Fit Forecast Gpu Memory ProcessMemory Verdict",
    "models": (
        "MODEL_NAMESPACE OTHER_TOOLS Card Engine Format Manifest Model ModelSeed ModelSpeed "
        "ModelUpdate OtherTool RepoFile Repository SearchHit SearchResult "
        "UpdateCheck Variant model_id"
    ),
    "recordings": "RecordedText",
    "requests": ("LIVE_STATES Priority Recording Requester RequestInfo RequestState RequestTotals"),
    "runtime": "Instance InstanceState KvCacheType LoadOptions Lora Runtime SlotUse UnloadReceipt",
    "service": "AuditEntry Host LogLine Settings Summary Undoable",
    "tokens": "TOKEN_PREFIX TOKEN_SECRET NewToken Scope Token",
    "verification": "Verification",
}
"""The names that can be imported from this package, by the module that defines them."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A name of this package, from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    value = globals()[name] = getattr(module, name)
    return value
