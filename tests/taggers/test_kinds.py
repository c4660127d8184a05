"""The table of tagger kinds: a new kind is one module and one entry, in synthgen or in another package."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, cast

import pytest
from PIL import Image

from synthgen import taggers
from synthgen.commands import doctor, preview
from synthgen.commands.doctor.probe import Probe
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Taxonomy, Tree
from synthgen.errors import Mistakes
from synthgen.stages import tag
from synthgen.taggers import TAGGER_KINDS, Resources, Tagged, TaggerFile, TaggerSpec
from synthgen.taggers.kinds import ENTRY_POINTS
from tests.fixtures.packages import InstallPackage
from tests.fixtures.tagging import TaggedFolder, write_tagger
from tests.fixtures.workspace import make_images, write

pytestmark = pytest.mark.usefixtures("workspace")


class ConstantTaggerFile(TaggerFile):
    """A toy kind: every image that has source_meta has one tag."""

    engine: Literal["constant"]
    path: str
    score: float = 0.75

    works_from: ClassVar[taggers.WorksFrom] = "source_meta"

    def open(self, spec: TaggerSpec) -> "ConstantTagger":
        return ConstantTagger(spec, self)

    def read_taxonomy(self, taxonomy: Taxonomy) -> Any:
        return [self.path]

    def resources(self) -> Resources:
        return Resources(cpus=3, gpus=0.5)

    def packages(self) -> tuple[str, ...]:
        return ("constants",)

    @classmethod
    def unknown_tags(cls, document: Document, tree: Tree) -> list[tuple[KeyPath, str]]:
        return [(place, path) for place, path in document.names_at(("path",)).items() if path not in tree.nodes]

    def threshold_of(self, path: str) -> float:
        return 0.5


class ConstantTagger:
    def __init__(self, spec: TaggerSpec, file: ConstantTaggerFile) -> None:
        self._tag = {"path": file.path, "score": file.score, "tagger": spec.name}

    def prepare(self, image: Image.Image, source_meta: str | None) -> str | None:
        return source_meta

    def tag(self, inputs: Sequence[str | None]) -> list[Tagged]:
        return [Tagged([self._tag] if source_meta else []) for source_meta in inputs]

    def tag_source_meta(self, source_metas: Sequence[str | None]) -> list[Tagged]:
        return self.tag(source_metas)

    def close(self) -> None:
        pass


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the toy kind to the table, and nothing anywhere else."""
    monkeypatch.setitem(TAGGER_KINDS, "constant", ConstantTaggerFile)


def constant(path: str = "animal/cat", more: str = "") -> TaggerSpec:
    return write_tagger(f"engine: constant\npath: {path}\n{more}", "toy")


# --- a new kind in the table -------------------------------------------------------------------------------------


def test_a_file_of_a_new_kind_is_checked_as_that_kind(toy: None) -> None:
    assert isinstance(constant().file, ConstantTaggerFile)
    with pytest.raises(Mistakes, match=r"toy\.yaml:5: unknown key 'threshold': "):
        constant(more="threshold: 0.5\n")
    with pytest.raises(Mistakes, match=r"toy\.yaml:4: no tag of 'small' is 'animal/kat': did you mean 'animal/cat'"):
        constant("animal/kat")


def test_the_fingerprint_of_a_new_kind_follows_its_settings(toy: None) -> None:
    assert constant().fingerprint == constant().fingerprint
    assert len({constant().fingerprint, constant("document").fingerprint, constant(more="score: 1\n").fingerprint}) == 3


def test_a_worker_gets_what_a_new_kind_needs(toy: None, workspace: Path, tmp_path: Path) -> None:
    make_images(workspace / "photos", 1)
    assert tag.resources(TaggedFolder(tmp_path / "out").context(constant()), None) == (3, 0.5)


def test_a_new_kind_tags_and_reads_no_image_after_an_edit(toy: None, workspace: Path, tmp_path: Path) -> None:
    photos = make_images(workspace / "photos", 2)
    folder = TaggedFolder(tmp_path / "out")
    assert folder.tag(constant()).counts == {"tagged": 2}
    for photo in photos:
        photo.unlink()
    folder.tag(constant("document"))
    assert [[tag["path"] for tag in row["tags"]] for row in folder.rows("tags/toy")] == [["document"]] * 2


def test_a_preview_shows_the_thresholds_of_a_new_kind(toy: None) -> None:
    job = cast(Any, SimpleNamespace(definitions=SimpleNamespace(taggers=(constant(),))))
    task = preview.PreviewTask(job, Image.new("RGB", (16, 16)), "0", 16, 16, "{}")
    tagged = preview._find_tags(task)
    assert list(preview._tag_lines(task, tagged))[2:] == ["  0.75  animal/cat  (threshold 0.50)"]


def test_doctor_looks_for_the_packages_of_a_new_kind(
    toy: None, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(names: Sequence[str]) -> list[Probe]:
        return [Probe(name, error="absent", is_absent=True) for name in names]

    monkeypatch.setattr(doctor.command, "probe", absent)
    assert "constants" not in {finding.name for finding in doctor.examine("small")}
    constant()
    path = workspace / "pipelines/small.yaml"
    write(path, path.read_text().replace("tagger: beside", "tagger: toy"))
    (finding,) = [finding for finding in doctor.examine("small") if finding.name == "constants"]
    assert finding.level == "missing" and finding.detail == "is not installed; needed by a tagger of the pipeline"


# --- the engine of a file ----------------------------------------------------------------------------------------


def test_an_unknown_engine_is_reported_with_the_known_ones() -> None:
    known = rf"mine\.yaml:3: no engine is called 'rules': known: {', '.join(sorted(TAGGER_KINDS))}"
    with pytest.raises(Mistakes, match=known):
        write_tagger("engine: rules\nmodel: x\n")


def test_all_mistakes_of_a_file_without_an_engine_are_reported() -> None:
    with pytest.raises(Mistakes) as caught:
        write_tagger("threshold: 30\nthresholds: {documnt/**: 0.5}\n")
    lines = str(caught.value).splitlines()
    assert any(line.endswith("engine is missing") for line in lines)
    assert any("threshold: must be less than or equal to 1" in line for line in lines)
    assert any("no tag of 'small' is 'documnt/**'" in line for line in lines)


def test_an_unknown_taxonomy_is_reported() -> None:
    write(Path("taggers/mine.yaml"), "about: x\nengine: sidecar\ntaxonomy: smal\n")
    with pytest.raises(Mistakes, match="taxonomy 'smal' is unknown"):
        taggers.load("mine")


# --- a new kind in another package -------------------------------------------------------------------------------

PACKAGE = """
from tests.taggers.test_kinds import ConstantTaggerFile

class NotAKind:
    pass
"""


@pytest.fixture
def install(install_package: InstallPackage) -> Callable[[str], Path]:
    """Return a function that installs a package with an entry point `constant` for the given object."""
    return lambda value: install_package(
        "constant-tagger", "constant_tagger", PACKAGE, f"constant = {value}", ENTRY_POINTS
    )


def test_another_package_can_add_a_kind(install: Callable[[str], Path], workspace: Path, tmp_path: Path) -> None:
    install("constant_tagger:ConstantTaggerFile")
    make_images(workspace / "photos", 2)
    folder = TaggedFolder(tmp_path / "out")
    assert folder.tag(constant()).counts == {"tagged": 2}
    assert [[tag["path"] for tag in row["tags"]] for row in folder.rows("tags/toy")] == [["animal/cat"]] * 2


def test_a_kind_of_another_package_is_named_beside_the_known_engines(install: Callable[[str], Path]) -> None:
    install("constant_tagger:ConstantTaggerFile")
    with pytest.raises(Mistakes, match="no engine is called 'constnt': did you mean 'constant'"):
        write_tagger("engine: constnt\n")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("no_such_module:File", "does not load: ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "constant_tagger:Missing",
            "does not load: AttributeError: module 'constant_tagger' has no attribute 'Missing'",
        ),
        ("constant_tagger:NotAKind", "is not a TaggerFile"),
    ],
)
def test_a_package_whose_kind_does_not_load_is_one_line(install: Callable[[str], Path], value: str, fault: str) -> None:
    install(value)
    with pytest.raises(Mistakes) as caught:
        constant()
    source = f"engine 'constant' of package constant-tagger ({value}) "
    assert str(caught.value).endswith(f"toy.yaml:3: {source}{fault}; fix or uninstall the package")
    assert "\n" not in str(caught.value)
