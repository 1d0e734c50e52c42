"""Plan and table to padded arrays, and back."""
