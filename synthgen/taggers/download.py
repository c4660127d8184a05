"""Whether the weights of taggers can be had before anything is tagged: on this machine, or from the model hub."""

from collections.abc import Sequence

from synthgen.config import library
from synthgen.errors import UserMistake, listed
from synthgen.taggers.spec import TaggerFile, TaggerSpec


async def check_downloads(specs: Sequence[TaggerSpec]) -> None:
    """Raise UserMistake if the weights of a tagger are not here and cannot be downloaded."""
    for spec in specs:
        if fault := download_fault(spec):
            raise UserMistake(fault)


def may_download(spec: TaggerSpec) -> bool:
    """Return whether the tagger has a model that is not local; which one it is may take seconds to tell."""
    return type(spec.file).download is not TaggerFile.download and not (spec.folder or spec.weights)


def download_fault(spec: TaggerSpec) -> str | None:
    """Return that the weights of a tagger are not here and cannot be downloaded, with what to do; else None."""
    download = spec.file.download() if may_download(spec) else None
    reason = download.fault() if download else None
    if download is None or reason is None:
        return None
    without = [name for name in library.names("tagger") if _needs_no_model(name, spec.taxonomy.name)]
    sidecar = "with source.sidecar=.json or source.meta_columns"
    instead = f", or take tags that come along (tagger {listed(without, 3)}, {sidecar})" if without else ""
    return (
        f"tagger '{spec.name}': its weights are not in the local cache, and {download.name} cannot be had from the hub "
        f"({reason}); name a local folder or file as model or pretrained in a copy (`synth copy tagger {spec.name} "
        f"mine`){instead}"
    )


def _needs_no_model(name: str, taxonomy: str) -> bool:
    """Return whether a tagger reads tags of this taxonomy that come along with images."""
    values = library.load("tagger", name).values
    return bool(values.get("engine") == "sidecar" and values.get("taxonomy") == taxonomy)
