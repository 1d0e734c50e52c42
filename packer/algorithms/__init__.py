"""Bin packing on integer vectors, one algorithm a file; nothing here knows graphs."""
