"""What the claims are about, as numbers: one file a metric; tensors in, numbers out."""
