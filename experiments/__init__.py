"""Long computations whose results lie in `data/`; each goes on where it was interrupted."""
