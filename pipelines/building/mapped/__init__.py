"""The carrier of a build on one machine: a table on disk that all workers map."""
