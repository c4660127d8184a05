"""`synth doctor --pipeline`: whether the models of a pipeline are served, here, cached, or to be downloaded."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen.commands.doctor import Finding, models
from synthgen.config import library
from tests.fixtures.workspace import ROOT

DEAD = "http://127.0.0.1:9/v1"
Check = Callable[..., list[Finding]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """Return a server that serves `the-model` to whoever has the key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == "Bearer right"
            data = json.dumps({"object": "list", "data": [{"id": "the-model"}]} if is_known else {}).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    monkeypatch.setenv("OPENAI_API_KEY", "right")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Return a function that checks the models of the pipeline `everyday` with another model, engine or tagger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def examine(
        model: str, engine: dict[str, Any] | None = None, tagger: str = "everyday-sidecar", **sections: Any
    ) -> list[Finding]:
        pipeline = yaml.safe_load(library.find("pipeline", "everyday").read_text())
        pipeline["generate"] |= {"model": model, "engine": engine or {"kind": "vllm"}}
        pipeline["tag"]["tagger"] = tagger
        pipeline |= sections
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(pipeline))
        return list(models.models_of(str(tmp_path / "mine.yaml"), ["open_clip"]))

    return examine


def url_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/v1"


def endpoint(*urls: str) -> dict[str, Any]:
    return {"kind": "endpoint", "urls": list(urls)}


def test_a_model_that_is_served_is_found_with_its_address(check: Check, server: ThreadingHTTPServer) -> None:
    url = url_of(server)
    address, key = check("the-model", endpoint(url))
    assert (address.level, address.detail) == ("ok", f"{url} serves the-model")
    assert key.level == "ok" and key.detail == "the key's variable OPENAI_API_KEY is set (not read)"


def test_a_model_that_is_not_served_comes_with_the_nearest_name(check: Check, server: ThreadingHTTPServer) -> None:
    *_, missing = check("the-modell", endpoint(url_of(server)))
    assert missing.level == "missing" and missing.fix == "synth run … --model the-model"
    assert missing.detail == "the-modell: is not served there; served: the-model"


def test_the_model_of_a_scoring_pass_is_looked_for_where_its_own_engine_is(
    check: Check, server: ThreadingHTTPServer
) -> None:
    judge = {"model": "the-modell", "scores": ["answer"], "engine": endpoint(url_of(server))}
    absent, *_, missing = check("./absent", score={"second": judge})
    assert (absent.name, absent.level) == ("model", "missing")
    assert (missing.name, missing.level) == ("model of pass second", "missing")
    assert missing.fix == "synth run … --set score.second.model=the-model"


def test_a_dead_endpoint_is_missing_alone_and_a_note_among_others(check: Check, server: ThreadingHTTPServer) -> None:
    dead, _ = check("the-model", endpoint(DEAD))
    assert dead.level == "missing" and dead.detail.startswith(f"{DEAD}: does not answer: ")
    server_of = "-m vllm.entrypoints.openai.api_server --model"
    assert dead.fix.endswith(f"{server_of} FOLDER --served-model-name the-model --host 127.0.0.1 --port 9")
    of_hub, _ = check("org/the-model", endpoint(DEAD))
    assert of_hub.fix.endswith(f"{server_of} org/the-model --host 127.0.0.1 --port 9")
    alive, dead, _ = check("the-model", endpoint(url_of(server), DEAD))
    assert (alive.level, dead.level) == ("ok", "note")
    elsewhere, _ = check("the-model", endpoint("http://models.invalid/v1"))
    assert elsewhere.fix.startswith("curl -sS http://models.invalid/v1/models")


@pytest.mark.parametrize(("key", "state"), [("wrong", "is set"), ("", "is not set")])
def test_a_refused_key_comes_with_its_variable(
    check: Check, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, key: str, state: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    [refused] = check("the-model", endpoint(url_of(server)))
    assert refused.level == "missing" and refused.fix == "export OPENAI_API_KEY=…"
    assert refused.detail.startswith(f"{url_of(server)}: answers with an error: AuthenticationError: Error code: 401")
    assert f"OPENAI_API_KEY (key_env of the engine), which {state} here" in refused.detail


def test_a_model_folder_is_looked_into(check: Check, tmp_path: Path) -> None:
    whole, images = check(str(ROOT / "demo/models/nano-vlm"))
    assert whole.level == "ok" and "the folder is here" in whole.detail
    assert (images.level, images.detail) == ("ok", "an image takes up to 78 tokens of a context of 1,024")
    (tmp_path / "broken").mkdir()
    (broken,) = check("broken")
    assert broken.level == "missing" and "is a folder without config.json" in broken.detail
    (absent,) = check("./absent")
    assert (absent.level, absent.detail) == ("missing", "./absent: no such folder here")


def cache(tmp_path: Path, repository: str, *files: str) -> None:
    """Put files of a model into the local cache of the hub."""
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("a" * 40)
    for file in files:
        (snapshot / file).write_text("{}")


def test_a_hub_model_is_in_the_local_cache_or_missing_offline(check: Check, tmp_path: Path) -> None:
    (absent,) = check("organisation/model")
    assert absent.level == "missing" and absent.fix.startswith("hf download organisation/model ")
    assert absent.fix.endswith("or serve it elsewhere, docs/served_models.md")
    assert "not in the local cache, and not from the hub (HF_HUB_OFFLINE is set)" in absent.detail
    cache(tmp_path, "organisation/model", "config.json")
    assert check("organisation/model")[0].level == "missing", "a config alone is no model"
    cache(tmp_path, "organisation/model", "model.safetensors")
    (cached,) = check("organisation/model")
    assert (cached.level, cached.detail) == ("ok", "organisation/model: in the local cache")


def test_weights_that_the_hub_gives_are_noted_as_a_download(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    model, tagger = check("organisation/model", tagger="everyday-clip")
    assert (model.level, tagger.level) == ("note", "note")
    assert "it is downloaded on first use" in tagger.detail and tagger.name == "tagger everyday-clip"


def test_the_weights_of_a_tagger_are_in_the_local_cache_or_missing_offline(check: Check, tmp_path: Path) -> None:
    *_, absent = check("./x", tagger="everyday-clip")
    assert absent.level == "missing" and absent.fix.startswith("hf download timm/ViT-B-16-SigLIP2-384 ")
    assert absent.fix.endswith("or take a tagger without a model, such as everyday-sidecar")
    cache(tmp_path, "timm/ViT-B-16-SigLIP2-384", "open_clip_model.safetensors")
    *_, cached = check("./x", tagger="everyday-clip")
    assert (cached.level, cached.detail) == ("ok", "timm/ViT-B-16-SigLIP2-384: in the local cache")
