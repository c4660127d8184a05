"""Stage 5: kept pairs and their images become training samples in Parquet shards, and a dataset card that names them.

`todo` says which shards are to be written (the driver, from small tables), `write_shard` writes one (a worker), `publish`
removes what no commit names any more and writes the card, so that the plain glob `5-shards/data/*.parquet` is the data set.
"""

from synthgen.pack.cutting import todo
from synthgen.pack.publish import publish
from synthgen.pack.shards import Shard, Terms
from synthgen.pack.worker import PackWorker, build, image_ids, write_shard

__all__ = ["PackWorker", "Shard", "Terms", "build", "image_ids", "publish", "todo", "write_shard"]
