"""`python -m experiments COMMAND`: what makes the files under `data/`, one subcommand for each."""

from collections.abc import Sequence

from paperlib.__main__ import run_command

COMMANDS = {
    "train": ("experiments.training.command", "train CIFAR ResNets from scratch"),
    "runs": ("experiments.runs", "make the compact files of the training runs"),
    "imagenette": ("experiments.imagenette", "make the banks of the small ImageNet networks"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand, as `paperlib` does."""
    return run_command(argv, COMMANDS, "python -m experiments", "Make the files under data/ anew.")


if __name__ == "__main__":
    raise SystemExit(main())
