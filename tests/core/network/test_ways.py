"""Whether and which way requests leave this machine, by tables."""

from __future__ import annotations

import pytest

from modeldeck.core.errors import HubUnavailable
from modeldeck.core.network.failures import reason, shown
from modeldeck.core.network.offline import check_online, forbidden_by
from modeldeck.core.network.proxies import Proxies


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, None),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "true"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "on"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": ""}, None),
        ({"HF_HUB_OFFLINE": "0"}, None),
        ({"HF_HUB_OFFLINE": "no", "TRANSFORMERS_OFFLINE": "1"}, None),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "YES"}, "TRANSFORMERS_OFFLINE"),
    ],
)
def test_what_makes_offline(environ: dict[str, str], name: str | None) -> None:
    assert forbidden_by(environ) == name
    if name is None:
        check_online(environ)
    else:
        with pytest.raises(HubUnavailable, match=f"{name} is set") as refused:
            check_online(environ)
        assert name in refused.value.remedy


PROXY = "http://user:p%40ss@proxy.example:3128"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({"http_proxy": PROXY}, ("http", "hub.example", None), PROXY),
        ({"http_proxy": PROXY}, ("https", "hub.example", None), None),
        ({"HTTPS_PROXY": PROXY}, ("https", "hub.example", None), PROXY),
        ({"https_proxy": "proxy:3128"}, ("https", "hub.example", None), "http://proxy:3128"),
        ({"ALL_PROXY": PROXY}, ("https", "hub.example", None), PROXY),
        ({"all_proxy": "socks5://x", "https_proxy": PROXY}, ("https", "h", None), PROXY),
        ({"all_proxy": PROXY, "no_proxy": "*"}, ("https", "hub.example", None), None),
        ({"all_proxy": PROXY, "no_proxy": "example"}, ("https", "hub.example", None), None),
        ({"all_proxy": PROXY, "no_proxy": ".example, x"}, ("https", "hub.example", None), None),
        ({"all_proxy": PROXY, "no_proxy": "hub.example:443"}, ("https", "hub.example", None), None),
        ({"all_proxy": PROXY, "no_proxy": "hub.example:8"}, ("https", "hub.example", None), PROXY),
        ({"all_proxy": PROXY, "no_proxy": "127.0.0.1"}, ("http", "127.0.0.1", 8000), None),
        ({"all_proxy": PROXY, "no_proxy": "10.0.0.0/8,x"}, ("http", "10.1.2.3", 80), None),
        ({"all_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, ("http", "11.1.2.3", 80), PROXY),
        ({"all_proxy": PROXY, "no_proxy": "::1,fd00::/8"}, ("http", "fd00::2", 80), None),
        ({"all_proxy": PROXY, "no_proxy": "[::1]"}, ("http", "::1", 80), None),
        ({"all_proxy": "https://proxy"}, ("https", "hub.example", None), "https://proxy"),
        ({"all_proxy": ""}, ("https", "hub.example", None), None),
    ],
)
def test_which_proxy(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    url: tuple[str, str, int | None],
    proxy: str | None,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Proxies.read().url_for(*url) == proxy


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("socks5://user:secret@127.0.0.1:9", "SOCKS"),
        ("socks5h://user:secret@127.0.0.1:9", "SOCKS"),
        ("ftp://user:secret@proxy", "kind"),
        ("http://user:secret@", "no URL"),
        ("http://user:sec#secret@proxy:3128", "no URL"),
        ("http://user:secret@proxy:port", "no URL"),
        ("http://[::1:secret", "no URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(HubUnavailable, match=said) as refused:
        Proxies.read().url_for("https", "hub.example")
    assert "ALL_PROXY" in str(refused.value)
    assert "http://host:port" in refused.value.remedy
    assert "secret" not in str(refused.value)


def test_reasons_quote_nothing_that_was_to_be_sent() -> None:
    secret = "Bearer \ufeffhf_secret"
    with pytest.raises(UnicodeEncodeError) as failed:
        secret.encode("ascii")
    assert "secret" not in reason(failed.value)
    assert reason(OSError(2, "No such file")) == "No such file"
    assert shown("https://a:b@[::1:x") == "a malformed URL"
    assert shown("https://u:p@h/f.gguf?Signature=1") == "https://h/f.gguf"
