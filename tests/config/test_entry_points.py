"""Entry points of installed packages: names that clash are refused with both owners, a broken file hides no other."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from synthgen.config import entry_points
from synthgen.config import pipeline as pipelines
from synthgen.engines.kinds import ENTRY_POINTS as ENGINES
from synthgen.engines.kinds import engine_kind
from synthgen.errors import Mistakes, UserMistake
from synthgen.ingest.sources.kinds import ENTRY_POINTS as SOURCES
from synthgen.ingest.sources.kinds import kind_of_object, kind_of_source
from synthgen.job import resolve
from synthgen.stages.generate.scoring import ENTRY_POINTS as SCORES
from synthgen.stages.generate.scoring import find_scorer
from synthgen.taggers import loader
from synthgen.taggers.kinds import ENTRY_POINTS as TAGGERS
from tests.fixtures.packages import InstallPackage
from tests.fixtures.workspace import write


def open_tagger(name: str) -> object:
    write(Path("taggers/other.yaml"), f"about: x\nengine: {name}\ntaxonomy: small\n")
    return loader.load("other")


# The group, what finds a name, what it is, a shipped one.
FINDERS: list[tuple[str, Callable[[str], object], str, str]] = [
    (ENGINES, engine_kind, "engine kind", "vllm"),
    (TAGGERS, open_tagger, "engine", "sidecar"),
    (SCORES, find_scorer, "score", "likelihood"),
    (SOURCES, lambda name: kind_of_source(f"{name}:x"), "source", "urls"),
]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(("group", "find", "what", "shipped"), FINDERS)
def test_a_name_that_two_packages_offer_is_refused_with_the_names_of_both(
    install_package: InstallPackage, group: str, find: Callable[[str], object], what: str, shipped: str
) -> None:
    install_package("one-package", "one_module", "", "toy = one_module:TOY", group)
    install_package("other-package", "other_module", "", "toy = other_module:TOY", group)
    with pytest.raises(UserMistake) as caught:
        find("toy")
    owners = "is offered by package one-package and by package other-package"
    assert str(caught.value).endswith(f"{what} 'toy' {owners}; rename one, or uninstall a package")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(("group", "find", "what", "shipped"), FINDERS)
def test_a_package_that_offers_a_shipped_name_is_refused_where_the_name_is_used(
    install_package: InstallPackage, group: str, find: Callable[[str], object], what: str, shipped: str
) -> None:
    install_package("one-package", "one_module", "", f"{shipped} = one_module:TOY", group)
    with pytest.raises(UserMistake) as caught:
        find(shipped)
    owners = "is offered by synthgen itself and by package one-package"
    assert str(caught.value).endswith(f"{what} '{shipped}' {owners}; rename it in the package, or uninstall it")


def test_objects_of_a_source_that_two_packages_offer_are_read_by_neither(install_package: InstallPackage) -> None:
    install_package("one-package", "one_module", "", "toy = one_module:TOY", SOURCES)
    install_package("other-package", "other_module", "", "toy = other_module:TOY", SOURCES)
    with pytest.raises(UserMistake, match=r"source 'toy' is offered by package one-package and"):
        kind_of_object("toy:x")


@pytest.mark.usefixtures("workspace")
def test_a_clash_of_names_that_a_pipeline_does_not_use_stops_nobody(install_package: InstallPackage) -> None:
    install_package("one-package", "one_module", "", "vllm = one_module:TOY", ENGINES)
    resolve.load(pipelines.read("small"))


@pytest.mark.usefixtures("workspace")
def test_a_clash_is_among_the_mistakes_of_a_pipeline(install_package: InstallPackage) -> None:
    install_package("one-package", "one_module", "", "scripted = one_module:TOY", ENGINES)
    clash = "engine kind 'scripted' is offered by synthgen itself and by package one-package"
    with pytest.raises(Mistakes) as caught:
        resolve.load(pipelines.read("small", ["tag.tagger=gone"]))
    assert len(caught.value.lines) == 2
    assert any(clash in line for line in caught.value.lines)


@pytest.mark.parametrize("text", [b"[synthgen.scores]\nno equals sign\n", b"[synthgen.scores]\na = \xff:b\n"])
def test_a_broken_file_of_another_package_is_named_and_hides_no_entry_point(
    install_package: InstallPackage, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    install_package("good-package", "good_module", "", "toy = good_module:TOY", SCORES)
    module = install_package("bad-package", "bad_module", "", "", SCORES)
    (module.parent / "bad_package-1.0.dist-info" / "entry_points.txt").write_bytes(text)
    entry_points.added.cache_clear()
    with caplog.at_level(logging.INFO, logger="synthgen"):
        assert list(entry_points.added(SCORES)) == ["toy"]
    assert caplog.messages[0].startswith("package bad-package: its entry points cannot be read and are left out (")
