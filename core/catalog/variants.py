"""Group the files of a repository into variants, which can be loaded.

A GGUF variant is one quantization: one file, or all parts of a split one, with the vision projector
of its repository. An MLX repository is one variant. Only names are known before a file
is downloaded, so the rules read file names as the tools that write them spell them:

- a quantization is a word of the file name (`model-Q4_K_M.gguf`, `model.q8_0.gguf`), else of the
  folder's (`Q8_0/model.gguf`); words are set off by anything that is not a letter or digit
- parts are `name-00001-of-00003.gguf` (llama.cpp, `llama_split_path`)
- projectors have `mmproj` in their names (llama.cpp, docs/multimodal.md)
- files that only work together with a model are recognised by name and are no variants: importance
  matrices (`imatrix`), heads that predict several tokens (`mtp-` in front), other draft heads,
  adapters, vocabularies without weights. A small model to draft with is a variant, but never gets
  the plain label of its quantization: `owner/repo:Q8_0` always is the model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from modeldeck.core.formats.hub_names import is_path
from modeldeck.core.schema import RepoFile, Variant

_QUANTIZATION = re.compile(
    r"""(?<![A-Za-z0-9])
    (?:UD-)?                                        # Unsloth's "dynamic" mixes
    (?: IQ[1-4]_(?:XXS|XS|S|M|NL|XL)
      | Q4_0_(?:4_4|4_8|8_8)
      | Q[1-8]_K(?:_(?:XXS|XS|XXL|XL|S|M|L))?
      | Q[1-8]_[01]
      | TQ[12]_0
      | MXFP4(?:_MOE)?
      | NVFP4
      | BF16 | FP?16 | FP?32
    )(?![A-Za-z0-9])""",
    re.VERBOSE | re.IGNORECASE,
)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.gguf", re.IGNORECASE)
_SHARD = re.compile(r"model-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors")
_MLX_WORD = re.compile(r"(?<![A-Za-z0-9])mlx(?![A-Za-z0-9])", re.IGNORECASE)
_MLX_QUANTIZATION = re.compile(
    r"(?<![A-Za-z0-9])(?:\d(?:\.\d)?-?bit|MXFP[48]|NVFP4|BF16|FP16|FP32)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_MLX_FILES = re.compile(
    r"[^/]*\.json|model[^/]*\.safetensors|[^/]*\.jinja|[^/]*\.tiktoken|[^/]*\.model"
    r"|(?:merges|vocab)\.txt",
)
"""Files that mlx-lm reads. Python files are left out: never downloaded, so never run; and so
are other weights files (adapters, other formats), which it does not read."""
_UNUSABLE_LABEL = re.compile(r"[^A-Za-z0-9._+-]+")

_HELPERS = tuple(
    re.compile(rf"(?<![a-z0-9])(?:{word})(?![a-z0-9])", re.IGNORECASE)
    for word in ("eagle-?3", "dflash", "loras?", "adapters?", "vocab")
)
"""Words in the names of files that only work together with a model. Sources: llama.cpp's
convert_lora_to_gguf.py, its models/ggml-vocab-*.gguf, and its draft heads of these kinds."""
_ALWAYS_HELPERS = re.compile(r"imatrix|^mtp[-_.]", re.IGNORECASE)
"""Importance matrices (llama.cpp, tools/imatrix), and heads that predict several tokens."""
_MERGED = re.compile(r"(?<![a-z0-9])merged(?![a-z0-9])", re.IGNORECASE)
"""A model with a merged adapter is not an adapter."""
_DRAFT = re.compile(r"(?<![a-z0-9])draft(?![a-z0-9])", re.IGNORECASE)

_PROJECTOR_ORDER = ("F16", "BF16", "Q8_0", "F32")
"""Preference among several projectors: F16 is the default of other tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelFiles:
    """The files of one GGUF model in order, before it has a label."""

    stem: str
    """Path without extension and part number."""
    files: tuple[RepoFile, ...]


def quantization(path: str) -> str | None:
    """Return the quantization in a file's name, as spelled there; None if there is none."""
    *folders, name = path.split("/")
    for text in (name, *reversed(folders)):
        if found := _QUANTIZATION.findall(text):
            return str(found[-1])
    return None


def mlx_quantization(repo: str) -> str | None:
    """Return the quantization in the name of an MLX repository, such as `4bit`, or None."""
    found = _MLX_QUANTIZATION.search(repo.rsplit("/", 1)[-1])
    return found[0] if found else None


def canonical(label: str) -> str:
    """Return a quantization as llama.cpp spells it: upper case, and F16 for fp16."""
    return re.sub(r"\bFP(?=16|32)", "F", label.upper())


def variants(
    repo: str, files: Sequence[RepoFile], *, mlx: bool | None = None
) -> tuple[Variant, ...]:
    """Return the variants in a repository that an engine could load, smallest first.

    Incomplete split models are left out, and so are files whose names are invalid on some platform.
    Labels are unique, ignoring case.

    Args:
        repo: The repository's id.
        files: Its files at one commit.
        mlx: Whether safetensors files are for MLX; None to decide by the repository's name.
    """
    usable = [file for file in files if is_path(file.path)]
    found = sorted(_gguf(repo, usable), key=lambda variant: variant.size_bytes)
    if (mlx or (mlx is None and _MLX_WORD.search(repo))) and (whole := _mlx(repo, usable)):
        found.append(whole)
    return tuple(found)


def find(found: Iterable[Variant], label: str) -> Variant | None:
    """Return the variant with this label, ignoring case, else the one with this file."""
    wanted = label.casefold()
    for variant in found:
        if variant.label is not None and variant.label.casefold() == wanted:
            return variant
    for variant in found:
        if any(file.path.casefold() == wanted for file in variant.files):
            return variant
    return None


def _gguf(repo: str, files: Sequence[RepoFile]) -> list[Variant]:
    ggufs = [file for file in files if file.path.lower().endswith(".gguf")]
    projectors = [file for file in ggufs if _is_projector(file)]
    weights = [f for f in ggufs if not _is_projector(f) and not _is_helper(repo, _name(f))]
    best = _best_projectors(projectors)
    labels = _Labels()
    made = []
    for group in sorted(_groups(weights), key=_plainest_first):
        label = labels.take(group.stem, plain=not _is_draft(repo, group.stem))
        told = quantization(group.stem)
        variant = Variant(
            unique=f"{repo}:{label}",
            label=label,
            format="gguf",
            quantization=canonical(told) if told else None,
            files=group.files,
            size_bytes=sum(file.size_bytes for file in group.files),
        )
        made.append(_with_projector(variant, best))
    return made


def _name(file: RepoFile) -> str:
    return file.path.rsplit("/", 1)[-1]


def _is_projector(file: RepoFile) -> bool:
    return "mmproj" in _name(file).lower()


def _is_helper(repo: str, name: str) -> bool:
    """Whether a GGUF file only works together with a model, judged by its name.

    A word that is also in the repository's name does not count: a repository of adapters offers
    adapters, and their headers tell what they are.
    """
    if _ALWAYS_HELPERS.search(name):
        return True
    return not _MERGED.search(name) and any(
        word.search(name) and not word.search(repo) for word in _HELPERS
    )


def _is_draft(repo: str, stem: str) -> bool:
    """Whether a file is a draft model beside the other models of its repository."""
    return bool(_DRAFT.search(stem.rsplit("/", 1)[-1])) and not _DRAFT.search(repo)


def _groups(files: Iterable[RepoFile]) -> list[_ModelFiles]:
    """Return single files and complete split models."""
    groups = []
    parts: dict[tuple[str, int], dict[int, RepoFile]] = {}
    for file in files:
        if part := _PART.fullmatch(file.path):
            key = part["stem"], int(part["total"])
            parts.setdefault(key, {})[int(part["number"])] = file
        else:
            groups.append(_ModelFiles(stem=file.path[: -len(".gguf")], files=(file,)))
    for (stem, total), numbered in parts.items():
        if total == len(numbered) and set(numbered) == set(range(1, total + 1)):
            ordered = tuple(numbered[number] for number in sorted(numbered))
            groups.append(_ModelFiles(stem=stem, files=ordered))
    return groups


def _plainest_first(group: _ModelFiles) -> tuple[int, int, str]:
    """Sort key: of several with one quantization, the shortest name gets the plain label."""
    return group.stem.count("/"), len(group.stem), group.stem


class _Labels:
    """Gives each variant a unique label, ignoring case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        """The last number that was appended to a label."""

    def take(self, stem: str, *, plain: bool) -> str:
        """Return the quantization, else the file's name, else its path, else one with a number.

        The quantization alone is used only if `plain`.
        """
        name = stem.rsplit("/", 1)[-1]
        wordings = [quantization(stem) if plain else None, name, stem]
        labels = [_UNUSABLE_LABEL.sub("_", text).strip("._-+")[:120] for text in wordings if text]
        labels = [label for label in labels if label] or ["model"]
        for label in labels:
            if label.casefold() not in self._taken:
                break
        else:
            label = self._numbered(labels[-1])
        self._taken.add(label.casefold())
        return label

    def _numbered(self, label: str) -> str:
        number = self._numbers.get(label, 1)
        while True:
            number += 1
            if (made := f"{label}_{number}").casefold() not in self._taken:
                self._numbers[label] = number
                return made


def _best_projectors(projectors: Iterable[RepoFile]) -> dict[str | None, RepoFile]:
    """Return the best projector of each folder; under None the one for all other folders."""

    def rank(file: RepoFile) -> tuple[int, str]:
        told = canonical(quantization(_name(file)) or "")
        place = _PROJECTOR_ORDER.index(told) if told in _PROJECTOR_ORDER else len(_PROJECTOR_ORDER)
        return place, file.path

    best: dict[str | None, RepoFile] = {}
    for file in sorted(projectors, key=rank):
        best.setdefault(None, file)
        best.setdefault(file.path.rpartition("/")[0], file)
    return best


def _with_projector(variant: Variant, best: Mapping[str | None, RepoFile]) -> Variant:
    """Return the variant with the projector of its folder, else the best of the repository."""
    projector = best.get(variant.files[0].path.rpartition("/")[0]) or best.get(None)
    if projector is None:
        return variant
    return replace(
        variant,
        files=(*variant.files, projector),
        size_bytes=variant.size_bytes + projector.size_bytes,
        projector=projector.path,
    )


def _mlx(repo: str, files: Sequence[RepoFile]) -> Variant | None:
    """Return the repository as one MLX variant, if its configuration and all shards exist."""
    wanted = [file for file in files if _MLX_FILES.fullmatch(file.path)]
    names = {file.path for file in wanted}
    weights = [name for name in names if name.endswith(".safetensors")]
    if "config.json" not in names or not weights or not _shards_complete(weights):
        return None
    # Weights come last: when every shard is downloaded, all other files are too.
    wanted.sort(key=lambda f: (f.path in weights, f.path != "config.json", f.path))
    return Variant(
        unique=repo,
        label=None,
        format="mlx",
        quantization=mlx_quantization(repo),
        files=tuple(wanted),
        size_bytes=sum(file.size_bytes for file in wanted),
    )


def _shards_complete(names: Iterable[str]) -> bool:
    """Whether no shard like `model-00001-of-00002.safetensors` is missing."""
    totals: dict[int, set[int]] = {}
    for name in names:
        if shard := _SHARD.fullmatch(name):
            totals.setdefault(int(shard["total"]), set()).add(int(shard["number"]))
    return all(numbers == set(range(1, total + 1)) for total, numbers in totals.items())
