"""CIFAR ResNets from scratch, so that training itself can be varied."""
