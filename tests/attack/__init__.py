"""Attacks on what the package reads and writes; `make attack` runs their long form."""
