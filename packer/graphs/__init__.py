"""What a graph is made of: axes, fields, sizes, and many graphs as a table of columns."""
