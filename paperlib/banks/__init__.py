"""What is kept of a network: features, logits and labels in files that are whole or not there."""
