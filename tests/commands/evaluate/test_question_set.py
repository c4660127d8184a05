"""The questions of an evaluation are written once, with images that can be shown, and do not change under it."""

from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.evaluate.question import questions_in
from synthgen.commands.evaluate.question_set import PARTITION_IMAGES, QuestionSet, open_question_set, open_source
from synthgen.config.source import ImagesConfig
from synthgen.errors import Damaged, SettingsChanged, UserMistake
from synthgen.store import Folder, StageFolder
from tests.fixtures.evaluating import COLOURS, colour_row, write_questions

LIMITS = ImagesConfig()


def rows(count: int) -> list[dict[str, Any]]:
    return [colour_row(COLOURS[number % 4], number) for number in range(count)]


def opened(out: Path, source: Path, limit: int | None = None) -> QuestionSet:
    return open_question_set(Folder(str(out)), open_source(str(source)), limit, LIMITS)


def test_no_partition_has_a_single_image_where_there_are_more(tmp_path: Path) -> None:
    found = opened(tmp_path / "out", write_questions(tmp_path, rows(2 * PARTITION_IMAGES + 1)))
    sizes = [len(found.files(partition)) for partition in found.log.partitions]
    assert sizes == [PARTITION_IMAGES, PARTITION_IMAGES + 1]
    assert found.record["questions"] == len(list(found.all())) == 2 * PARTITION_IMAGES + 1


def test_an_image_that_no_model_could_be_shown_is_left_out_with_its_reason(tmp_path: Path) -> None:
    source = write_questions(tmp_path, [*rows(2), colour_row("broken", image="broken.png")])
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = opened(tmp_path / "out", source)
    assert found.record["left_out"] == {"not_an_image": 1}
    assert found.record["first"]["not_an_image"].startswith("questions.jsonl:3: ")
    assert found.record["questions"] == 2


def test_other_questions_need_another_folder(tmp_path: Path) -> None:
    opened(tmp_path / "out", write_questions(tmp_path, rows(2)))
    with pytest.raises(SettingsChanged, match="holds other questions: digest was"):
        opened(tmp_path / "out", write_questions(tmp_path, rows(3)))
    with pytest.raises(SettingsChanged, match="limit was None and is now 1"):
        opened(tmp_path / "out", write_questions(tmp_path, rows(2)), limit=1)


def test_the_limit_counts_images(tmp_path: Path) -> None:
    again = colour_row("red", 0, id="again", question="Is it red?", answer="yes")
    found = opened(tmp_path / "out", write_questions(tmp_path, [*rows(3), again]), limit=2)
    assert [question.question_id for question in found.all()] == ["red0", "again", "blue1"]


def test_a_first_start_that_was_killed_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = write_questions(tmp_path, rows(3 * PARTITION_IMAGES), "long.jsonl"), tmp_path
    commit = StageFolder.commit
    commits = list[str]()

    def killed(stage: StageFolder, *receipt: Any) -> Any:
        if len(commits) == 2:
            raise KeyboardInterrupt
        commits.append("one")
        return commit(stage, *receipt)

    with monkeypatch.context() as patch:
        patch.setattr(StageFolder, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path / "out", long)
    found = opened(tmp_path / "out", write_questions(short, rows(2)))
    assert [question.question_id for question in found.all()] == ["red0", "blue1"]


def test_a_damaged_image_is_noticed(tmp_path: Path) -> None:
    source = write_questions(tmp_path, rows(2))
    found = opened(tmp_path / "out", source)
    (file,) = (tmp_path / "out" / "questions" / "images").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Damaged, match="was damaged"):
        found.files("q00000")


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(UserMistake, match="holds other files; give a new or empty folder"):
        opened(tmp_path / "out", write_questions(tmp_path, rows(2)))
    assert not questions_in(Folder(str(tmp_path / "out"))).log().partitions


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.jsonl", "no such file or folder"), ("notes.txt", "is no question file; known forms: .jsonl")],
)
def test_what_is_no_source_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserMistake, match=message):
        open_source(str(tmp_path / name))


def test_images_can_be_in_another_folder_than_their_questions(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    source = write_questions(tmp_path / "pictures", rows(2)).rename(tmp_path / "questions.jsonl")
    found = open_question_set(
        Folder(str(tmp_path / "out")), open_source(str(source), str(tmp_path / "pictures")), None, LIMITS
    )
    assert found.record["questions"] == 2
    with pytest.raises(UserMistake, match="--images absent: no such folder"):
        open_source(str(source), "absent")


def test_a_source_without_any_question_says_why(tmp_path: Path) -> None:
    source = write_questions(tmp_path, [colour_row("red", answer=""), colour_row("red", question="")])
    with pytest.raises(UserMistake, match=r"has no question that can be asked \(1 no_answer, 1 no_question\)"):
        opened(tmp_path / "out", source)
