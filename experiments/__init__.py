"""What makes the files under `data/`: training, fine-tuning, comparisons of rankings."""
