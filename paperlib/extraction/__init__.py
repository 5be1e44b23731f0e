"""From a network and images to a bank: one pass, on the GPU where there is one."""
