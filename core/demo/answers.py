"""What the Hub answers: a pure function of a request and of what is published.

The protocol is that of huggingface.co as huggingface_hub 2.4 speaks it. Xet is not announced, so
clients fetch over HTTP. As on the real Hub, `resolve` redirects: a small file to
`/api/resolve-cache` on the same host, a large one to a signed URL on another origin, whose ETag is
not the file's SHA-256 and which takes no token.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from modeldeck.core.demo import records
from modeldeck.core.demo.repository import DemoFile, DemoRepo
from modeldeck.core.demo.server import HubRequest

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBody:
    """Part of a file, as the body of an answer."""

    file: DemoFile
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HubResponse:
    """Status, headers and body; the length is added when it is sent."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | FileBody = b""
    file: str = ""
    """`owner/name/path` of the file that is asked for; empty for other answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubContext:
    """Everything that an answer depends on besides the request."""

    url: str
    """The hub's own origin."""
    storage_url: str
    """The origin of signed URLs."""
    repos: dict[str, tuple[DemoRepo, ...]]
    """Commits by repository, the newest last."""
    former: dict[str, str]
    """Repositories by a name that they had before."""
    now: float
    """Seconds since the epoch."""
    link_lifetime_s: float
    secret: bytes
    """Signs URLs: a new one makes every earlier URL invalid."""
    ranges: bool
    """Whether parts of files are served; else every GET gets all of it."""
    token: str
    """The token that may read gated repositories."""
    stranger: str
    """A valid token that may not."""


def answer(world: HubContext, request: HubRequest) -> HubResponse:
    """The hub's answer."""
    allowed = ("GET", "HEAD", "POST") if "/paths-info/" in request.path else ("GET", "HEAD")
    if request.method not in allowed:
        return _error(405, "", f"{request.method} is not allowed here.")
    if (bearer := _bearer(request)) and bearer not in (world.token, world.stranger):
        return _error(401, "", "Invalid credentials in Authorization header")
    match request.segments:
        case ["api", "whoami-v2"]:
            return _whoami(request)
        case ["api", "telemetry", *_]:
            return HubResponse(status=200)
        case ["api", "models"]:
            return _search(world, request)
        case ["api", "models", owner, name, *rest]:
            return _model(world, request, f"{owner}/{name}", rest)
        case ["api", "resolve-cache", "models", owner, name, revision, *path]:
            return _resolve(world, request, f"{owner}/{name}", revision, "/".join(path), final=True)
        case [owner, name, "resolve", revision, *path]:
            return _resolve(world, request, f"{owner}/{name}", revision, "/".join(path))
    return _error(404, "", "Page not found")


def storage_answer(world: HubContext, request: HubRequest) -> HubResponse:
    """The answer of the storage behind the hub, where the large files lie."""
    match request.segments:
        case [owner, name, sha256] if request.method in ("GET", "HEAD"):
            repo = f"{owner}/{name}"
        case _:
            return _refusal(404, "NoSuchKey")
    file = next((f for r in world.repos.get(repo, ()) for f in r.files if f.sha256 == sha256), None)
    if file is None:
        return _refusal(404, "NoSuchKey")
    target = f"{repo}/{file.path}"
    if "authorization" in request.headers:
        return _refusal(400, "InvalidArgument: only one way of authorization is allowed", target)
    expires = request.query.get("X-Expires", [""])[0]
    signature = request.query.get("X-Signature", [""])[0]
    if not hmac.compare_digest(signature, _sign(world, request.path, expires)):
        return _refusal(403, "SignatureDoesNotMatch", target)
    if world.now > float(expires):
        return _refusal(403, "AccessDenied: the request has expired", target)
    # Content-addressed storage names its objects in its own way, not by SHA-256.
    etag = hashlib.sha256(sha256.encode()).hexdigest()[:32]
    return _serve(world, request, file, etag, [], target)


# Files


def _resolve(
    world: HubContext,
    request: HubRequest,
    name: str,
    revision: str,
    path: str,
    *,
    final: bool = False,
) -> HubResponse:
    repo = _find(world, request, name, revision)
    if isinstance(repo, HubResponse):
        return repo
    target = f"{repo.repo}/{path}"
    commit = ("X-Repo-Commit", repo.revision)
    if (file := repo.file(path)) is None:
        return _error(404, "EntryNotFound", "Entry not found", [commit])
    if repo.gated and _bearer(request) != world.token:
        return replace(_gated(world, request, repo), file=target)
    etag = f'"{file.etag}"'
    headers = [commit, ("X-Linked-Size", str(file.size_bytes)), ("X-Linked-ETag", etag)]
    if final:
        return _serve(world, request, file, file.etag, headers, target)
    location = (
        _signed(world, repo, file)
        if file.sha256
        else f"/api/resolve-cache/models/{repo.repo}/{repo.revision}/{quote(path)}"
    )
    return HubResponse(
        status=302 if file.sha256 else 307,
        headers=[
            *headers,
            ("ETag", etag),
            ("Accept-Ranges", "bytes"),
            ("Location", location),
            ("Content-Type", "text/plain; charset=utf-8"),
        ],
        body=f"Redirecting to {location}".encode(),
        file=target,
    )


def _serve(
    world: HubContext, request: HubRequest, file: DemoFile, etag: str, headers: Headers, target: str
) -> HubResponse:
    """The file or the part that is asked for (RFC 9110, sections 13 and 14)."""
    quoted = f'"{etag}"'
    headers = [*headers, ("ETag", quoted), ("Content-Type", "application/octet-stream")]
    if world.ranges:
        headers.append(("Accept-Ranges", "bytes"))
    if request.headers.get("if-none-match") in ("*", quoted):
        return HubResponse(status=304, headers=headers, file=target)
    wanted = request.headers.get("range") if world.ranges and request.method == "GET" else None
    if wanted and request.headers.get("if-range", quoted) != quoted:
        wanted = None
    part = parse_range(wanted, file.size_bytes) if wanted else None
    if part is None:
        return HubResponse(
            status=200,
            headers=headers,
            body=FileBody(file=file, start=0, stop=file.size_bytes),
            file=target,
        )
    start, stop = part
    if start >= stop:
        headers.append(("Content-Range", f"bytes */{file.size_bytes}"))
        return HubResponse(status=416, headers=headers, file=target)
    headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{file.size_bytes}"))
    return HubResponse(
        status=206, headers=headers, body=FileBody(file=file, start=start, stop=stop), file=target
    )


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes that a Range header asks for, as start and stop; an empty range if there are none.

    None for what a server may ignore: another unit, several ranges, or nonsense (RFC 9110, 14.2).

    >>> parse_range("bytes=0-9", 100), parse_range("bytes=90-", 100), parse_range("bytes=-5", 100)
    ((0, 10), (90, 100), (95, 100))
    >>> parse_range("bytes=100-", 100), parse_range("bytes=5-2", 100), parse_range("lines=1-2", 100)
    ((100, 100), None, None)
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header.strip())
    if found is None or found.group() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return min(int(first), size), min(int(last) + 1, size) if last else size


def _signed(world: HubContext, repo: DemoRepo, file: DemoFile) -> str:
    path = f"/{repo.repo}/{file.sha256}"
    expires = f"{world.now + world.link_lifetime_s:.3f}"
    query = {
        "response-content-disposition": f'attachment; filename="{file.path.rpartition("/")[2]}";',
        "X-Expires": expires,
        "X-Signature": _sign(world, path, expires),
    }
    return f"{world.storage_url}{path}?{urlencode(query)}"


def _sign(world: HubContext, path: str, expires: str) -> str:
    return hmac.new(world.secret, f"{path}\n{expires}".encode(), "sha256").hexdigest()


# Metadata


def _whoami(request: HubRequest) -> HubResponse:
    if not _bearer(request):
        return _error(401, "", "Invalid username or password.")
    access = {"displayName": "demo", "role": "read", "createdAt": "2026-01-01T00:00:00.000Z"}
    return _json(
        {
            "type": "user",
            "id": "000000000000000000000001",
            "name": "visitor",
            "fullname": "A visitor",
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": access},
        }
    )


def _search(world: HubContext, request: HubRequest) -> HubResponse:
    query = request.query
    found = records.search([commits[-1] for commits in world.repos.values()], query)
    try:
        start = int(query.get("cursor", ["0"])[0])
        limit = min(int(query.get("limit", ["1000"])[0]), 1000)
    except ValueError:
        return _error(400, "", "limit and cursor must be numbers")
    page = found[start : start + limit]
    headers: Headers = []
    if start + limit < len(found):
        rest = urlencode({**query, "cursor": [str(start + limit)]}, doseq=True)
        headers.append(("Link", f'<{world.url}/api/models?{rest}>; rel="next"'))
    expand = query.get("expand", [])
    full = query.get("full", [""])[0].lower() == "true"
    return _json([records.listed(repo, expand=expand, full=full) for repo in page], headers)


def _model(world: HubContext, request: HubRequest, name: str, rest: Sequence[str]) -> HubResponse:
    match rest:
        case [] | ["revision", _] | ["refs"]:
            revision = rest[1] if len(rest) == 2 else "main"
        case ["tree" | "paths-info", named, *_]:
            revision = named
        case _:
            return _error(404, "", "Page not found")
    repo = _find(world, request, name, revision)
    if isinstance(repo, HubResponse):
        return repo
    query = request.query
    match rest:
        case ["refs"]:
            return _json(records.refs(repo))
        case ["tree", _, *path]:
            recursive = query.get("recursive", [""])[0].lower() == "true"
            found = records.tree(repo, "/".join(path), recursive=recursive)
            if found is None:
                return _error(404, "EntryNotFound", f"{'/'.join(path)} does not exist")
            return _json(found)
        case ["paths-info", _]:
            return _json(records.paths_info(repo, _paths(request)))
    blobs = query.get("blobs", [""])[0].lower() in ("true", "1")
    return _json(records.model_info(repo, blobs=blobs, expand=query.get("expand", [])))


def _paths(request: HubRequest) -> list[str]:
    """The paths of a `paths-info` request, whose body is a form or JSON."""
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            found = json.loads(request.body)["paths"]
        except (ValueError, LookupError, TypeError):
            return []
        paths = found if isinstance(found, list) else [found]
        return [path for path in paths if isinstance(path, str)]
    return parse_qs(request.body.decode("utf-8", "replace")).get("paths", [])


def _find(
    world: HubContext, request: HubRequest, name: str, revision: str
) -> DemoRepo | HubResponse:
    """The repository at a revision: `main` or a commit; else the Hub's refusal."""
    if name not in world.repos:
        called = world.former.get(name, name)
        canonical = next((repo for repo in world.repos if repo.lower() == called.lower()), None)
        if canonical is not None:
            location = request.target.replace(name, canonical, 1)
            return HubResponse(status=307, headers=[("Location", location)])
        # The Hub does not tell a stranger which private repositories exist.
        status = 404 if _bearer(request) else 401
        return _error(status, "RepoNotFound", "Repository not found")
    commits = world.repos[name]
    if revision in ("main", "refs/heads/main"):
        return commits[-1]
    for repo in commits:
        if repo.revision == revision:
            return repo
    return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def _gated(world: HubContext, request: HubRequest, repo: DemoRepo) -> HubResponse:
    if _bearer(request):
        text = (
            f"Access to model {repo.repo} is restricted and you are not in the authorized list. "
            f"Visit {world.url}/{repo.repo} to ask for access."
        )
        return _error(403, "GatedRepo", text)
    text = (
        f"Access to model {repo.repo} is restricted. You must have access to it and be "
        "authenticated to access it. Please log in."
    )
    return _error(401, "GatedRepo", text)


def _bearer(request: HubRequest) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _json(content: Any, headers: Sequence[tuple[str, str]] = ()) -> HubResponse:
    kind = ("Content-Type", "application/json; charset=utf-8")
    return HubResponse(status=200, headers=[*headers, kind], body=json.dumps(content).encode())


def _error(
    status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()
) -> HubResponse:
    found = [*headers, ("X-Error-Message", message)]
    if code:
        found.append(("X-Error-Code", code))
    found.append(("Content-Type", "application/json; charset=utf-8"))
    return HubResponse(status=status, headers=found, body=json.dumps({"error": message}).encode())


def _refusal(status: int, code: str, file: str = "") -> HubResponse:
    """An error of the storage, in the XML of S3."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    headers = [("Content-Type", "application/xml")]
    return HubResponse(status=status, headers=headers, body=body.encode(), file=file)
