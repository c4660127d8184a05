"""No way in and no secret out: what code never does, what pipelines may not say, and where planted secrets must not turn up.

docs/security.md is the promise; tests of URLs and of hostile images stand with their modules under tests/ingest.
"""

import ast
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from synthgen import tables
from synthgen.config import pipeline, prompt_pack
from synthgen.config.pipeline import EngineConfig, SourceConfig
from synthgen.job import funnel as status
from synthgen.store import Folder
from tests.fixtures.runs import synth
from tests.fixtures.workspace import ROOT, make_images

SOURCES = sorted(path for path in (ROOT / "synthgen").rglob("*.py") if "library" not in path.parts)
PLANTED = {
    "OPENAI_API_KEY": "sk-planted-openai-1f2e3d",
    "HF_TOKEN": "hf_planted_hub_4c5b6a",
    "AWS_SECRET_ACCESS_KEY": "planted/aws/secret/7a8b9c",
    "AWS_SESSION_TOKEN": "planted-session-0d1e2f",
    "RAY_AUTH_TOKEN": "planted-ray-3a4b5c",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file with its dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_nothing_is_unpickled_and_no_text_is_run() -> None:
    refused = {
        "eval",
        "exec",
        "compile",
        "os.system",
        "yaml.load",
        "yaml.unsafe_load",
        "marshal.loads",
        "shelve.open",
        "joblib.load",
    }
    refused |= {"pickle.load", "pickle.loads", "dill.loads", "cloudpickle.loads", "pd.read_pickle"}
    told = {"shell": "True", "trust_remote_code": "True", "allow_pickle": "True"}
    faults = []
    for path in SOURCES:
        for name, call in calls(path):
            given = {one.arg: ast.unparse(one.value) for one in call.keywords}
            where = f"{path.relative_to(ROOT)}:{call.lineno}: {name}"
            if name in refused or any(given.get(key) == value for key, value in told.items()):
                faults.append(where)
            if name == "torch.load" and given.get("weights_only") != "True":
                faults.append(f"{where} without weights_only")
            if name.endswith("Environment") and "Sandboxed" not in name:
                faults.append(f"{where} is not safe")
    assert not faults, "\n".join(faults)


def test_code_of_others_is_never_trusted_by_default() -> None:
    for path in sorted((ROOT / "pipelines").glob("*.yaml")):
        assert "trust_remote_code" not in path.read_text(encoding="utf-8")
    assert "trust_remote_code" not in json.dumps(EngineConfig().model_dump(mode="json"))


@pytest.mark.parametrize(
    "text", ["{{ type.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}", "{{ nothing }}"]
)
def test_templates_reach_nothing_but_what_they_are_given(text: str) -> None:
    with pytest.raises(Exception, match=r"unsafe|undefined|security"):
        prompt_pack.render(text, type="x")


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: SourceConfig(uri="s3://AKIA:secret@bucket/photos"),
        lambda: EngineConfig(kind="endpoint", urls=("http://me:secret@host/v1",)),
        lambda: EngineConfig(kind="endpoint", urls=("http://host/v1?api_key=secret",)),
        lambda: EngineConfig(environment={"HF_TOKEN": "secret"}),
        lambda: EngineConfig(environment={"AWS_SECRET_ACCESS_KEY": "secret"}),
    ],
)
def test_a_pipeline_that_holds_a_secret_is_refused_before_it_is_stored(mistake: object) -> None:
    with pytest.raises(ValueError, match="would be stored"):
        mistake()  # type: ignore[operator]


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(Exception, match="would be stored") as error:
        pipeline.load("demo", ["generate.engine.kind=endpoint", "generate.engine.urls=['http://me:hushhush@host/v1']"])
    assert "hushhush" not in str(error.value)


# --- the documented reasons -------------------------------------------------------------------------------------------


def documented(title: str) -> list[str]:
    """The reasons in the table below a heading of docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_reason_is_documented_and_no_other() -> None:
    assert documented("Why an image was not used") == list(tables.QUARANTINE_REASONS)
    assert documented("Why a question has no answer") == list(tables.FAILURE_REASONS)


# --- planted secrets --------------------------------------------------------------------------------------------------


@pytest.fixture
def telltale() -> Iterator[str]:
    """An endpoint that serves a model, and repeats the caller's key in every error."""

    class Handler(BaseHTTPRequestHandler):
        def _say(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._say(
                200, {"object": "list", "data": [{"id": "toy", "object": "model", "created": 0, "owned_by": "x"}]}
            )

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(400, {"error": {"message": f"bad key {self.headers['Authorization']}"}})

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


def test_planted_secrets_turn_up_nowhere(workspace: Path, telltale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    make_images(workspace / "photos", 6)
    given = [
        "generate.engine.kind=endpoint",
        f"generate.engine.urls=['{telltale}']",
        "generate.model=toy",
        "generate.engine.retries=0",
    ]
    options = [word for one in given for word in ("--set", one)]
    done = synth("run", "photos", "--out", "out", "--pipeline", "small", *options, check=False)
    assert done.returncode == 0, done.stderr
    funnel = next(one for one in status.funnels(Folder(str(workspace / "out"))) if one.stage == "generate")
    assert funnel.fell == {"failed.call_failed": 18}, "the endpoint did see the key and did repeat it"
    told = (
        done.stdout + done.stderr + synth("status", "out", "--json").stdout + synth("retry", "out", check=False).stderr
    )
    for secret in PLANTED.values():
        assert secret not in told
        leaks = [path for path in (workspace / "out").rglob("*") if path.is_file() and secret in texts(path)]
        assert not leaks, f"{secret} in {leaks}"
    assert os.environ["OPENAI_API_KEY"] == PLANTED["OPENAI_API_KEY"]


def texts(path: Path) -> str:
    """All that a file says; Parquet is compressed, so its rows are read."""
    if path.suffix != ".parquet":
        return path.read_text(encoding="utf-8", errors="replace")
    import pyarrow.parquet as pq

    return str(pq.read_table(path).to_pylist()) + str(pq.read_schema(path).metadata)
