"""The command `paperlib`, also `python -m paperlib`: one subcommand for each thing it does."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import paperlib

# Name, the module that holds its arguments and its work, and one line of help
COMMANDS = {
    "extract": ("paperlib.extraction.command", "run a network over images: features into a bank"),
    "reproduce": ("reproduction.runner", "run the paper's notebooks, print the verdicts (a clone)"),
    "atlas": ("reproduction.atlas", "make a page on the filters of every training run (a clone)"),
}
MARK = Path("reproduction", "paths.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; exit status 0, or 2 on bad input and what the subcommand returns."""
    return run_command(argv, COMMANDS, "paperlib", "Which filters of a deep CNN decide a class.")


def run_command(
    argv: Sequence[str] | None, known: dict[str, tuple[str, str]], prog: str, description: str
) -> int:
    """Choose among subcommands, import the one, parse the rest of the line and run it."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"`{prog} COMMAND --help` tells what a command takes, with examples.",
    )
    parser.add_argument("--version", action="version", version=paperlib.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in known.items():
        commands.add_parser(name, help=text, add_help=False)
    chosen, rest = parser.parse_known_args(argv)
    where, text = known[chosen.command]
    try:
        if where.startswith("reproduction."):
            _find_clone()
        module = import_module(where)  # only now: the modules take seconds to import
    except (ImportError, FileNotFoundError) as error:
        parser.error(str(error))
    own = argparse.ArgumentParser(
        prog=f"{prog} {chosen.command}",
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(own)
    return module.run(own.parse_args(rest))


def _find_clone() -> None:
    """Put the clone that one works in, or that paperlib is installed from, on the path."""
    places = [Path(__file__).resolve().parents[1], Path.cwd(), *Path.cwd().parents]
    clone = next((folder for folder in places if (folder / MARK).is_file()), None)
    if clone is None:
        raise FileNotFoundError(
            "this command needs a clone of the repository, where the notebooks and their data "
            "are: change into one"
        )
    if str(clone) not in sys.path:
        sys.path.append(str(clone))


if __name__ == "__main__":
    raise SystemExit(main())
