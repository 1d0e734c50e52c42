"""Where builds write: folders and object stores, their journal, owner and work folder."""
