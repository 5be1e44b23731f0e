"""The head in which each class reads only its own filters: cut, mended, searched, and its cost."""
