from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pieces_os_client.exceptions import ApiException, ServiceException
from pieces_os_client.models.model_capabilities import ModelCapabilities
from pieces_os_client.models.model_foundation_enum import ModelFoundationEnum
from pieces_os_client.models.model_max_tokens import ModelMaxTokens
from pieces_os_client.models.model_type_enum import ModelTypeEnum

from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

if TYPE_CHECKING:
    from tests.contract.conftest import Sdk

Q8 = "deck/tiny-GGUF:Q8_0"
F16 = "deck/tiny-GGUF:F16"
NOBODY = "00000000-0000-0000-0000-000000000000"
HELD = 1 << 16
"""Bytes a second of each connection where the padded model must not be here too early."""
SEED: dict[str, Any] = {
    "name": "Seed",
    "version": "1",
    "created": {"value": "2026-01-02T03:04:05Z"},
    "cloud": False,
    "type": "SPEED",
    "usage": "CODE_CONVERSATION",
}


def refused(call: Any, *arguments: Any, **named: Any) -> str:
    """The words of a 500."""
    with pytest.raises(ServiceException) as caught:
        call(*arguments, **named)
    assert caught.value.status == 500
    assert str((caught.value.headers or {})["Content-Type"]).startswith("text/plain")
    return str(caught.value.body)


def test_the_catalog_is_listed_for_every_client(sdk: Sdk) -> None:
    models = sdk.models.models_snapshot().iterable
    assert len(models) >= 40
    assert len({model.id for model in models}) == len(models)
    assert not any(model.custom or model.downloaded or model.loaded for model in models)
    first = sdk.get(models[0].id)
    assert first == models[0]
    answer = sdk.http.get(f"{sdk.url}//models")  # as with a base URL that ends in a slash
    assert answer.headers["content-type"] == "application/json"
    assert [model["id"] for model in answer.json()["iterable"]] == [model.id for model in models]


def test_a_created_model_is_custom_and_kept_as_it_was_given(sdk: Sdk, core: CoreProcess) -> None:
    made = sdk.create(
        "Mine",
        Q8,
        description="for tests",
        foundation="CLAUDE_4",
        provider="IBM",
        parameters=0.25,
        quantization="q8_0",
        maxTokens={"total": 4096, "output": 100},
        capabilities={"images": True},
        bytes={"value": 10, "readable": "10 B"},
        ram={"value": 20, "readable": "20 B"},
        cpu=False,
        custom=False,
        downloaded=True,
        denied=True,
    )
    assert (made.custom, made.downloaded, made.downloading, made.loaded) == (True, *[False] * 3)
    assert (made.name, made.version, made.unique) == ("Mine", "1", Q8)
    assert made.description == "for tests"
    assert made.created.value.isoformat() == "2026-01-02T03:04:05+00:00"
    assert made.foundation == ModelFoundationEnum.CLAUDE_4
    assert (made.provider, made.parameters, made.quantization) == ("IBM", 0.25, "q8_0")
    assert (made.max_tokens.total, made.max_tokens.output) == (4096, 100)
    assert made.capabilities.images is True
    assert (made.bytes.value, made.ram.readable, made.cpu) == (10, "20 B", False)
    assert made.denied is None
    before = sdk.http.get(f"/model/{made.id}").json()
    core.restart()
    sdk.http.base_url = core.url
    assert sdk.http.get(f"/model/{made.id}").json() == before


DUPLICATES: tuple[tuple[dict[str, Any], dict[str, Any], bool], ...] = (
    ({"unique": Q8}, {"unique": f"  {Q8.upper()} ", "name": "Other"}, True),
    ({"unique": Q8}, {"unique": F16}, False),
    ({}, {"name": " seed "}, True),
    ({}, {"version": "2"}, False),
    ({"unique": Q8}, {}, True),
)
"""What there is, what is added, and whether that is the same."""


def test_a_duplicate_is_refused(sdk: Sdk, subtests: pytest.Subtests) -> None:
    for first, second, same in DUPLICATES:
        with subtests.test(first=first, second=second):
            made = sdk.http.post("/models/create", json={**SEED, **first}).json()
            answer = sdk.http.post("/models/create", json={**SEED, **second})
            assert answer.status_code == (500 if same else 200)
            if same:
                assert made["id"] in answer.text
            for model in sdk.models.models_snapshot().iterable:
                if model.custom:
                    sdk.models.models_delete_specific_model(model=model.id)


def test_an_entry_of_the_catalog_cannot_be_created_again(sdk: Sdk) -> None:
    listed = sdk.models.models_snapshot().iterable[0]
    assert listed.id in refused(sdk.create, "Again", listed.unique)


def test_a_place_that_leads_nowhere_is_refused_with_words(sdk: Sdk) -> None:
    places = ("gpt-4", "/no/such/file.gguf", "ftp://a/b.gguf", "owner/repo:", "../../etc/passwd")
    for unique in places:
        assert unique in refused(sdk.create, "Nowhere", unique)
    assert not any(model.custom for model in sdk.models.models_snapshot().iterable)


def test_an_update_round_trip(sdk: Sdk) -> None:
    made = sdk.create("Before", Q8, description="kept", foundation="LLAMA_3_8B", parameters=7)
    made.name = "After"
    made.version = "2"
    made.type = ModelTypeEnum.ACCURACY
    made.parameters = None
    made.max_tokens = ModelMaxTokens(total=2048)
    made.capabilities = ModelCapabilities(images=False, documents=True)
    # What is not the client's to say is passed over, whatever it says.
    made.cloud, made.custom, made.downloaded, made.loaded, made.denied = (True, False, *[True] * 3)
    changed = sdk.model.model_update(model=made)
    assert (changed.name, changed.version, changed.type) == ("After", "2", "ACCURACY")
    assert changed.parameters is None
    assert changed.max_tokens.total == 2048
    assert (changed.capabilities.images, changed.capabilities.documents) == (False, True)
    assert (changed.description, changed.foundation) == ("kept", "LLAMA_3_8B")
    assert (changed.cloud, changed.custom, changed.downloaded) == (False, True, False)
    assert sdk.get(made.id) == changed
    assert sdk.model.model_update(model=changed) == changed


def test_an_update_keeps_what_it_leaves_out_and_is_known_by_its_id(sdk: Sdk) -> None:
    made = sdk.create("Mine", Q8, provider="META", description="d")
    before = sdk.http.get(f"/model/{made.id}").json()
    least = {**SEED, "id": made.id, "name": "Mine too"}
    changed = sdk.http.post("/model/update", json=least)
    assert changed.status_code == 200
    assert changed.json() == {**before, "name": "Mine too"}
    assert sdk.get(made.id).name == "Mine too"


def test_a_new_unique_name_is_taken_until_the_files_are_here(sdk: Sdk) -> None:
    made = sdk.create("Mine", Q8)
    made.unique = F16
    moved = sdk.model.model_update(model=made)
    assert (moved.id, moved.unique) == (made.id, F16)
    here = sdk.fetched(made.id)
    here.unique = Q8
    assert "is downloaded" in refused(sdk.model.model_update, model=here)


def test_an_update_is_refused_where_it_may_not_be(sdk: Sdk) -> None:
    mine, other = sdk.create("Mine", Q8), sdk.create("Other", F16)
    listed = sdk.models.models_snapshot().iterable[0]
    listed.custom = True
    assert "not a custom model" in refused(sdk.model.model_update, model=listed)
    mine.name = " OTHER "
    assert other.id in refused(sdk.model.model_update, model=mine)
    mine.name, mine.unique = "Mine", F16
    assert other.id in refused(sdk.model.model_update, model=mine)
    mine.id = NOBODY
    assert "There is no model" in refused(sdk.model.model_update, model=mine)
    assert "body is missing" in refused(sdk.model.model_update)
    assert [m.name for m in sdk.models.models_snapshot().iterable if m.custom] == ["Mine", "Other"]


BAD_BODIES: tuple[tuple[bytes | dict[str, Any], str], ...] = (
    (b"", "body is missing"),
    (b"null", "body is missing"),
    (b"{", "not JSON"),
    (b'{"a": NaN}', "not JSON"),
    (b"\xff", "not JSON"),
    (b"[]", "body must not be an array"),
    (b'"text"', "body must not be a string"),
    (b"{}", "cloud is missing"),
    (b"[" * 100_000, "The body"),
    ({"name": 5}, "name must not be a number"),
    ({"type": "QUICK"}, "type cannot be 'QUICK'"),
    ({"usage": None}, "usage must not be null"),
    ({"cloud": "no"}, "cloud must not be a string"),
    ({"created": {"value": "soon"}}, "created.value is not a time"),
    ({"bytes": {"value": 1.5, "readable": ""}}, "bytes.value must not be a number"),
    ({"maxTokens": {"total": [1]}}, "maxTokens.total must not be an array"),
)
"""A body, or what is changed in a good one, and words of the refusal."""


@pytest.mark.parametrize("path", ["/model/update", "/models/create"])
def test_a_bad_body_is_refused_by_the_name_of_its_field(
    sdk: Sdk, subtests: pytest.Subtests, path: str
) -> None:
    for body, words in BAD_BODIES:
        with subtests.test(body=str(body)[:80]):
            made = json.dumps({**SEED, "id": NOBODY, **body}) if isinstance(body, dict) else body
            kind = {"content-type": "application/json"}
            answer = sdk.http.post(path, content=made, headers=kind)
            assert answer.status_code == 500
            assert answer.headers["content-type"].startswith("text/plain")
            assert words in answer.text


def test_an_unknown_model_is_told_in_words(sdk: Sdk, subtests: pytest.Subtests) -> None:
    one, many = sdk.model, sdk.models
    for key in (NOBODY, "a/b", "${model.id}", "%", "\u00e9", "x" * 2000):
        with subtests.test(key=key[:80]):
            with pytest.raises(ApiException) as caught:
                sdk.get(key)
            assert caught.value.status == 410
            assert "There is no model" in str(caught.value.body)
            for call in (
                one.model_specific_model_download,
                one.model_specific_model_download_cancel,
                one.model_specific_model_download_progress,
                one.model_specific_model_load,
                one.model_specific_model_unload,
                many.models_delete_specific_model,
                many.models_delete_specific_model_cache,
            ):
                assert "There is no model" in refused(call, model=key)


def test_a_model_without_a_source_has_nothing_to_fetch(sdk: Sdk) -> None:
    made = sdk.create("Bodiless")
    assert made.unique is None
    refused(sdk.model.model_specific_model_download, model=made.id)
    refused(sdk.model.model_specific_model_load, model=made.id)
    assert not sdk.get(made.id).downloading
    sdk.models.models_delete_specific_model(model=made.id)


def test_a_cloud_entry_takes_neither_files_nor_memory(sdk: Sdk) -> None:
    made = sdk.create("Far away", cloud=True, usage="OCR")
    assert made.cloud
    for call in (
        sdk.model.model_specific_model_download,
        sdk.model.model_specific_model_load,
        sdk.model.model_specific_model_unload,
    ):
        assert "remote provider" in refused(call, model=made.id)
    sdk.models.models_delete_specific_model_cache(model=made.id)
    sdk.models.models_delete_specific_model(model=made.id)


def test_only_files_of_language_models_can_be_removed(sdk: Sdk) -> None:
    made = sdk.create("Reader", Q8, usage="OCR")
    words = refused(sdk.models.models_delete_specific_model_cache, model=made.id)
    assert "OCR" in words


def test_what_is_not_there_is_left_alone(sdk: Sdk) -> None:
    listed = sdk.models.models_snapshot().iterable[0]
    assert not sdk.model.model_specific_model_unload(model=listed.id).loaded
    assert not sdk.model.model_specific_model_download_cancel(model=listed.id).downloading
    cleared = sdk.models.models_delete_specific_model_cache(model=listed.id)
    assert cleared.model.id == listed.id
    assert sdk.models.unload_models() is None
    assert "not a custom model" in refused(sdk.models.models_delete_specific_model, model=listed.id)
    path = f"/models/{listed.id}/delete/cache"
    bad = sdk.http.post(path, json={"schema": {"migration": "0"}})
    assert (bad.status_code, bad.text.split(";")[0]) == (
        500,
        "schema.semantic is missing. Send every required field.",
    )


def test_loading_is_not_downloading(sdk: Sdk, hub: DemoHub) -> None:
    made = sdk.create("Padded", "deck/padded-GGUF:F16")
    assert "not downloaded" in refused(sdk.model.model_specific_model_load, model=made.id)
    hub.rate_bytes_per_s = HELD
    assert sdk.model.model_specific_model_download(model=made.id).downloading
    assert sdk.model.model_specific_model_download(model=made.id).downloading
    words = refused(sdk.model.model_specific_model_load, model=made.id)
    assert "still being downloaded" in words
    canceled = sdk.model.model_specific_model_download_cancel(model=made.id)
    assert (canceled.downloading, canceled.downloaded) == (False, False)


def test_two_models_in_memory_and_out_again(sdk: Sdk) -> None:
    keys = [sdk.fetched(sdk.create(unique, unique).id).id for unique in (Q8, F16)]
    for key in keys:
        loaded = sdk.model.model_specific_model_load(model=key)
        assert loaded.loaded
        assert loaded.downloaded
        assert sdk.model.model_specific_model_load(model=key).loaded
    assert [m.id for m in sdk.models.models_snapshot().iterable if m.loaded] == keys
    measured = sdk.until(keys[0], lambda model: model.ram)
    assert measured.ram.value > 1 << 20
    sdk.models.unload_models()
    assert not any(model.loaded for model in sdk.models.models_snapshot().iterable)
    assert all(sdk.get(key).downloaded for key in keys)


def test_removing_files_unloads_first_and_leaves_the_sibling_alone(sdk: Sdk) -> None:
    one, two = (sdk.fetched(sdk.create(unique, unique).id) for unique in (Q8, F16))
    sdk.model.model_specific_model_load(model=one.id)
    sdk.models.models_delete_specific_model_cache(model=one.id)
    cleared = sdk.get(one.id)
    assert (cleared.downloaded, cleared.loaded) == (False, False)
    assert sdk.get(two.id).downloaded
    sdk.models.models_delete_specific_model_cache(model=one.id)
    assert sdk.fetched(one.id).downloaded


def test_deleting_a_model_ends_everything_about_it(
    sdk: Sdk, hub: DemoHub, core: CoreProcess
) -> None:
    here = sdk.fetched(sdk.create("Here", Q8).id)
    sdk.model.model_specific_model_load(model=here.id)
    hub.rate_bytes_per_s = HELD
    coming = sdk.create("Coming", "deck/padded-GGUF:F16")
    assert sdk.model.model_specific_model_download(model=coming.id).downloading
    for key in (here.id, coming.id):
        sdk.models.models_delete_specific_model(model=key)
        with pytest.raises(ApiException) as caught:
            sdk.get(key)
        assert caught.value.status == 410
    state = sdk.http.get("/deck/state").json()
    assert [i for i in state["instances"] if i["state"] in ("ready", "busy", "starting")] == []
    assert not any(job["state"] in ("queued", "downloading") for job in state["downloads"])
    blobs = [path for path in core.home.parent.glob("hf/**/blobs/*") if path.is_file()]
    assert blobs == []


def test_a_local_file_is_here_at_once_and_stays_its_owners(
    sdk: Sdk, demo_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.gguf"
    shutil.copy(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf", path)
    made = sdk.create("Local", str(path))
    assert (made.downloaded, made.unique) == (True, str(path))
    assert made.bytes.value == path.stat().st_size
    assert sdk.model.model_specific_model_download(model=made.id).downloaded
    assert sdk.model.model_specific_model_load(model=made.id).loaded
    assert "yours" in refused(sdk.models.models_delete_specific_model_cache, model=made.id)
    sdk.models.models_delete_specific_model(model=made.id)
    assert path.exists()


def test_what_cannot_be_fetched_is_refused_with_the_reason(sdk: Sdk) -> None:
    gated = sdk.create("Gated", "deck/gated-GGUF:Q8_0")
    absent = sdk.create("Absent", "deck/none-GGUF:Q8_0")
    other = sdk.create("Other", "deck/tiny-GGUF:Q3_K")
    download = sdk.model.model_specific_model_download
    assert "deck/none-GGUF" in refused(download, model=absent.id)
    assert "Q8_0" in refused(download, model=other.id)
    answer = sdk.http.post(f"/model/{gated.id}/download")
    # The Hub may say no only when the file itself is asked for.
    assert answer.json()["downloading"] if answer.status_code == 200 else "gated" in answer.text
    ended = sdk.until(gated.id, lambda model: not model.downloading)
    assert not ended.downloaded


def test_a_model_that_no_engine_takes_fails_with_the_reason(sdk: Sdk) -> None:
    made = sdk.create("Broken", "deck/broken-GGUF:F16")
    said = refused(sdk.model.model_specific_model_download, model=made.id)
    assert "could not be loaded" in said, "before anything was fetched"
    answer = sdk.http.post(f"/deck/models/{made.id}/download", json={"force": True})
    assert answer.status_code == 200
    sdk.until(made.id, lambda model: model.downloaded)
    assert refused(sdk.model.model_specific_model_load, model=made.id)
    assert not sdk.get(made.id).loaded
    good = sdk.fetched(sdk.create("Good", Q8).id)
    assert sdk.model.model_specific_model_load(model=good.id).loaded


def test_one_odd_model_does_not_break_the_list_for_an_old_client(sdk: Sdk) -> None:
    made = sdk.create("Newer", Q8, provider="AWS_BEDROCK", foundation="QWEN_LATEST", type="UNKNOWN")
    assert (made.provider, made.foundation, made.type) == ("AWS_BEDROCK", "QWEN_LATEST", "BALANCED")
    for agent, fields in (
        ("OpenAPI-Generator/4.4.0/python", {"foundation": "QWEN_LATEST"}),
        ("OpenAPI-Generator/2.7.0/python", {}),
        ("curl/8", {"provider": "AWS_BEDROCK", "foundation": "QWEN_LATEST"}),
    ):
        headers = {"user-agent": agent}
        listed = sdk.http.get("/models", headers=headers).json()["iterable"]
        (mine,) = (model for model in listed if model["id"] == made.id)
        assert {k: mine[k] for k in ("provider", "foundation") if k in mine} == fields
        assert sdk.http.get(f"/model/{made.id}", headers=headers).json() == mine


def test_paths_and_methods_do_not_get_in_each_others_way(sdk: Sdk) -> None:
    for method, path, status in (
        ("GET", "/model/update", 410),
        ("POST", "/model/nobody", 405),
        ("GET", "/models/create", 405),
        ("GET", "/models/unload", 405),
        ("POST", "/models/unload", 204),
        ("POST", "/models/unload/delete", 500),
    ):
        assert sdk.http.request(method, path).status_code == status, (method, path)


def test_ids_survive_a_restart(sdk: Sdk, core: CoreProcess) -> None:
    def ids() -> list[str]:
        listed: list[dict[str, Any]] = sdk.http.get("/models").json()["iterable"]
        return [model["id"] for model in listed]

    sdk.create("First", F16)
    sdk.create("Second", Q8)
    before = ids()
    core.restart()
    sdk.http.base_url = core.url
    assert ids() == before
