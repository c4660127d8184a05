"""Security: calls that the code never makes, secrets that pipelines must not hold, planted secrets that appear nowhere.

docs/security.md makes these promises; tests of URLs and of hostile images are in tests/ingest.
"""

import ast
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from synthgen import tables
from synthgen.config import pipeline
from synthgen.config.engine import EngineConfig
from synthgen.config.source import SourceConfig
from synthgen.config.templates import render
from tests.fixtures.runs import funnel_of, synth
from tests.fixtures.workspace import ROOT, make_images

pytestmark = pytest.mark.usefixtures("ray_running")

SOURCES = sorted(path for path in (ROOT / "synthgen").rglob("*.py") if "library" not in path.parts)
PLANTED = {
    "OPENAI_API_KEY": "sk-planted-openai-1f2e3d",
    "HF_TOKEN": "hf_planted_hub_4c5b6a",
    "AWS_SECRET_ACCESS_KEY": "planted/aws/secret/7a8b9c",
    "AWS_SESSION_TOKEN": "planted-session-0d1e2f",
    "RAY_AUTH_TOKEN": "planted-ray-3a4b5c",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a file with its dotted name."""
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
    refused_arguments = {("shell", "True"), ("trust_remote_code", "True"), ("allow_pickle", "True")}
    faults = []
    assert len(SOURCES) > 100
    for path in SOURCES:
        for name, call in calls(path):
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            where = f"{path.relative_to(ROOT)}:{call.lineno}: {name}"
            if name in refused or refused_arguments & set(arguments.items()):
                faults.append(where)
            if name == "torch.load" and arguments.get("weights_only") != "True":
                faults.append(f"{where} without weights_only")
            if name.endswith("Environment") and "Sandboxed" not in name:
                faults.append(f"{where} is not safe")
    assert not faults, "\n".join(faults)


def test_code_of_others_is_never_trusted_by_default() -> None:
    pipelines = sorted((ROOT / "pipelines").glob("*.yaml"))
    assert pipelines
    for path in pipelines:
        assert "trust_remote_code" not in path.read_text(encoding="utf-8")
    assert "trust_remote_code" not in json.dumps(EngineConfig().model_dump(mode="json"))


@pytest.mark.parametrize(
    "text", ["{{ type.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}", "{{ nothing }}"]
)
def test_templates_reach_only_their_variables(text: str) -> None:
    with pytest.raises(Exception, match=r"unsafe|undefined|security"):
        render(text, type="x")


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
def test_a_pipeline_with_a_secret_is_refused_before_it_is_stored(mistake: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="would be stored"):
        mistake()


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(Exception, match="would be stored") as error:
        pipeline.load("demo", ["generate.engine={kind: endpoint, urls: ['http://me:hushhush@host/v1']}"])
    assert "hushhush" not in str(error.value)


# --- the documented reasons -------------------------------------------------------------------------------------------


def documented(title: str) -> list[str]:
    """Return the reasons in the table below a heading of docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\|((?: `\w+`,?)+) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_every_reason_is_documented_and_no_other() -> None:
    assert documented("Why an image was not used") == list(tables.QUARANTINE_REASONS)
    assert documented("Why a question has no answer") == list(tables.FAILURE_REASONS)


# --- planted secrets --------------------------------------------------------------------------------------------------


@pytest.fixture
def telltale() -> Iterator[str]:
    """Yield the address of an endpoint that serves a model and repeats the caller's key in every error."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._reply(
                200, {"object": "list", "data": [{"id": "toy", "object": "model", "created": 0, "owned_by": "x"}]}
            )

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._reply(400, {"error": {"message": f"bad key {self.headers['Authorization']}"}})

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_planted_secrets_appear_nowhere(workspace: Path, telltale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    make_images(workspace / "photos", 6)
    settings = [
        f"generate.engine={{kind: endpoint, urls: ['{telltale}'], retries: 0}}",
        "generate.model=toy",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    done = synth("run", "photos", "--out", "out", "--pipeline", "small", *options, check=False)
    assert done.returncode == 1 and "nothing came out of generate" in done.stderr, done.stderr
    failed = funnel_of(workspace / "out", "generate").dropped
    assert failed == {"failed.call_failed": 18}, "the endpoint did see the key and did repeat it"
    printed = [done.stdout, done.stderr, synth("status", "out", "--json").stdout]
    printed += [synth("retry", "out", check=False).stderr]
    files = [path for path in (workspace / "out").rglob("*") if path.is_file()]
    assert len(files) > 10
    for secret in PLANTED.values():
        assert secret not in "".join(printed)
        leaks = [path for path in files if secret in text_of(path)]
        assert not leaks, f"{secret} in {leaks}"
    assert os.environ["OPENAI_API_KEY"] == PLANTED["OPENAI_API_KEY"]


def text_of(path: Path) -> str:
    """Return the whole text of a file; Parquet is compressed, so its rows are read."""
    if path.suffix != ".parquet":
        return path.read_text(encoding="utf-8", errors="replace")
    import pyarrow.parquet as pq

    return str(pq.read_table(path).to_pylist()) + str(pq.read_schema(path).metadata)
