"""`graph-pack train`: a small network on any data set of packs."""
