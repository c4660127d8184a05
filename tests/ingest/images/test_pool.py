"""The decoder pool gives the results of `decode`; an image that crashes, hangs or hoards memory costs itself only."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure, SynthError
from synthgen.ingest.images import Decoded, DecoderPool, child_process, decode
from synthgen.ingest.images import pool as pools
from synthgen.ingest.images.child_process import SLOTS
from synthgen.ingest.images.pool import peak_bytes
from tests.fixtures.images import LIMITS, PHOTOS, drawn, encoded, reason_of
from tests.fixtures.workspace import write


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool[int]]:
    with DecoderPool[int](LIMITS, 2) as decoder:
        yield decoder


def test_the_pool_gives_the_results_of_decode(pool: DecoderPool[int]) -> None:
    images = [
        drawn(),
        drawn("L"),
        Image.open(PHOTOS / "chelsea.png"),
        Image.open(PHOTOS / "retina.jpg").resize((2100, 1900)),
    ]
    datas = [
        encoded(image.convert("RGB"), image_format) for image in images for image_format in ("JPEG", "PNG", "WEBP")
    ]
    results = dict(pool.decode_many(enumerate(datas)))
    assert sorted(results) == list(range(12))
    for at, data in enumerate(datas):
        expected, result = decode(data, LIMITS), results[at]
        assert isinstance(result, Decoded)
        assert result.image.tobytes() == expected.image.tobytes()
        assert replace(result, image=expected.image) == expected


def test_callers_may_keep_and_change_results(pool: DecoderPool[int]) -> None:
    datas = [encoded(Image.new("RGB", (20, 20), (at, 0, 0)), "PNG") for at in range(30)]
    results = dict(pool.decode_many(enumerate(datas)))
    for at, result in results.items():
        assert isinstance(result, Decoded)
        assert result.image.getpixel((3, 3)) == (at, 0, 0)
        result.image.putpixel((3, 3), (0, 255, 0))
        assert result.image.getpixel((3, 3)) == (0, 255, 0)


def test_no_more_images_are_taken_than_the_slots_hold(pool: DecoderPool[int]) -> None:
    taken: list[int] = []

    def items() -> Iterator[tuple[int, bytes]]:
        for at in range(100):
            taken.append(at)
            yield at, encoded(drawn(), "PNG")

    yielded = 0
    for _ in pool.decode_many(items()):
        yielded += 1
        assert len(taken) - yielded <= 2 * SLOTS
    assert yielded == 100


def test_an_oversized_file_is_refused_before_it_is_copied() -> None:
    with DecoderPool[str](LIMITS.model_copy(update={"max_bytes": 1000}), 1) as decoder:
        results = dict(decoder.decode_many([("large", bytes(1001)), ("fine", encoded(drawn(), "PNG"))]))
    assert isinstance(results["large"], Failure) and results["large"].reason == "too_many_bytes"
    assert isinstance(results["fine"], Decoded)


def test_a_failure_among_the_files_is_passed_on(pool: DecoderPool[int]) -> None:
    failure = Failure("unreadable", "no longer there")
    results = dict(pool.decode_many([(1, failure), (2, encoded(drawn(), "PNG"))]))
    assert results[1] is failure
    assert isinstance(results[2], Decoded)


def test_a_child_imports_nothing_heavy() -> None:
    """It starts in a moment, and its memory limit counts on top of few modules."""
    program = (
        "import sys, synthgen.ingest.images.child\n"
        "heavy = {'pyarrow', 'pandas', 'pydantic', 'fsspec', 'httpcore', 'ray', 'torch', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_caller_that_stops_half_way_leaves_a_working_pool(pool: DecoderPool[int]) -> None:
    data = encoded(drawn(), "PNG")
    for _ in range(3):
        next(pool.decode_many((at, data) for at in range(20)))
    assert len(list(pool.decode_many((at, data) for at in range(20)))) == 20


def test_an_error_of_the_source_reaches_the_caller_and_leaves_a_working_pool(pool: DecoderPool[int]) -> None:
    def failing() -> Iterator[tuple[int, bytes]]:
        yield 1, encoded(drawn(), "PNG")
        raise ConnectionError("the bucket is gone")

    with pytest.raises(ConnectionError):
        list(pool.decode_many(failing()))
    assert len(list(pool.decode_many([(1, encoded(drawn(), "PNG"))]))) == 1


def test_killed_children_cost_nothing(pool: DecoderPool[int]) -> None:
    """No image is blamed for one SIGKILL: the next children decode the images in the slots."""
    photo = encoded(Image.open(PHOTOS / "retina.jpg"), "PNG")
    results: dict[int, Decoded | Failure] = {}
    for key, result in pool.decode_many((at, photo) for at in range(16)):
        results[key] = result
        if key in (0, 5):  # each child once: a second kill at the same image would blame it
            os.kill(pool.pids[key % 2], signal.SIGKILL)
    assert sorted(results) == list(range(16))
    assert all(isinstance(result, Decoded) for result in results.values())


@pytest.fixture
def odd_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module for the children to run that fails where the bytes tell it to."""
    (tmp_path / "odd_child.py").write_text(
        textwrap.dedent(
            """
            import ctypes, os, signal, time
            from synthgen.ingest.images import child
            honest = child.answer
            def answer(memory, at, length, limits):
                match memory[at : at + min(length, 6)]:
                    case b"crash!": ctypes.string_at(0)
                    case b"leave!": os._exit(3)
                    case b"hang!!":
                        while True: pass
                    case b"stop!!": os.kill(os.getpid(), signal.SIGSTOP)
                    case b"hoard!": hoard = [b"x" * 2**26 for _ in range(1000)]
                    case b"write!": os.write(os.open("forbidden", os.O_CREAT | os.O_WRONLY), b"x")
                return honest(memory, at, length, limits)
            child.answer = answer
            child.main()
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "odd_child"


def test_a_crash_and_an_exit_cost_one_image_each(
    odd_child: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fine = encoded(drawn(), "PNG")
    items = [
        ("crash", b"crash!"),
        ("a", fine),
        ("leave", b"leave!"),
        ("b", fine),
        ("c", fine),
        ("write", b"write!"),
        ("d", fine),
    ]
    with DecoderPool[str](LIMITS, 2, odd_child) as decoder:
        results = dict(decoder.decode_many(items))
    assert {key for key, result in results.items() if isinstance(result, Decoded)} == {"a", "b", "c", "d"}
    failures = {key: str(result) for key, result in results.items() if isinstance(result, Failure)}
    assert failures["crash"] == "decoder_died: 2 decoders died of it, the last by SIGSEGV"
    assert failures["leave"] == "decoder_died: 2 decoders died of it, the last by exit status 3"
    assert failures["write"].startswith("decoder_died")
    assert (tmp_path / "forbidden").stat().st_size == 0


def test_a_memory_bomb_costs_one_image_and_no_more_memory_than_predicted(odd_child: str) -> None:
    small = LIMITS.model_copy(update={"max_pixels": 1_000_000, "max_bytes": 2**20})
    with DecoderPool[str](small, 1, odd_child) as decoder:
        results = dict(decoder.decode_many([("hoard", b"hoard!"), ("a", encoded(drawn(), "PNG"))]))
        assert peak_bytes(small, 1) < 2**28
    assert isinstance(results["a"], Decoded)
    assert isinstance(results["hoard"], Failure) and results["hoard"].reason == "decoder_died"


def test_memory_that_is_refused_is_a_failure_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(drawn("P"), "PNG")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: bytearray(1 << 60))
    assert reason_of(data) == "decoder_died"


def test_a_hang_costs_one_image_and_its_seconds(odd_child: str) -> None:
    fine = encoded(drawn(), "PNG")
    quick = LIMITS.model_copy(update={"decode_seconds": 0.5})
    start = time.monotonic()
    with DecoderPool[str](quick, 1, odd_child) as decoder:
        results = dict(decoder.decode_many([("a", fine), ("hang", b"hang!!"), ("b", fine)]))
    assert isinstance(results["hang"], Failure) and results["hang"].reason == "decode_timeout"
    assert isinstance(results["a"], Decoded) and isinstance(results["b"], Decoded)
    assert time.monotonic() - start < 15


def test_a_child_whose_own_timer_does_not_run_is_ended(odd_child: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = LIMITS.model_copy(update={"decode_seconds": 0.2})
    with DecoderPool[str](quick, 1, odd_child) as decoder:
        results = dict(decoder.decode_many([("stopped", b"stop!!"), ("b", encoded(drawn(), "PNG"))]))
    assert isinstance(results["stopped"], Failure) and results["stopped"].reason == "decode_timeout"
    assert isinstance(results["b"], Decoded)


def wait_for_replies(decoder: DecoderPool[int]) -> None:
    """Wait until each busy child has an unread reply; where all its replies were read at once, none will come."""
    give_up = time.monotonic() + 5
    busy = [child for child in decoder._children if child.pending]
    while not all(map(decoder._has_reply, busy)) and time.monotonic() < give_up:
        time.sleep(0.01)


def test_a_slow_caller_costs_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = 0.0  # seconds, which only the clock knows of
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + paused)
    monkeypatch.setattr(pools, "time", clock)
    monkeypatch.setattr(child_process, "time", clock)
    fine = encoded(drawn(), "PNG")
    with DecoderPool[int](LIMITS, 2) as decoder:
        results = {}
        for at, (key, result) in enumerate(decoder.decode_many((key, fine) for key in range(12))):
            results[key] = result
            if at < 2:
                wait_for_replies(decoder)
                paused += 3600.0
    assert [key for key in sorted(results) if isinstance(results[key], Decoded)] == list(range(12))


def test_children_that_cannot_start_stop_the_job_with_their_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_child.py").write_text("raise RuntimeError('no Pillow here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        pytest.raises(SynthError, match="do not start: RuntimeError: no Pillow here"),
        DecoderPool[int](LIMITS, 1, "no_child") as decoder,
    ):
        list(decoder.decode_many([(1, b"x")]))


def test_children_end_with_their_parent() -> None:
    """Also when it is killed: a busy child has its timer, an idle one sees its input end."""
    script = """
        import sys, time
        from synthgen.config.source import ImagesConfig
        from synthgen.ingest.images import DecoderPool
        decoder = DecoderPool(ImagesConfig(), 2).__enter__()
        list(decoder.decode_many([(1, b"x"), (2, b"y")]))
        print(*decoder.pids, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_children_get_no_secrets(pool: DecoderPool[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    with DecoderPool[int](LIMITS, 1) as decoder:
        assert b"planted" not in Path(f"/proc/{decoder.pids[0]}/environ").read_bytes()


def test_the_predicted_peak_follows_the_limits() -> None:
    small = LIMITS.model_copy(update={"max_pixels": 1_000_000, "max_bytes": 2**20})
    assert 4 * peak_bytes(small, 1) == peak_bytes(small, 4) < peak_bytes(LIMITS, 4)


def test_the_pool_works_from_threads_and_beside_held_locks() -> None:
    """As inside an actor: other threads hold locks while children start."""
    lock, done = threading.Lock(), threading.Event()
    with lock:
        results: list[object] = []

        def work() -> None:
            with DecoderPool[int](LIMITS, 1) as decoder:
                results.extend(decoder.decode_many([(1, encoded(drawn(), "PNG"))]))
            done.set()

        threading.Thread(target=work, daemon=True).start()
        assert done.wait(60)
    assert len(results) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({}, 4),
    ],
)
def test_there_are_no_more_decoders_than_the_container_has_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    monkeypatch.setattr(pools, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    assert pools.cores() == expected


@pytest.mark.parametrize("kind", ["floats", "transparent with colours of its own", "transparent webp"])
def test_a_picture_of_the_largest_allowed_size_fits_the_memory_of_its_decoder(kind: str) -> None:
    side = 6000
    grey = Image.linear_gradient("L").resize((side, side))
    if kind == "floats":
        data = encoded(grey.convert("F"), "TIFF", compression="tiff_deflate")
    elif kind == "transparent webp":
        data = encoded(Image.merge("RGBA", [grey] * 4), "WEBP", method=0)
    else:
        points = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)  # of Display P3
        body = b"cHRM" + b"".join(point.to_bytes(4) for point in points)
        part = (32).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
        plain = encoded(Image.merge("RGBA", [grey] * 4), "PNG", compress_level=1)
        data = plain[:33] + part + plain[33:]
    limits = ImagesConfig(max_bytes=max(len(data), 2**20), max_pixels=side**2, decode_seconds=100)
    with DecoderPool[int](limits, processes=1) as pool:
        [(_, image)] = pool.decode_many([(0, data)])
    assert isinstance(image, Decoded), image
