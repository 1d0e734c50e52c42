"""The build: scan, limits, plan, shards, commit. `pipelines.build` is its function."""
