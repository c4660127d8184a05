"""Sources of images: a folder, a glob, an object store, Parquet files, a list of URLs.

`list_objects` streams what a source holds; it reads no image and holds no more than a page or a folder. `read_objects`
fetches the bytes of any listed objects later, in any process; it says why an object has no bytes, and notices when an
object is no longer the one that was listed. Nothing is opened that the listing did not name: a path or URL inside the
data is data.
"""

from synthgen.ingest.sources.fetch import GONE, ObjectRef, read_objects, ref_of
from synthgen.ingest.sources.listing import Listed, is_inside_source, list_objects, open_listing
from synthgen.store.remote import display_uri

__all__ = [
    "GONE",
    "Listed",
    "ObjectRef",
    "display_uri",
    "is_inside_source",
    "list_objects",
    "open_listing",
    "read_objects",
    "ref_of",
]
