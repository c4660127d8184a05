"""The errors of stores: which are tried again, and the one line that each becomes."""

import pytest

from synthgen.errors import SynthError, UserMistake
from synthgen.store.remote import store_errors, with_retries


class HttpError(Exception):
    """As gcsfs raises it: the status as a number or as text."""

    def __init__(self, code: object) -> None:
        super().__init__(f"Anonymous caller does not have access\nto the bucket, {code}")
        self.code = code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (HttpError(401), "gs://b/photos: no credentials found; set those of the store in the environment"),
        (HttpError("401"), "gs://b/photos: no credentials found; set those of the store in the environment"),
        (HttpError(403), "gs://b/photos: access refused by gs://b; the credentials in use may not list it"),
        (OSError("Forbidden: b/photos\nno"), "gs://b/photos: access refused by gs://b; the credentials in use"),
        (PermissionError(), "gs://b/photos: access refused by gs://b; the credentials in use may not list it"),
        (FileNotFoundError(), "gs://b/photos: no such bucket or prefix"),
    ],
)
def test_a_store_that_refuses_is_asked_once_and_told_in_one_line(error: Exception, line: str) -> None:
    calls: list[int] = []

    def refuse() -> None:
        calls.append(1)
        raise error

    with pytest.raises(UserMistake) as caught, store_errors("gs://b/photos", "listing"):
        with_retries(refuse)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value) and len(calls) == 1


def test_a_store_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise HttpError(503)

    with pytest.raises(SynthError, match=r"^gs://b: listing failed: HttpError: "), store_errors("gs://b", "listing"):
        with_retries(fail)
    assert len(calls) == 4
