"""The job where workers share no memory: many machines, or an output that is no folder.

Blocks of graphs go through files of a store that all workers reach, from scan to shard; no engine moves data. Every
task writes whole files under names of its own, or none, so that it may be repeated, and run twice at a time. What the
driver holds grows with the number of distinct sizes and of blocks, not of graphs.
"""
