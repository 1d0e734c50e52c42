"""From PyG objects to columns: what the attributes of all graphs are, and their values."""
