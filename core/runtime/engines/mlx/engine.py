"""MLX, through mlx-lm: on Apple Silicon's GPU, and on Linux with mlx's CPU build.

A folder is checked before mlx-lm and transformers are imported: a model's configuration can make
both run Python code of the model, which is refused here, independently of their own checks. The
headers of the weights are checked as well, since mlx reads at the offsets in them.

The weights are read piece by piece, so that a load shows its progress and can be cancelled. mlx
cannot forecast its memory; `modeldeck.core.memory.estimate` has a formula.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from modeldeck.core.errors import Cancelled, DeckError, EngineFailed, EngineMissing, InvalidRequest
from modeldeck.core.formats import mlx_folder, safetensors
from modeldeck.core.runtime.engines.base import Flag, ShowProgress, say
from modeldeck.core.runtime.engines.mlx.answer import AnswerMaker
from modeldeck.core.runtime.engines.mlx.model import MlxModel, kv_bits
from modeldeck.core.runtime.engines.mlx.turns import MlxTurns
from modeldeck.core.runtime.media.media_prompt import refuse_media
from modeldeck.core.runtime.platforms import is_mlx_safe, mlx_remedy
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    EmbedTexts,
    EngineHello,
    EngineReport,
    LoadModel,
    LoadPlanned,
    ModelLoaded,
    PlanLoad,
    RankTexts,
    TextPiece,
    TokensRead,
)
from modeldeck.core.runtime.text.thoughts import AnswerPart
from modeldeck.core.schema import GenerateRequest, Lora, TokenLogprob, TokenQuery
from modeldeck.core.storage.foreign_files import stat_regular
from modeldeck.core.storage.installation import this_installation

PIECE_BYTES = 64 << 20
"""Bytes of weights that are read between two checks of the cancel flag."""
GPU_CANCEL_LIMIT_S = 2.0
"""Seconds that work on a GPU may take to end when the core is gone: a process that ends in the
middle of it can leave memory wired on macOS until the machine restarts."""
REASON_LENGTH = 400
"""Characters of an error of mlx-lm that are shown: it may list every tensor of a model."""
NO_EMBEDDINGS = "mlx-lm answers in text and makes no embeddings."
NO_EMBEDDINGS_REMEDY = "Take a GGUF version of an embedding model."

_IGNORED = ("gpu_layers", "flash_attention", "threads", "mmap", "mlock")
"""Load options that mlx-lm does not have: it decides these itself."""
_REMEDIES = (
    (
        r"alloc|out of memory|metal.*memory|resource temporarily unavailable",
        "Take a smaller quantization, or unload another model.",
    ),
    (
        r"unable to read",
        "Memory is short or the disk failed: unload another model, or download this one again.",
    ),
    (r"model type .* not supported", "Update mlx-lm, or take a GGUF version of the model."),
)
_DAMAGED = "The folder is damaged or no MLX model: delete it and download it again."


class MlxEngine:
    """The mlx-lm of this process, with at most one model."""

    cancel_limit_s = 0.0

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._mx: Any = None
        self._maker: AnswerMaker | None = None
        self._turns: MlxTurns | None = None

    def hello(self) -> EngineHello:
        """Import mlx and return its version; mlx-lm, which takes seconds, is imported by a load.

        Raises EngineMissing with the command that installs it.
        """
        remedy = mlx_remedy(sys.platform, platform.machine(), this_installation())
        try:
            version = metadata.version("mlx-lm")
            if not is_mlx_safe(version):
                raise EngineMissing(
                    f"mlx-lm {version} may run Python code of a model (CVE-2026-5843).",
                    remedy,
                )
            self._mx = importlib.import_module("mlx.core")
        except (metadata.PackageNotFoundError, ModuleNotFoundError) as error:
            raise EngineMissing("MLX is not installed.", remedy, details=(str(error),)) from error
        except (ImportError, OSError, RuntimeError) as error:  # a shared library that does not load
            raise EngineMissing(f"MLX is installed but does not start: {error}.", remedy) from error
        device = "CPU" if self._mx.default_device() == self._mx.cpu else "GPU"
        if device == "GPU":
            self.cancel_limit_s = GPU_CANCEL_LIMIT_S
        else:
            # Otherwise mlx runs a C++ compiler and loads the result from a folder that other users
            # may write to. That takes a second at first, and is hardly faster.
            self._mx.disable_compile()
            # Free memory at once: the heap is as fast as mlx's own cache.
            self._mx.set_cache_limit(0)
        return EngineHello(protocol=PROTOCOL, version=version, devices=(device,))

    # Load

    def load(self, command: LoadModel, show: ShowProgress) -> ModelLoaded:
        """Load the model in a folder."""
        path, options, draft = command.path, command.options, command.draft
        default_context = command.default_context
        if options.embedding:
            raise EngineFailed(NO_EMBEDDINGS, NO_EMBEDDINGS_REMEDY)
        show("checking files", None)
        config = _checked(Path(path))
        trained = config.context_length or default_context
        length = options.context_length or min(default_context, trained)
        bits = kv_bits(options.kv_cache_type, config.head_length)
        for name in _IGNORED:
            if getattr(options, name) is not None:
                say("warning", f"mlx-lm has no option {name}: it is left out")
        show("starting mlx-lm", None)
        utils = _mlx_lm()
        self._check_cancelled()
        try:
            show("reading tokenizer", None)
            tokenizer = _tokenizer(utils, Path(path))
            show("reading weights", 0.0)
            model, _ = utils.load_model(Path(path), lazy=True)
            _apply_adapter(model, options.loras or ())
            self._read_weights(model, "reading weights", show)
        except DeckError:
            raise
        except Exception as error:  # mlx-lm and transformers raise any kind
            raise refusal("mlx-lm refused the model", error) from error
        loaded = MlxModel(
            self._mx,
            model,
            tokenizer,
            draft=self._load_draft(utils, draft, tokenizer, show) if draft is not None else None,
            draft_tokens=options.draft_tokens,
            context_length=length,
            cache_tokens=options.cache_tokens,
            parallel=options.parallel or 1,
            vocabulary=config.vocab_size or 0,
            step=options.batch_size,
            kv_bits=bits,
        )
        if loaded.alone is not None and (options.parallel or 1) > 1:
            say("warning", f"requests are answered one at a time: {loaded.alone}")
        self._mx.random.seed(int.from_bytes(os.urandom(8)))
        self._maker = AnswerMaker(loaded, self._flag, stop_loops=command.stop_loops)
        self._turns = MlxTurns(loaded, command.prefix_cache_bytes, command.turn_s)
        show("ready", 1.0)
        return ModelLoaded(
            context_length=length,
            parallel=loaded.parallel,
            cache_tokens=loaded.cache_tokens,
            engine_bytes=self._mx.get_active_memory(),
        )

    def _load_draft(self, utils: Any, path: str, tokenizer: Any, show: ShowProgress) -> Any:
        """Load a draft model. Raises EngineFailed when it does not fit the model."""
        try:
            _checked(Path(path))
            other = _tokenizer(utils, Path(path))
            if other.get_vocab() != tokenizer.get_vocab():
                raise EngineFailed("it has another vocabulary.", "Take one of the same family.")
            model, _ = utils.load_model(Path(path), lazy=True)
            self._read_weights(model, "reading draft model", show)
        except EngineFailed as error:
            raise EngineFailed(f"The draft model: {error.message}", error.remedy) from error
        except DeckError:
            raise
        except Exception as error:  # as above
            raise refusal("mlx-lm refused the draft model", error) from error
        return model

    def _read_weights(self, model: Any, stage: str, show: ShowProgress) -> None:
        """Read the weights into memory, showing the fraction of bytes that is done."""
        flatten = importlib.import_module("mlx.utils").tree_flatten
        arrays = [array for _, array in flatten(model.parameters())]
        total = sum(array.nbytes for array in arrays) or 1
        done = 0
        for piece in _pieces(arrays):
            self._check_cancelled()
            self._mx.eval(piece)
            done += sum(array.nbytes for array in piece)
            show(stage, min(1.0, done / total))
        self._mx.clear_cache()  # free what was read only to be rearranged

    def _check_cancelled(self) -> None:
        if self._flag:
            raise Cancelled("The load was cancelled.")

    def plan(self, command: PlanLoad) -> LoadPlanned:
        """Refuse: mlx-lm has no forecast of a load. The core uses its own formula."""
        raise InvalidRequest("mlx-lm does not plan a load.")

    # Work

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in."""
        turns, maker = self._turns, self._maker
        if turns is None or maker is None:
            raise InvalidRequest("No model is loaded.")
        refuse_media(request)

        def emit(part: AnswerPart, logprobs: tuple[TokenLogprob, ...]) -> None:
            turns.report(
                TextPiece(id=number, text=part.text, thought=part.thought, logprobs=logprobs)
            )

        turns.add(maker.make(number, request, emit))

    def cancel(self, number: int) -> None:
        """Forget a request."""
        if self._turns is not None:
            self._turns.cancel(number)

    def pause(self, number: int) -> None:
        """Give a request no further tokens."""
        if self._turns is not None:
            self._turns.pause(number)

    def shrink_cache(self, keep_bytes: int, *, stays: bool) -> None:
        """Drop kept caches until at most `keep_bytes` are left."""
        if self._turns is not None:
            self._turns.shrink_cache(keep_bytes, stays=stays)

    def resume(self, number: int) -> None:
        """Go on with a request."""
        if self._turns is not None:
            self._turns.resume(number)

    @property
    def working(self) -> bool:
        """Whether a request is in work that is not paused."""
        return self._turns is not None and self._turns.working

    def step(self) -> list[EngineReport]:
        """Do one turn for all requests."""
        return [] if self._turns is None else self._turns.step()

    def reset(self) -> None:
        """Forget all requests."""
        if self._turns is not None:
            self._turns.reset()

    def close(self) -> None:
        """Do nothing: conversations are not saved."""

    def tokenize(self, number: int, query: TokenQuery) -> TokensRead | None:
        """Return a text and its tokens."""
        if self._maker is None:
            raise InvalidRequest("No model is loaded.")
        if query.request is not None:
            refuse_media(query.request)
        return self._maker.tokenize(query)

    def begin_texts(self, number: int, command: EmbedTexts | RankTexts) -> None:
        """Refuse: mlx-lm has no embeddings, and no rerankers."""
        if isinstance(command, EmbedTexts):
            raise InvalidRequest(NO_EMBEDDINGS, NO_EMBEDDINGS_REMEDY)
        raise InvalidRequest("mlx-lm does not rank texts.", "Take a GGUF version of a reranker.")


def _checked(folder: Path) -> mlx_folder.MlxConfig:
    """Return a folder's config.json, checked to be valid and to name no code to run."""
    if not folder.is_dir():
        raise EngineFailed(f"There is no folder at {folder}.", "Download the model again.")
    try:
        found = mlx_folder.read_folder(folder)
    except DeckError as error:
        raise EngineFailed(error.message, error.remedy, details=error.details) from error
    if why := mlx_folder.load_error(found, (path.name for path in folder.iterdir())):
        raise EngineFailed(why, _DAMAGED)
    _refuse_irregular(folder)
    return found.config


def _refuse_irregular(folder: Path) -> None:
    """Raise EngineFailed for a folder with a pipe or device: mlx-lm would block on it."""
    for path in folder.iterdir():
        try:
            if not path.is_dir():
                stat_regular(path)
        except FileNotFoundError:
            continue  # a dangling link: mlx-lm reports the missing file
        except OSError as error:
            raise EngineFailed(f"{path} cannot be read: {error.strerror}.", _DAMAGED) from error


def _mlx_lm() -> Any:
    """Import `mlx_lm.utils` without network. Raises EngineMissing when that fails."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", USE_TORCH="0")
    os.environ.pop("MLXLM_USE_MODELSCOPE", None)
    try:
        return importlib.import_module("mlx_lm.utils")
    # It also raises the limit of open files, which a strict system refuses with ValueError.
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise EngineMissing(
            f"mlx-lm is installed but does not start: {error}.",
            mlx_remedy(sys.platform, platform.machine(), this_installation(), rebuild=True),
        ) from error


def _tokenizer(utils: Any, folder: Path) -> Any:
    written = utils.load_config(folder)
    return utils.load_tokenizer(folder, eos_token_ids=written.get("eos_token_id", None))


def _apply_adapter(model: Any, loras: Sequence[Lora]) -> None:
    """Apply an adapter to a model; mlx-lm supports one.

    Raises EngineFailed for a folder that holds no adapter, or one of another model.
    """
    if not loras:
        return
    if len(loras) > 1:
        raise EngineFailed("mlx-lm takes one adapter, not several.", "Leave the others out.")
    (lora,) = loras
    folder = Path(lora.path)
    for name in ("adapter_config.json", "adapters.safetensors"):
        if not (folder / name).is_file():
            raise EngineFailed(
                f"There is no adapter at {folder}: it has no {name}.",
                "Give the folder of an MLX adapter.",
            )
    tuner = importlib.import_module("mlx_lm.tuner.utils")
    try:
        safetensors.read_weights(folder / "adapters.safetensors")
        tuner.load_adapters(model, str(folder))
    except Exception as error:  # mlx-lm raises any kind
        found = refusal(f"mlx-lm refused the adapter {folder}", error)
        raise EngineFailed(found.message, "Take an adapter made for this very model.") from error
    if lora.scale != 1.0:
        for _, module in model.named_modules():
            if hasattr(module, "lora_a"):
                module.scale *= lora.scale


def _pieces(arrays: list[Any]) -> Iterator[list[Any]]:
    """Arrays in groups of about `PIECE_BYTES`."""
    piece: list[Any] = []
    size = 0
    for array in arrays:
        piece.append(array)
        size += array.nbytes
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def refusal(what: str, error: Exception) -> EngineFailed:
    """The error for an exception of mlx-lm or transformers, with its text on one line."""
    text = " ".join(str(error).split())[:REASON_LENGTH].rstrip(".")
    if not text or isinstance(error, (KeyError, AttributeError, TypeError, ZeroDivisionError)):
        text = f"{type(error).__name__}: {text}"
    lower = text.lower()
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, lower)), _DAMAGED)
    return EngineFailed(f"{what}: {text}.", remedy)
