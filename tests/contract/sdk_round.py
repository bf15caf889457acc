"""All twelve operations with whichever `pieces_os_client` is installed here, as a client would.

Run as a program: `python sdk_round.py URL UNIQUE`. It prints one line of JSON that says what came
back. The test that starts it looks at that, so that one program drives every version of the SDK.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from pieces_os_client.api.model_api import ModelApi
from pieces_os_client.api.models_api import ModelsApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.exceptions import ApiException
from pieces_os_client.models.model_delete_cache_input import ModelDeleteCacheInput
from pieces_os_client.models.seeded_model import SeededModel

WAIT_S = 60.0


def state(model: Any) -> list[str]:
    """The flags of a model that are set."""
    flags = ("cloud", "custom", "downloaded", "downloading", "loaded")
    return [flag for flag in flags if getattr(model, flag)]


def progress(one: Any, model: Any) -> dict[str, Any]:
    """The progress of the model's download."""
    told: dict[str, Any] = one.model_specific_model_download_progress(model=model.id).to_dict()
    return told


def failure(call: Any, *arguments: Any, **named: Any) -> list[Any]:
    """The status and the words of a call that fails."""
    try:
        return [0, repr(call(*arguments, **named))]
    except ApiException as error:
        return [error.status, str(error.body)]


def drive(url: str, unique: str) -> dict[str, Any]:
    """Every operation once, most of them twice."""
    client = ApiClient(Configuration(host=url))
    one: Any = ModelApi(client)
    many: Any = ModelsApi(client)
    told: dict[str, Any] = {"agent": client.user_agent}
    told["listed"] = len(many.models_snapshot().iterable)
    seed = {
        "name": "Round",
        "version": "7",
        "created": {"value": "2026-01-02T03:04:05.678Z"},
        "cloud": False,
        "type": "BALANCED",
        "usage": "CODE_CONVERSATION",
        "unique": unique,
        "foundation": "LLAMA_3_8B",
        "parameters": 0.5,
    }
    model = many.models_create_new_model(seeded_model=SeededModel.from_dict(seed))
    told["created"] = [model.name, model.created.value.isoformat(), state(model)]
    told["duplicate"] = failure(
        many.models_create_new_model, seeded_model=SeededModel.from_dict(seed)
    )
    told["early"] = failure(one.model_specific_model_load, model=model.id)
    told["idle"] = progress(one, model)
    told["download"] = state(one.model_specific_model_download(model=model.id))
    deadline = time.monotonic() + WAIT_S
    while not one.models_specific_model_snapshot(model=model.id).downloaded:
        if time.monotonic() > deadline:
            raise TimeoutError("the download did not end")
        time.sleep(0.02)
    # The model is downloaded just before its download is completed.
    while (status := progress(one, model).get("status")) == "IN-PROGRESS":
        if time.monotonic() > deadline:
            raise TimeoutError(f"the download is still {status}")
        time.sleep(0.02)
    told["done"] = progress(one, model)
    told["again"] = state(one.model_specific_model_download(model=model.id))
    told["cancel"] = state(one.model_specific_model_download_cancel(model=model.id))
    told["load"] = state(one.model_specific_model_load(model=model.id))
    told["unload"] = state(one.model_specific_model_unload(model=model.id))
    one.model_specific_model_load(model=model.id)
    told["unload all"] = many.unload_models()
    model = one.models_specific_model_snapshot(model=model.id)
    told["unloaded"] = state(model)
    told["size"] = model.bytes.value
    model.name, model.parameters = "Round and round", None
    model = one.model_update(model=model)
    told["updated"] = [model.name, model.version, model.parameters, model.foundation, state(model)]
    told["catalog update"] = failure(one.model_update, model=many.models_snapshot().iterable[0])
    told["cleared"] = (
        many.models_delete_specific_model_cache(
            model=model.id, model_delete_cache_input=ModelDeleteCacheInput()
        ).model.id
        == model.id
    )
    told["files gone"] = state(one.models_specific_model_snapshot(model=model.id))
    told["deleted"] = many.models_delete_specific_model(model=model.id)
    told["gone"] = failure(one.models_specific_model_snapshot, model=model.id)
    told["listed at the end"] = len(many.models_snapshot().iterable)
    return told


if __name__ == "__main__":
    print(json.dumps(drive(*sys.argv[1:3]), default=str))
