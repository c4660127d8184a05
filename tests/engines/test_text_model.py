"""A model that embeds texts is found by its name, and reached over HTTP where endpoints serve it."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from synthgen.config import library
from synthgen.config.deduplication import QuestionMeaningsConfig, SemanticConfig
from synthgen.engines import text_model
from synthgen.engines.text_model import TextModel, find_text_model
from synthgen.errors import ModelUnavailable, UserMistake

QUESTIONS = QuestionMeaningsConfig(cosine=0.9)
NANO = library.shipped_folder() / "demo/models/nano-clip"


class Server:
    """Embeds a text as its number of characters and of words."""

    def __init__(self) -> None:
        self.calls, self.keys, self.status, self.short = list[list[str]](), set[str](), 200, False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.calls.append(body["input"])
                owner.keys.add(self.headers["Authorization"])
                data = json.dumps(owner.reply(body["input"])).encode()
                self.send_response(owner.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def reply(self, texts: list[str]) -> dict[str, Any]:
        if self.status != 200:
            return {"error": {"message": "no such model"}}
        rows = [
            {"object": "embedding", "index": number, "embedding": [len(text), len(text.split())]}
            for number, text in enumerate(texts)
        ]
        return {"object": "list", "model": "m", "data": rows[1 if self.short else 0 :][::-1]}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def served(*servers: Server) -> TextModel:
    urls = tuple(server.url for server in servers)
    return find_text_model("select.semantic", SemanticConfig(model="m", urls=urls, questions=QUESTIONS), Path())


def test_endpoints_embed_texts_in_their_order_and_get_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    other = Server()
    texts = [f"{'a' * number} b" for number in range(1, 200)]
    found = served(server, other).open()(texts)
    other.close()
    assert found.tolist() == [[len(text), 2] for text in texts]
    assert server.calls and other.calls and server.keys == {"Bearer sesame"}


def test_a_long_text_is_the_mean_of_its_windows(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_model, "WINDOW", 2)
    found = served(server).open()(["aa bb cc", "图中的主"])
    assert found.tolist() == [[3.5, 1.5], [2.0, 1.0]]
    assert sorted(text for call in server.calls for text in call) == ["aa bb", "cc", "图中", "的主"]


def test_an_endpoint_that_refuses_or_answers_with_too_little_is_one_line(server: Server) -> None:
    server.short = True
    with pytest.raises(ModelUnavailable, match=r"2 texts came back as numbers of the shape \(1, 2\)"):
        served(server).open()(["a", "b"])
    server.status = 404
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:.* does not embed texts with m: .*no such model"):
        served(server).open()(["a"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "no/such"}, r"select.semantic.model: no/such: no such folder"),
        ({"model": "empty"}, "is a folder without open_clip_config.json"),
        ({"model": "ViT-B-32"}, "select.semantic.pretrained: is missing"),
        ({"model": str(NANO), "pretrained": "laion"}, "is a folder, which has its weights"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(tmp_path: Path, given: dict[str, str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserMistake, match=message):
        find_text_model("select.semantic", SemanticConfig(questions=QUESTIONS, **given), tmp_path)  # type: ignore[arg-type]


def test_the_files_of_a_folder_tell_its_embeddings_from_others_and_not_its_place(tmp_path: Path) -> None:
    for name, data in (("one", "{}"), ("two", "{}"), ("three", '{"a": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "open_clip_config.json").write_text(data)
    one, two, three = (
        find_text_model("select.semantic", SemanticConfig(model=name, questions=QUESTIONS), tmp_path).named
        for name in ("one", "two", "three")
    )
    assert one == two != three


def test_the_text_tower_of_a_tagger_embeds_texts() -> None:
    model = find_text_model("select.semantic", SemanticConfig(model=str(NANO), questions=QUESTIONS), Path())
    red, same, blue = model.open()(["a red circle", "a red circle", "a blue square"])
    assert np.allclose(red, same) and red @ blue < 0.9 * (red @ red)
