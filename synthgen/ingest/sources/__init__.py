"""Sources of images: a folder, a glob, an object store, Parquet files, a list of URLs, and the kinds that packages add.

`list_objects` streams what a source holds, `list_source` also what its listing leaves out; it reads no image and holds
no more than a page or a folder. `read_objects` fetches the bytes of any listed objects later, in any process; it says
why an object has no bytes, and notices when an object is no longer the one that was listed. Nothing is opened that the
listing did not name: a path or URL inside the data is data.
"""

from synthgen.ingest.sources.fetch import GONE, read_objects
from synthgen.ingest.sources.kinds import SourceKind, kind_of_object, kind_of_source, spell_out_file
from synthgen.ingest.sources.listing import is_inside_source, list_objects, list_source, open_listing, spell_out_uri
from synthgen.ingest.sources.objects import Item, LeftOut, Listed, ObjectRef, left_out_text, one_by_one, ref_of
from synthgen.store.remote import display_uri

__all__ = [
    "GONE",
    "Item",
    "LeftOut",
    "Listed",
    "ObjectRef",
    "SourceKind",
    "display_uri",
    "is_inside_source",
    "kind_of_object",
    "kind_of_source",
    "left_out_text",
    "list_objects",
    "list_source",
    "one_by_one",
    "open_listing",
    "read_objects",
    "ref_of",
    "spell_out_file",
    "spell_out_uri",
]
