"""A look at a source without a build: sizes, limits, and plans compared."""
