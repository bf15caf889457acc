"""The records that cross a border: between parts of the core, over the API, into a front end.

All are frozen. Units are bytes, seconds and fractions from 0 to 1, and every name that reaches the
wire carries its unit. `None` means "not known"; it never stands for zero. Strings that came from
outside (model names, cards, logs) are kept as they came: whoever draws them strips them.
"""

from core.schema.cache import (
    CachedFile,
    CachedSnapshot,
    CacheListing,
    CacheRepository,
    CacheRevision,
    CacheSelection,
    DeletionItem,
    DeletionPlan,
    DeletionReceipt,
    KeptItem,
    Verification,
)
from core.schema.downloads import (
    Download,
    DownloadFile,
    DownloadState,
    QueueMove,
)
from core.schema.errors import (
    ErrorInfo,
)
from core.schema.generation import (
    Chunk,
    FinishReason,
    GenerateRequest,
    Message,
    TokenLogprob,
    Tool,
    ToolCall,
)
from core.schema.memory import (
    Disk,
    Fit,
    Forecast,
    Gpu,
    Memory,
    ProcessMemory,
    Verdict,
)
from core.schema.models import (
    MODEL_NAMESPACE,
    Card,
    Engine,
    Format,
    Model,
    ModelSeed,
    RepoFile,
    Repository,
    SearchHit,
    SearchResult,
    Variant,
    model_id,
)
from core.schema.runtime import (
    Instance,
    InstanceState,
    KvCacheType,
    LoadOptions,
    Lora,
    Runtime,
    UnloadReceipt,
)
from core.schema.service import (
    AuditEntry,
    Host,
    LogLine,
    Settings,
)

__all__ = [
    "MODEL_NAMESPACE",
    "AuditEntry",
    "CacheListing",
    "CacheRepository",
    "CacheRevision",
    "CacheSelection",
    "CachedFile",
    "CachedSnapshot",
    "Card",
    "Chunk",
    "DeletionItem",
    "DeletionPlan",
    "DeletionReceipt",
    "Disk",
    "Download",
    "DownloadFile",
    "DownloadState",
    "Engine",
    "ErrorInfo",
    "FinishReason",
    "Fit",
    "Forecast",
    "Format",
    "GenerateRequest",
    "Gpu",
    "Host",
    "Instance",
    "InstanceState",
    "KeptItem",
    "KvCacheType",
    "LoadOptions",
    "LogLine",
    "Lora",
    "Memory",
    "Message",
    "Model",
    "ModelSeed",
    "ProcessMemory",
    "QueueMove",
    "RepoFile",
    "Repository",
    "Runtime",
    "SearchHit",
    "SearchResult",
    "Settings",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "UnloadReceipt",
    "Variant",
    "Verdict",
    "Verification",
    "model_id",
]
