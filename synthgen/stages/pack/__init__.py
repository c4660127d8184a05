"""Stage 5: kept pairs and their images become training samples in Parquet shards, and a dataset card that names them.

`todo` says which shards are to be written (the driver, from small tables), `write_shard` writes one (a worker), `publish`
removes what no commit names any more and writes the card, so that the plain glob `5-shards/data/*.parquet` is the data set.
"""

from synthgen.stages.pack.publish import publish
from synthgen.stages.pack.samples import PackContext, Shard
from synthgen.stages.pack.sharding import todo
from synthgen.stages.pack.worker import PackWorker, build, image_ids, write_shard

__all__ = ["PackContext", "PackWorker", "Shard", "build", "image_ids", "publish", "todo", "write_shard"]
