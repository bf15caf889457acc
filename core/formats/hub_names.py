"""The grammar of names: repositories, revisions, files and blobs of the Hub, and unique names.

Names come from people, from other programs and from the Hub, and end up in URLs and in paths on
disk. So each kind has one grammar, and it is the strictest of the places the name goes to: a file
path must be harmless under POSIX and under Windows rules on every platform, because a cache moves
between machines (CVE-2026-15717: an absolute or UNC file name escaped its folder). Every `check_*`
gives the name back unchanged, or raises InvalidRequest saying what is wrong with it.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from modeldeck.core.errors import InvalidRequest

DEFAULT_ENDPOINT = "https://huggingface.co"
HUB_HOSTS = ("huggingface.co", "hf.co", "www.huggingface.co")
"""Hosts that stand for the Hub in what people paste, whichever Hub is in force."""

UNIQUE_FORMS = (
    "owner/repo:VARIANT, such as Qwen/Qwen3-0.6B-GGUF:Q8_0",
    "owner/repo, such as mlx-community/Qwen3-0.6B-4bit",
    "hf.co/owner/repo:VARIANT, or the address of a repository's page or of its file on the Hub",
    "hf://owner/repo/file.gguf",
    "an https URL of a GGUF file, with #sha256= and its hash if you have it",
    "an absolute path of a GGUF file or an MLX folder",
)
"""What a unique name may look like; every refusal lists them."""

PATH_LIMIT = 1024
"""Bytes of a file path inside a repository; far above what is met, far below PATH_MAX (4096)."""
SEGMENT_LIMIT = 255
"""Bytes of one segment: NAME_MAX on Linux and macOS."""
URL_LIMIT = 2048

_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PAGE = re.compile(
    r"(?P<repo>[^/:]+/[^/:]+)(?::(?P<label>[^/]+))?"
    r"(?:/(?P<kind>tree|resolve|blob|raw)/(?P<revision>(?:refs/[^/]+/)?[^/]+)(?:/(?P<path>.+))?)?"
)
"""The path of a page of a repository on the Hub, or of one of its files."""
_NO_MODELS = frozenset(
    {"api", "blog", "buckets", "collections", "datasets", "docs", "kernels", "learn", "models"}
    | {"organizations", "papers", "posts", "settings", "spaces", "tasks"}
)
"""First parts of the Hub's own pages, which no owner is called."""
_ANY_TAG = "latest"
"""The tag that Ollama's clients give a name that has none (`hf.co/owner/repo:latest`)."""

_FORBIDDEN = frozenset('<>:"|?*\\')
"""Not allowed in file names by Windows; the backslash and the colon are also how one escapes."""
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³"]
)
"""Names that Windows takes for devices, in any folder and with any extension.

Source: Microsoft, "Naming Files, Paths, and Namespaces".
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A model on the Hub: a repository, and which of its files."""

    repo: str
    label: str | None = None
    """Which variant; None for an MLX repository, or when the name leaves the choice open."""
    file: str | None = None
    """Which file, where the name says it instead of a label."""
    revision: str | None = None
    """Branch, tag or commit, where the name pins one."""

    @property
    def unique(self) -> str:
        """The name in its shortest form, which `parse_unique` reads back."""
        if self.file is not None:
            pinned = "@" + quote(self.revision, safe="") if self.revision else ""
            return f"hf://{self.repo}{pinned}/{self.file}"
        return f"{self.repo}:{self.label}" if self.label else self.repo


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPath:
    """A GGUF file or an MLX folder on this machine, outside the cache."""

    path: str
    """Absolute and normalised; whether it exists is not looked at here."""

    @property
    def unique(self) -> str:
        """The path."""
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlName:
    """A GGUF file at a URL that is not the Hub's."""

    url: str
    """Without a fragment."""
    sha256: str | None = None
    """What the content must be, where the name says it: `#sha256=` and 64 digits."""

    @property
    def unique(self) -> str:
        """The URL, with the hash where there is one."""
        return f"{self.url}#sha256={self.sha256}" if self.sha256 else self.url

    @property
    def file(self) -> str:
        """The name of the file."""
        return posixpath.basename(unquote(urlsplit(self.url).path))

    @property
    def repo(self) -> str:
        """What stands for a repository where its files lie: one for each URL."""
        host = _slug(urlsplit(self.url).hostname or "")
        stem = _slug(self.file[: -len(".gguf")])
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return f"{WEB_OWNER}/{host}-{stem}-{digest}"


WEB_OWNER = "_web"
"""Owner of what comes from URLs. No name on the Hub begins with `_`."""


def is_web(repo: str) -> bool:
    """Whether this stands for a URL, and is no repository of the Hub."""
    return repo.startswith(f"{WEB_OWNER}/")


def _slug(text: str) -> str:
    """The text as a part of a repository's name."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", text)
    return re.sub(r"\.{2,}", ".", plain)[:40].strip("-.") or "x"


def check_repo(text: str) -> str:
    """A repository id, `owner/repo` or (for the Hub's oldest ones) `repo`.

    The rules are those of huggingface_hub's `validate_repo_id`: ASCII letters, digits, `-`, `_` and
    `.`, no `--` or `..`, not ending in `.git`, at most 96 characters a part.
    """
    parts = text.split("/")
    good = len(parts) <= 2 and all(_REPO_PART.fullmatch(part) for part in parts)
    if not good or "--" in text or ".." in text or text.lower().endswith(".git"):
        raise InvalidRequest(
            f"{text!r} is not a repository of the Hub.",
            "Write owner/repo, in letters, digits, '-', '_' and '.'.",
        )
    return text


def is_repo(text: str) -> bool:
    """Whether `check_repo` would take it."""
    try:
        check_repo(text)
    except InvalidRequest:
        return False
    return True


def check_revision(text: str) -> str:
    """A revision: 40 hexadecimal digits, or the name of a branch, tag or `refs/pr/N`.

    Stricter than git's `check-ref-format`, since a ref is also a file in the cache.
    """
    if not _REVISION.fullmatch(text) or ".." in text or text.endswith((".lock", ".")):
        raise InvalidRequest(
            f"{text!r} is not a revision.", "Write a commit, or the name of a branch or tag."
        )
    return check_path(text)


def is_commit(text: str) -> bool:
    """Whether this is a full commit id: 40 lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(text) is not None


def check_blob(text: str) -> str:
    """The name of a blob: a SHA-256 (64 digits) or a git blob SHA-1 (40), and nothing else.

    A looser rule once let a digest walk out of its folder (CVE-2026-7020).
    """
    if not _BLOB.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not the hash of a file.")
    return text


def check_path(text: str) -> str:
    """A file path inside a repository: relative, with forward slashes, safe on every platform."""
    if reason := _path_fault(text):
        raise InvalidRequest(f"{text!r} cannot be the name of a file here: {reason}.")
    return text


def is_path(text: str) -> bool:
    """Whether `check_path` would take it."""
    return _path_fault(text) is None


def check_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Paths that are to lie in one folder: each is checked, and no two may differ only by case.

    Where case does not count (macOS, Windows) the second would overwrite the first.
    """
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(check_path(path).casefold(), path)
        if other != path:
            raise InvalidRequest(f"{other!r} and {path!r} would be the same file on some systems.")
    return tuple(seen.values())


def check_label(text: str) -> str:
    """The label of a variant, such as `Q4_K_M`."""
    if not _LABEL.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not the label of a variant.", "It looks like Q4_K_M.")
    return text


def _path_fault(text: str) -> str | None:
    if not text or len(text) > PATH_LIMIT or len(text.encode("utf-8", "replace")) > PATH_LIMIT:
        return "it is empty" if not text else "it is too long"
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        return "it has control characters"
    if bad := _FORBIDDEN.intersection(text):
        return f"it has {''.join(sorted(bad))!r}"
    if unicodedata.normalize("NFC", text) != text:
        return "it is not in Unicode's composed form (NFC)"
    return next(filter(None, map(_segment_fault, text.split("/"))), None)


def _segment_fault(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return "it is absolute or leaves its folder"
    if segment.endswith((" ", ".")) or segment.startswith(" "):
        return "a part of it starts or ends with a space, or ends with a dot"
    if len(segment.encode()) > SEGMENT_LIMIT:
        return "a part of it is too long"
    if segment.split(".")[0].rstrip(" ").upper() in _DEVICES:
        return f"{segment!r} is a device on Windows"
    return None


def parse_unique(text: str, endpoint: str = DEFAULT_ENDPOINT) -> HubName | LocalPath | UrlName:
    """What a unique name stands for. Raises InvalidRequest that lists the forms it may have.

    Args:
        text: The name; spaces around it do not count.
        endpoint: The Hub in force. The address of one of its repositories or files is read as a
            name on the Hub, so that the file goes into the cache like any other.
    """
    name = text.strip()
    try:
        if name.startswith("/"):
            return _local(name)
        if name.lower().startswith("hf://"):
            return _hub_file(name[len("hf://") :])
        if (page := _on_hub(name, endpoint)) is not None:
            return _hub_page(*page)
        if "://" in name:
            return _url(name)
        return _short(name)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{name!r} does not name a model: {error.message}",
            f"Write one of: {'; '.join(UNIQUE_FORMS)}.",
        ) from error


def canonical(text: str, endpoint: str = DEFAULT_ENDPOINT) -> str:
    """The unique name in its shortest form; an id or a short name, which is none, as it is.

    Raises InvalidRequest for what can only be meant as a unique name, and is not a good one.

    >>> canonical("https://huggingface.co/Qwen/Qwen3-0.6B-GGUF/tree/main")
    'Qwen/Qwen3-0.6B-GGUF'
    >>> canonical("hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0"), canonical("qwen3-0.6b")
    ('Qwen/Qwen3-0.6B-GGUF:Q8_0', 'qwen3-0.6b')
    """
    try:
        return parse_unique(text, endpoint).unique
    except InvalidRequest:
        if is_address(text):
            raise
        return text.strip()


def is_address(text: str) -> bool:
    """Whether a text can only be meant as a unique name: a path, a URL, or a name on hf.co.

    >>> [is_address(text) for text in ("/m.gguf", "HF.co/a/b", "https://h/m.gguf", "a/b:Q8_0")]
    [True, True, True, False]
    """
    name = text.strip().casefold()
    return name.startswith("/") or "://" in name or name.partition("/")[0] in HUB_HOSTS


def repository(text: str, endpoint: str = DEFAULT_ENDPOINT) -> str:
    """The repository that a name on the Hub is of; any other text as it is.

    >>> repository("https://huggingface.co/a/b/blob/main/c-Q8_0.gguf"), repository("gpt2")
    ('a/b', 'gpt2')
    """
    try:
        name = parse_unique(text, endpoint)
    except InvalidRequest:
        if is_address(text):
            raise
        return text.strip()
    return name.repo if isinstance(name, HubName) else text.strip()


def whole_repository(text: str, endpoint: str = DEFAULT_ENDPOINT) -> str:
    """As `repository`. Raises InvalidRequest for the name of a single model or file of one."""
    try:
        name = parse_unique(text, endpoint)
    except InvalidRequest:
        name = None
    if isinstance(name, HubName) and name.unique != name.repo:
        raise InvalidRequest(
            f"{text!r} is a model, not a repository.", f"Use `modeldeck rm {text}`."
        )
    return repository(text, endpoint)


def _local(name: str) -> LocalPath:
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in name) or len(name) > 4096:
        raise InvalidRequest("the path is too long or has control characters.")
    return LocalPath(path="/" + posixpath.normpath(name).lstrip("/"))


def _short(name: str) -> HubName:
    repo, colon, label = name.partition(":")
    if "/" not in repo:
        raise InvalidRequest("it has no owner.")
    return HubName(repo=check_repo(repo), label=check_label(label) if colon else None)


def _hub_file(rest: str) -> HubName:
    owner, _, rest = rest.partition("/")
    repo, _, file = rest.partition("/")
    repo, at, revision = repo.partition("@")
    if not file:
        raise InvalidRequest("hf:// needs an owner, a repository and a file.")
    return HubName(
        repo=check_repo(f"{owner}/{repo}"),
        file=_model_file(file),
        revision=check_revision(unquote(revision)) if at else None,
    )


def _model_file(path: str) -> str:
    if not path.lower().endswith(".gguf"):
        raise InvalidRequest("the file is not a GGUF file.")
    return check_path(path)


def _on_hub(name: str, endpoint: str) -> tuple[str, str] | None:
    """Path and query of an address on the Hub, with or without its scheme; None for others."""
    is_url = "://" in name
    if not is_url and name.partition("/")[0].casefold() not in HUB_HOSTS:
        return None
    url, hub = _parsed(name if is_url else f"https://{name}"), _split(endpoint)
    if (url.scheme, url.netloc) == (hub.scheme, hub.netloc):
        return url.path.removeprefix(hub.path.rstrip("/")), url.query
    if url.scheme in ("https", "http") and url.netloc in HUB_HOSTS:
        return url.path, url.query
    return None


def _hub_page(path: str, query: str) -> HubName:
    """What the address of a repository, of a folder or of a file in it names."""
    plain = unquote(path).strip("/")
    found = _PAGE.fullmatch(plain)
    if found is None or plain.partition("/")[0].casefold() in _NO_MODELS:
        raise InvalidRequest("the address is the Hub's, but not that of a model's repository.")
    repo, label, kind, revision, inner = found.groups()
    if label is not None and kind is not None:
        raise InvalidRequest("it names a variant and a file.")
    pinned = None if revision in (None, "main") else check_revision(revision)
    # The page of a repository shows one of its files where the query names it.
    shown = parse_qs(query).get("show_file_info", [""])[0]
    if kind in ("resolve", "blob", "raw") or shown:
        file = _model_file(inner or "" if kind not in (None, "tree") else shown)
        return HubName(repo=check_repo(repo), file=file, revision=pinned)
    if pinned is not None:
        raise InvalidRequest(f"of revision {pinned} only a file can be named, not the repository.")
    if inner is not None:  # publishers put each quantization into a folder of its name
        label = inner.rpartition("/")[2]
    label = None if label == _ANY_TAG else label
    return HubName(repo=check_repo(repo), label=None if label is None else check_label(label))


def _parsed(name: str) -> SplitResult:
    if len(name) > URL_LIMIT or not name.isascii() or not name.isprintable() or " " in name:
        raise InvalidRequest("the URL is too long or not properly encoded.")
    return _split(name)


def _url(name: str) -> UrlName:
    url = _parsed(name)
    if url.scheme not in ("https", "http"):
        raise InvalidRequest("only https URLs are taken.")
    _model_file(posixpath.basename(unquote(url.path)))
    return UrlName(url=url._replace(fragment="").geturl(), sha256=_promise(url.fragment))


def _promise(fragment: str) -> str | None:
    """The SHA-256 that a URL's fragment names; None for no fragment."""
    if not fragment:
        return None
    name, _, digest = fragment.partition("=")
    if name.lower() != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise InvalidRequest("what follows the # is not sha256= and 64 hexadecimal digits.")
    return digest.lower()


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        usable = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError as error:
        raise InvalidRequest(f"the URL is broken: {error}.") from error
    if not usable or url.username is not None or url.password is not None:
        raise InvalidRequest("the URL has no host, or has a user name or password in it.")
    return url._replace(scheme=url.scheme.lower(), netloc=url.netloc.lower())
