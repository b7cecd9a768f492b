"""Cached stores: Zarr arrays written in whole shards, and the Parquet index that says what is done.

The format is specified in ``cache/README.md``.
"""
