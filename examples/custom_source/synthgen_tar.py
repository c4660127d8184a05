"""The source `tar:FILE` or `tar:GLOB`: the images in tar archives, in the layout of WebDataset.

Members that follow one another and have the same name up to its first dot are one sample: `7.jpg`, `7.json`, `7.txt`.
The object in the JSON is the image's source_meta, and the text is its key `txt`. The version of an object is the place
of its member, so a read goes there at once, and members appended to an archive leave the others as they were.
"""

import itertools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import Listed, ObjectRef, SourceKind, one_by_one, spell_out_file

BESIDE_BYTES = 2**20


def list_archives(source: SourceConfig) -> Iterator[Listed]:
    """Return the images of all archives, in the order of their names."""
    typed = Path(spell_out_file(source.uri or "", Path.cwd()).removeprefix("tar:"))
    found = [typed] if typed.is_file() else sorted(Path("/").glob(str(typed).lstrip("/")))
    archives = [str(path) for path in found if path.is_file()]
    if not archives:
        raise UserMistake(f"{source.uri}: no such file; write tar:FILE or tar:GLOB")
    suffixes = tuple(suffix.lower() for suffix in source.suffixes)
    return (listed for path in archives for listed in list_archive(path, suffixes))


def list_archive(path: str, suffixes: tuple[str, ...]) -> Iterator[Listed]:
    """Yield the images of one archive; of these, only the headers are read."""
    try:
        with tarfile.open(path, "r:") as archive:
            for _, sample in itertools.groupby(members(path, archive), key_of):
                files = list(sample)
                images = [file for file in files if file.name.lower().endswith(suffixes)]
                meta = read_beside(archive, files) if images else None
                for image in images:
                    yield Listed(uri_of(path, image), version_of(image), None, image.size, meta)
    except tarfile.TarError as error:
        raise UserMistake(f"{path}: is not a tar archive that is whole and not compressed ({error})") from error


def members(path: str, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files of an archive, of which `tarfile` would otherwise keep every header in memory."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        if member.isfile():
            yield member
    with Path(path).open("rb") as file:  # `tarfile` stops at a damaged header as it does at the end
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"damaged at byte {archive.offset:,}")


def key_of(member: tarfile.TarInfo) -> str:
    """Return the name that the files of a sample share."""
    folder, slash, name = member.name.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def read_beside(archive: tarfile.TarFile, files: Iterable[tarfile.TarInfo]) -> str | None:
    """Return the JSON and the text beside an image as one JSON object; None without any."""
    meta: dict[str, object] = {}
    for file in files:
        kind = file.name.rpartition(".")[2].lower()
        if kind not in ("json", "txt"):
            continue
        try:
            if file.size > BESIDE_BYTES:
                raise ValueError(f"more than {BESIDE_BYTES:,} bytes")
            text = archive.extractfile(file).read().decode()  # type: ignore[union-attr]
            meta.update(json.loads(text) if kind == "json" else {"txt": text})
        except (TypeError, ValueError, RecursionError) as error:
            meta["sidecar_unreadable"] = f"{file.name}: {error}"
    return json.dumps(meta, ensure_ascii=True) if meta else None


def uri_of(path: str, member: tarfile.TarInfo) -> str:
    """Return the uri of a member, quoted: its name may be no text, or hold the `#` that begins it."""
    return f"tar:{path}#{quote(os.fsencode(member.name))}"


def version_of(member: tarfile.TarInfo) -> str:
    """Return where the member begins, its size and its time."""
    return f"{member.offset}:{member.size}:{int(member.mtime)}"


def read_member(ref: ObjectRef, max_bytes: int) -> bytes | Failure:
    """Return the bytes of a member; archives are read in many places at once, and opened for each."""
    path = ref.uri.removeprefix("tar:").rpartition("#")[0]
    offset, size, _ = map(int, ref.version.split(":"))
    if size > max_bytes:
        return Failure("too_many_bytes", f"{size:,} bytes; the limit is {max_bytes:,}")
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                member = archive.next()
                if member is None or (uri_of(path, member), version_of(member)) != (ref.uri, ref.version):
                    return Failure("changed", f"the archive no longer has this member at byte {offset:,}")
                return archive.extractfile(member).read()  # type: ignore[union-attr]
    except tarfile.TarError as error:
        return Failure("unreadable", str(error))


def shown(uri: str, root: str) -> str:
    """Return the name of the archive and of the member, without the folder of the archive."""
    path, _, member = uri.removeprefix("tar:").rpartition("#")
    return f"{Path(path).name}#{member}"


TAR = SourceKind("tar", list_archives, one_by_one(read_member), spell_out=spell_out_file, shown=shown)
