from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.hub_names import (
    check_blob,
    check_label,
    check_path,
    check_paths,
    check_repo,
    check_revision,
    is_commit,
    is_path,
)
from modeldeck.core.formats.unique_names import (
    UNIQUE_FORMS,
    HubName,
    LocalPath,
    UrlName,
    canonical,
    parse_unique,
    repository,
    whole_repository,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "0" * 64

GOOD = [
    *[(check_repo, text) for text in ("Qwen/Qwen3-0.6B-GGUF", "gpt2", "a/b", "_x/y_", "a" * 96)],
    *[(check_revision, text) for text in ("main", "v1.0", COMMIT, "refs/pr/12", "fix/a-b")],
    *[(check_blob, text) for text in (COMMIT, SHA256)],
    *[(check_label, text) for text in ("Q8_0", "UD-Q4_K_M", "tiny-F16.v2")],
    *[
        (check_path, text)
        for text in ("a.gguf", "Q8_0/model-00001-of-00002.gguf", "with space.gguf", "é/日本.gguf")
    ],
    *[(check_path, text) for text in (".gitattributes", "console.gguf", "a..b", "com0/x")],
]

BAD = [
    *[(check_repo, text) for text in ("", "/", "a/", "/a", "a/b/c", "-a/b", "a/b.", "a--b/c")],
    *[
        (check_repo, text)
        for text in ("a/..", "../b", "a/b.git", "a b/c", "ä/b", "a/b\n", "a" * 97)
    ],
    *[(check_revision, text) for text in ("", "-x", "a..b", "a//b", "/a", "a/", "x.lock", "a b")],
    *[(check_revision, text) for text in ("../main", "nul/x", "main\n", "a/.b", "a:b", "@", "x.")],
    *[
        (check_blob, text)
        for text in ("", "0" * 39, "0" * 41, SHA256.replace("0", "A"), f"{SHA256}\n")
    ],
    *[(check_blob, text) for text in (f"../{'0' * 37}", "sha256:" + SHA256)],
    *[(check_label, text) for text in ("", "-x", "a/b", "..", "a b", "a:b", "x" * 129)],
    *[(check_path, text) for text in ("", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/..")],
    *[(check_path, text) for text in ("C:/a", "a:stream", "\\\\host\\share", "a\\..\\b", "a/b\\c")],
    *[(check_path, text) for text in ("a\0b", "a\nb", "a\x1b[31mb", "a\x7f", "a\x9fb", "\ud800")],
    *[(check_path, text) for text in ("a.", "a ", " a", "a./b", "a /b", "x/ y", "a?", 'a"', "a|b")],
    *[(check_path, text) for text in ("nul", "NUL.txt", "a/Con", "com1.gguf", "LPT9", "COM¹.x")],
    *[(check_path, text) for text in ("aux .txt", "CONIN$", "e\u0301.gguf", "a" * 256, "é" * 128)],
    *[(check_path, text) for text in ("/".join("a" * 600), "x/" * 10_000 + "x")],
]


@pytest.mark.parametrize(("check", "text"), GOOD)
def test_a_good_name_comes_back_as_it_is(check: Callable[[str], str], text: str) -> None:
    assert check(text) == text


@pytest.mark.parametrize(("check", "text"), BAD)
def test_a_bad_name_is_refused(check: Callable[[str], str], text: str) -> None:
    with pytest.raises(InvalidRequest):
        check(text)


@given(st.text(max_size=60))
def test_a_path_that_passes_stays_in_its_folder(text: str) -> None:
    if is_path(text):
        parts = text.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not set('\\:\0<>"|?*') & set(text)
        assert check_path(text) == text


def test_paths_that_differ_only_by_case_are_refused_together() -> None:
    assert check_paths(["a/b.gguf", "a/c.gguf", "a/b.gguf"]) == ("a/b.gguf", "a/c.gguf")
    with pytest.raises(InvalidRequest, match="same file"):
        check_paths(["a/b.gguf", "A/b.gguf"])


@pytest.mark.parametrize(
    ("text", "yes"),
    [(COMMIT, True), (COMMIT.upper(), False), ("main", False), (COMMIT[:-1], False)],
)
def test_commits(text: str, yes: bool) -> None:
    assert is_commit(text) is yes


HUB = "http://127.0.0.1:8080/hub"

UNIQUE = [
    ("deck/tiny-GGUF:Q8_0", HubName(repo="deck/tiny-GGUF", label="Q8_0")),
    ("  deck/tiny-mlx ", HubName(repo="deck/tiny-mlx")),
    ("hf://a/b/c.gguf", HubName(repo="a/b", file="c.gguf")),
    ("HF://a/b/s/c.GGUF", HubName(repo="a/b", file="s/c.GGUF")),
    ("hf://a/b@v1/c.gguf", HubName(repo="a/b", file="c.gguf", revision="v1")),
    ("hf://a/b@refs%2Fpr%2F1/c.gguf", HubName(repo="a/b", file="c.gguf", revision="refs/pr/1")),
    (
        "https://huggingface.co/a/b/resolve/main/s/c%20d.gguf?download=true",
        HubName(repo="a/b", file="s/c d.gguf"),
    ),
    (
        f"https://huggingface.co/a/b/blob/{COMMIT}/c.gguf",
        HubName(repo="a/b", file="c.gguf", revision=COMMIT),
    ),
    (
        "https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/c.gguf",
        HubName(repo="a/b", file="c.gguf", revision="refs/pr/1"),
    ),
    (f"{HUB}/a/b/resolve/main/c.gguf", HubName(repo="a/b", file="c.gguf")),
    # What people paste: Ollama's names, and addresses out of a browser.
    ("hf.co/a/b:Q4_K_M", HubName(repo="a/b", label="Q4_K_M")),
    ("hf.co/a/b", HubName(repo="a/b")),
    ("hf.co/a/b:latest", HubName(repo="a/b")),
    ("HF.co/a/b:Q4_K_M", HubName(repo="a/b", label="Q4_K_M")),
    ("huggingface.co/a/b/", HubName(repo="a/b")),
    ("https://hf.co/a/b:Q4_K_M", HubName(repo="a/b", label="Q4_K_M")),
    ("hf.co/a/b:c-Q8_0.gguf", HubName(repo="a/b", label="c-Q8_0.gguf")),
    ("https://huggingface.co/a/b", HubName(repo="a/b")),
    ("http://www.huggingface.co/a/b/", HubName(repo="a/b")),
    ("https://huggingface.co/a/b?library=llama-cpp-python", HubName(repo="a/b")),
    ("https://huggingface.co/a/b#usage", HubName(repo="a/b")),
    ("https://huggingface.co/a/b/tree/main", HubName(repo="a/b")),
    ("https://huggingface.co/a/b/tree/main/UD-Q4_K_XL", HubName(repo="a/b", label="UD-Q4_K_XL")),
    (
        "https://huggingface.co/a/b?show_file_info=c-Q8_0.gguf",
        HubName(repo="a/b", file="c-Q8_0.gguf"),
    ),
    (
        "https://huggingface.co/a/b/tree/main?show_file_info=s%2Fc-Q8_0.gguf",
        HubName(repo="a/b", file="s/c-Q8_0.gguf"),
    ),
    ("huggingface.co/a/b/blob/main/c.gguf", HubName(repo="a/b", file="c.gguf")),
    (f"{HUB}/a/b", HubName(repo="a/b")),
    (f"{HUB}/a/b/tree/main", HubName(repo="a/b")),
    ("https://example.org/m/c.gguf?x=1", UrlName(url="https://example.org/m/c.gguf?x=1")),
    ("http://nas.local/c.gguf", UrlName(url="http://nas.local/c.gguf")),
    (
        f"https://example.org/c.gguf#SHA256={'aB' * 32}",
        UrlName(url="https://example.org/c.gguf", sha256="ab" * 32),
    ),
    ("/models/c.gguf", LocalPath(path="/models/c.gguf")),
    ("/models/../models//mlx/", LocalPath(path="/models/mlx")),
    ("//models", LocalPath(path="/models")),
]


@pytest.mark.parametrize(("text", "name"), UNIQUE)
def test_unique_names_are_read_and_written_back(
    text: str, name: HubName | LocalPath | UrlName
) -> None:
    assert parse_unique(text, HUB) == name
    assert parse_unique(name.unique, HUB) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "qwen",
            "llama3.2:1b",
            "a/b:",
            ":Q8_0",
            "a/b:c/d",
            "a/b/c",
            "a/b@main",
            "../a/b",
        ),
        *("relative/path/c.gguf", "~/c.gguf", "C:\\c.gguf", "\\\\host\\share\\c.gguf", "/a\0b"),
        *("hf://", "hf://a", "hf://a/b", "hf://a/b/", "hf://a/b/c.bin", "hf://a/b/../c.gguf"),
        *("hf://a/b@/c.gguf", "hf://a/b@..%2Fx/c.gguf", "hf:///b/c.gguf"),
        *(
            "https://example.org/c.gguf#y",
            "https://example.org/c.gguf#sha256=12",
            "ftp://example.org/c.gguf",
            "file:///c.gguf",
            "https://",
        ),
        *("https://user:pw@example.org/c.gguf", "https://example.org/c.zip", "https://h/a b.gguf"),
        *("https://example.org:99999/c.gguf", "https://[::1/c.gguf", "https://h/%2e%2e.gguf\n/x"),
        *("https://huggingface.co/a", "https://huggingface.co/a/b/resolve/main/x.bin"),
        *("https://huggingface.co/a/b/tree/v1", "https://huggingface.co/a/b/blob/main"),
        *("https://huggingface.co/datasets/a", "https://huggingface.co/datasets/a/tree/main"),
        *("https://huggingface.co/a/b/discussions/1", "hf.co/a", "hf.co", "hf.co/a/b:c/d"),
        *("hf.co/a/b:Q8_0/blob/main/c.gguf", "https://huggingface.co/a/b?show_file_info=../x.gguf"),
        *("huggingface.co.evil.org/a/b/c", "hf.co/../b", "https://huggingface.co/a%2F..%2Fb"),
        *("https://huggingface.co/a/b/resolve/main/..%2Fx.gguf", "https://h/" + "a" * 3000),
    ],
)
def test_everything_else_is_refused_with_the_forms_that_are_taken(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_unique(text, HUB)
    assert all(form in str(refused.value) for form in UNIQUE_FORMS)


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("hf.co/a/b:Q8_0", "a/b"),
        ("https://huggingface.co/a/b/tree/main", "a/b"),
        ("a/b", "a/b"),
        ("gpt2", "gpt2"),
        ("tiny words", "tiny words"),
    ],
)
def test_the_repository_of_a_name(text: str, repo: str) -> None:
    assert repository(text, HUB) == repo


@pytest.mark.parametrize("text", ["hf.co/a/b:Q8_0", "a/b:Q8_0", "hf://a/b/c.gguf"])
def test_a_model_is_no_whole_repository(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is a model, not a repository"):
        whole_repository(text, HUB)
    assert whole_repository("https://hf.co/a/b", HUB) == "a/b"


def test_a_bad_address_is_refused_and_not_taken_for_a_short_name() -> None:
    assert canonical(" llama3.2:1b ", HUB) == "llama3.2:1b"
    assert canonical("/models//x.gguf", HUB) == "/models/x.gguf"
    for text in ("https://huggingface.co/datasets/a/b", "hf.co/a", "ftp://h/x.gguf"):
        with pytest.raises(InvalidRequest):
            canonical(text, HUB)


@given(st.text(max_size=80))
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    pasted = (f"hf.co/{text}", f"huggingface.co/a/b/{text}", f"https://hf.co/a/b?{text}")
    plain = (text, f"hf://{text}", f"https://{text}", f"{HUB}/{text}", f"/{text}")
    for candidate in (*plain, *pasted):
        try:
            name = parse_unique(candidate, HUB)
        except InvalidRequest:
            continue
        assert parse_unique(name.unique, HUB) == name
