"""Many samples over many processes and machines: cut into shards, run through joblib, put together in order.

    plan       shards: ranges of samples on a grain, stored ones first
    job        what is done with a shard (run, check, measure, calibrate) and how its results are put together
    workers    where: processes of this machine, Dask or Ray
    pool       shards through joblib; a worker that dies costs its shard a second try
    partial    a file per finished shard, so that a second call goes on
    trees      results as bytes: JSON and integers in the smallest type, nothing that can run

Integers are added exactly and floats block by block in the order of the samples, so that no result depends on the
number of workers, the size of the shards or the order in which they end.
"""
