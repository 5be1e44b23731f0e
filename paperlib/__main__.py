"""The command `paperlib`, also `python -m paperlib`: one subcommand for each thing it does."""

import argparse
from collections.abc import Sequence
from importlib import import_module

import paperlib

# Name, the module that holds its arguments and its work, and one line of help
COMMANDS = {
    "extract": ("paperlib.extraction.command", "run a network over images: features into a bank"),
    "train": ("paperlib.training.command", "train CIFAR ResNets from scratch"),
    "runs": ("paperlib.study.make_runs", "make the compact files of the training runs"),
    "atlas": ("paperlib.study.atlas", "make an interactive page on the filters of every run"),
    "imagenette": ("paperlib.study.imagenette", "make the banks of the small ImageNet networks"),
    "reproduce": ("paperlib.study.reproduce", "run the paper's notebooks, print the verdicts"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; exit status 0, or 2 on bad input and what the subcommand returns."""
    parser = argparse.ArgumentParser(
        prog="paperlib",
        description="Which filters of a deep CNN decide a class.",
        epilog="`paperlib COMMAND --help` tells what a command takes, with examples.",
    )
    parser.add_argument("--version", action="version", version=paperlib.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    known, rest = parser.parse_known_args(argv)
    where, text = COMMANDS[known.command]
    try:
        module = import_module(where)  # only now: the modules take seconds to import
    except (ImportError, FileNotFoundError) as error:
        parser.error(str(error))
    own = argparse.ArgumentParser(
        prog=f"paperlib {known.command}",
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(own)
    return module.run(own.parse_args(rest))


if __name__ == "__main__":
    raise SystemExit(main())
