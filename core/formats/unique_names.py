"""Unique names of models: on the Hub, at a URL, or at a local path."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.hub_names import (
    WEB_OWNER,
    check_label,
    check_path,
    check_repo,
    check_revision,
)

DEFAULT_ENDPOINT = "https://huggingface.co"
HUB_HOSTS = ("huggingface.co", "hf.co", "www.huggingface.co")
"""Hosts that are read as the Hub in pasted addresses, whichever endpoint is configured."""

UNIQUE_FORMS = (
    "owner/repo:VARIANT, such as Qwen/Qwen3-0.6B-GGUF:Q8_0",
    "owner/repo, such as mlx-community/Qwen3-0.6B-4bit",
    "hf.co/owner/repo:VARIANT, or the address of a repository's page or of its file on the Hub",
    "hf://owner/repo/file.gguf",
    "an https URL of a GGUF file, with #sha256= and its hash if you have it",
    "an absolute path of a GGUF file or an MLX folder",
)
"""Forms of unique names, as listed in errors."""

URL_LIMIT = 2048
"""Maximum characters of a URL."""

_PAGE = re.compile(
    r"(?P<repo>[^/:]+/[^/:]+)(?::(?P<label>[^/]+))?"
    r"(?:/(?P<kind>tree|resolve|blob|raw)/(?P<revision>(?:refs/[^/]+/)?[^/]+)(?:/(?P<path>.+))?)?"
)
"""Path of the page of a repository on the Hub, or of one of its files."""
_NO_MODELS = frozenset(
    {"api", "blog", "buckets", "collections", "datasets", "docs", "kernels", "learn", "models"}
    | {"organizations", "papers", "posts", "settings", "spaces", "tasks"}
)
"""First segments of the Hub's own pages, which are not owners."""
LATEST = ":latest"
"""Tag that Ollama's clients add to a name without one (`hf.co/owner/repo:latest`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A model on the Hub: a repository, and a variant or file of it."""

    repo: str
    label: str | None = None
    """Label of the variant; None for an MLX repository, or if the name leaves it open."""
    file: str | None = None
    """Path of the file, if named instead of a label."""
    revision: str | None = None
    """Branch, tag or commit, if the name pins one."""

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
    """Absolute and normalised; it need not exist."""

    @property
    def unique(self) -> str:
        """The path."""
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlName:
    """A GGUF file at a URL outside the Hub."""

    url: str
    """Without a fragment."""
    sha256: str | None = None
    """Required hash of the content, from `#sha256=` and 64 digits."""

    @property
    def unique(self) -> str:
        """The URL, with the hash if there is one."""
        return f"{self.url}#sha256={self.sha256}" if self.sha256 else self.url

    @property
    def file(self) -> str:
        """The name of the file."""
        return posixpath.basename(unquote(urlsplit(self.url).path))

    @property
    def repo(self) -> str:
        """The pseudo-repository of this URL in the cache."""
        host = _slug(urlsplit(self.url).hostname or "")
        stem = _slug(self.file[: -len(".gguf")])
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return f"{WEB_OWNER}/{host}-{stem}-{digest}"


def _slug(text: str) -> str:
    """Convert a text to a valid part of a repository's name."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", text)
    return re.sub(r"\.{2,}", ".", plain)[:40].strip("-.") or "x"


def parse_unique(text: str, endpoint: str = DEFAULT_ENDPOINT) -> HubName | LocalPath | UrlName:
    """Parse a unique name. Raises InvalidRequest, listing the allowed forms.

    Args:
        text: The name; surrounding spaces are ignored.
        endpoint: URL of the configured Hub. The address of one of its repositories or files is
            parsed as a name on the Hub, so that the file goes into the Hub's cache.
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
    """Return a unique name in its shortest form; an id or a short name unchanged.

    Raises InvalidRequest for an address (see `is_address`) that is not a valid unique name.

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


def spellings(name: str, endpoint: str = DEFAULT_ENDPOINT) -> list[str]:
    """The names that a name may stand for, as clients of Ollama write them; the likeliest first.

    Ollama adds `:latest` to a name without a tag, and writes the size of a model as a tag.

    >>> spellings("hf.co/owner/repo:Q4_K_M")
    ['owner/repo:Q4_K_M']
    >>> spellings("owner/repo:latest")
    ['owner/repo', 'owner/repo:latest']
    >>> spellings("qwen3:0.6b")
    ['qwen3:0.6b', 'qwen3-0.6b']
    """
    plain = canonical(name, endpoint)
    base = plain.removesuffix(LATEST)
    found = [base, plain]
    if "/" not in base:
        found.append(base.replace(":", "-"))
    return list(dict.fromkeys(found))


def is_address(text: str) -> bool:
    """Whether a text is a path, a URL, or a name on hf.co, and so only valid as a unique name.

    >>> [is_address(text) for text in ("/m.gguf", "HF.co/a/b", "https://h/m.gguf", "a/b:Q8_0")]
    [True, True, True, False]
    """
    name = text.strip().casefold()
    return name.startswith("/") or "://" in name or name.partition("/")[0] in HUB_HOSTS


def repository(text: str, endpoint: str = DEFAULT_ENDPOINT) -> str:
    """Return the repository of a name on the Hub; any other text unchanged.

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
    """Return the repository as `repository` does. Raises InvalidRequest for a single model."""
    try:
        name = parse_unique(text, endpoint)
    except InvalidRequest:
        name = None
    if isinstance(name, HubName) and name.unique != name.repo:
        raise InvalidRequest(
            f"{text!r} is a model, not a repository.", f"Use `modeldeck rm {text}`."
        )
    return repository(text, endpoint)


def hub_name(ref: str, endpoint: str = DEFAULT_ENDPOINT) -> HubName | None:
    """Parse a unique name of the Hub; None for any other name."""
    try:
        name = parse_unique(ref, endpoint)
    except InvalidRequest:
        return None
    return name if isinstance(name, HubName) else None


def url_name(ref: str, endpoint: str = DEFAULT_ENDPOINT) -> UrlName | None:
    """Parse the URL of a file outside the Hub; None for any other name."""
    if not ref.strip().lower().startswith(("https://", "http://")):
        return None
    try:
        name = parse_unique(ref, endpoint)
    except InvalidRequest:
        return None
    return name if isinstance(name, UrlName) else None


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
    """Return path and query of an address on the Hub, with or without scheme; else None."""
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
    """Parse the address of a repository on the Hub, or of a folder or file in it."""
    plain = unquote(path).strip("/")
    found = _PAGE.fullmatch(plain)
    if found is None or plain.partition("/")[0].casefold() in _NO_MODELS:
        raise InvalidRequest("the address is the Hub's, but not that of a model's repository.")
    repo, label, kind, revision, inner = found.groups()
    if label is not None and kind is not None:
        raise InvalidRequest("it names a variant and a file.")
    pinned = None if revision in (None, "main") else check_revision(revision)
    # The page of a repository shows a file that is named in the query.
    shown = parse_qs(query).get("show_file_info", [""])[0]
    if kind in ("resolve", "blob", "raw") or shown:
        file = _model_file(inner or "" if kind not in (None, "tree") else shown)
        return HubName(repo=check_repo(repo), file=file, revision=pinned)
    if pinned is not None:
        raise InvalidRequest(f"of revision {pinned} only a file can be named, not the repository.")
    if inner is not None:  # publishers put each quantization into a folder of its name
        label = inner.rpartition("/")[2]
    label = None if label == LATEST[1:] else label
    return HubName(repo=check_repo(repo), label=None if label is None else check_label(label))


def _parsed(name: str) -> SplitResult:
    if len(name) > URL_LIMIT or not name.isascii() or not name.isprintable() or " " in name:
        raise InvalidRequest("the URL is too long or not properly encoded.")
    return _split(name)


def _url(name: str) -> UrlName:
    url = _parsed(name)
    if url.scheme not in ("https", "http"):
        raise InvalidRequest("only https URLs are accepted.")
    _model_file(posixpath.basename(unquote(url.path)))
    return UrlName(url=url._replace(fragment="").geturl(), sha256=_parse_fragment(url.fragment))


def _parse_fragment(fragment: str) -> str | None:
    """Return the SHA-256 in a URL's fragment; None without a fragment."""
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
