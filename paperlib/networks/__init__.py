"""Networks and images by name, weights that are checked, and the head of any classifier."""
