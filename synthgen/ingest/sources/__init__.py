"""Where the images come from: a folder, a glob, an object store, Parquet files.

Comes in: what the user named (config.Source). Goes out: a stream of what is there (`list_objects`), and later the bytes of
any part of it, in any process (`read_objects`). Listing never reads an image and never holds more than a page or a folder;
reading says for each object either its bytes or why there are none, and notices when it is no longer what was listed.
Nothing is ever opened but what the listing named: a path or URL inside the data is data.
"""

from synthgen.ingest.sources.fetch import GONE, ObjectRef, Unreadable, read_objects, ref_of
from synthgen.ingest.sources.listing import Listed, begun, list_objects, walks_into
from synthgen.store.remote import shown

__all__ = [
    "GONE",
    "Listed",
    "ObjectRef",
    "Unreadable",
    "begun",
    "list_objects",
    "read_objects",
    "ref_of",
    "shown",
    "walks_into",
]
