"""Run the notebooks through papermill and print the scorecard.

python -m paperlib.reproduce --tier embedded --jobs 2
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import papermill
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from paperlib.claims import scorecard, summary
from paperlib.paths import NOTEBOOKS, ROOT
from paperlib.tiers import CIFAR_ONLY, TIER_PARAMETERS, TIERS

PATHS = ("data", "bank_file", "images", "finetune_dataset")  # parameters that name one


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended; `error` is empty on success, else names the cell and the reason."""

    name: str
    path: Path
    seconds: float
    error: str = ""


def find_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks whose file names start with one of `names` ("01", "02_dec"); all for none.

    Raises ValueError for a name that fits no notebook.
    """
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in paths):
            known = ", ".join(path.stem for path in paths)
            raise ValueError(f"no notebook starts with {name!r}; choose from {known}")
    return [path for path in paths if not names or path.name.startswith(tuple(names))]


def parameters_for(
    notebooks: Sequence[Path], parameters: Mapping, defaults: Mapping = MappingProxyType({})
) -> dict[Path, dict]:
    """What to pass to each notebook: the parameters that its `parameters` cell declares.

    `defaults` are those of a tier, which no notebook need declare.  Raises ValueError for a
    parameter that none of the notebooks declares.
    """
    declared = {path: papermill.inspect_notebook(path) for path in notebooks}
    known = sorted({name for names in declared.values() for name in names})
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(f"unknown parameters {unknown}; choose from {', '.join(known)}")
    given = {**defaults, **parameters}
    return {
        path: {name: given[name] for name in names if name in given}
        for path, names in declared.items()
    }


def run_notebook(source: Path, folder: Path, parameters: Mapping) -> Outcome:
    """Execute one notebook; the result appears in `folder` whole, or as `<name>.failed.ipynb`."""
    started = time.monotonic()
    partial = folder / f".{source.stem}.partial.ipynb"
    finished, failed = folder / source.name, folder / f"{source.stem}.failed.ipynb"
    settings = {"cwd": source.parent, "progress_bar": False, "kernel_name": "python3"}
    # Errors only: every kernel else warns that it talks to us unencrypted, on the loopback
    settings["extra_arguments"] = ["--IPKernelApp.log_level=40"]
    try:
        papermill.execute_notebook(source, partial, parameters, **settings)
        os.replace(partial, finished)
        failed.unlink(missing_ok=True)
        return Outcome(source.stem, finished, time.monotonic() - started)
    except PapermillExecutionError as error:
        os.replace(partial, failed)
        reason = f"cell [{error.exec_count}]: {error.ename}: {error.evalue}"
        return Outcome(source.stem, failed, time.monotonic() - started, reason)
    finally:
        partial.unlink(missing_ok=True)  # left over where the run was interrupted


def run_all(work: Mapping[Path, Mapping], folder: Path, jobs: int) -> Iterator[Outcome]:
    """Execute several notebooks at once and yield each outcome as it comes.

    The scorecard runs last, because it reads what the others record.  A notebook whose process
    dies counts as failed; the others go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PAPERLIB_FIGURES"] = str(folder / "figures")
    threads = max(1, (os.cpu_count() or 1) // jobs)  # the kernels share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    scorecards = {path for path in work if path.stem.endswith("_scorecard")}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            for paths in (work.keys() - scorecards, scorecards):
                running = {
                    pool.submit(run_notebook, path, folder, work[path]): path
                    for path in sorted(paths)
                }
                for future in as_completed(running):
                    yield _outcome(future, running[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(future: Future, path: Path) -> Outcome:
    if error := future.exception():
        return Outcome(path.stem, path, 0.0, f"{type(error).__name__}: {error}")
    return future.result()


def _value(text: str) -> object:
    """A parameter as a number, true/false or list where it reads as JSON, else as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _absolute(text: str) -> str:
    """A path, or one behind a kind ("imagefolder:PATH"), from the root: notebooks run elsewhere."""
    kind, colon, path = text.rpartition(":")
    return f"{kind}{colon}{Path(path).expanduser().resolve()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paperlib.reproduce",
        description="Run the notebooks into build/<tier>/ and print the scorecard.",
    )
    parser.add_argument("notebooks", nargs="*", help="first characters of names, e.g. 01 (all)")
    parser.add_argument("--tier", choices=TIERS, default="embedded", help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at once (%(default)s)")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter for every notebook that has it",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all notebooks ran, 1 some failed, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.jobs < 1:
            raise ValueError(f"--jobs must be at least 1, not {arguments.jobs}")
        given = {name: _value(text) for name, text in arguments.parameter}
        given |= {name: _absolute(str(given[name])) for name in PATHS if given.get(name)}
        notebooks = find_notebooks(arguments.notebooks)
        if arguments.tier == "imagenet" and not arguments.notebooks:
            notebooks = [path for path in notebooks if not path.name.startswith(CIFAR_ONLY)]
        defaults = TIER_PARAMETERS.get(arguments.tier, {})
        if networks := given.get("networks"):  # what is drawn must be among what is loaded
            defaults = defaults | {"network": networks[0]}
        work = parameters_for(notebooks, {"tier": arguments.tier} | given, defaults)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = ROOT / "build" / arguments.tier
    failures = 0
    try:
        with tqdm(total=len(work), unit="notebook") as bar:
            for outcome in run_all(work, folder, arguments.jobs):
                failures += bool(outcome.error)
                state = f"FAILED, {outcome.error}" if outcome.error else "ok"
                bar.write(f"{outcome.name}: {state} ({outcome.seconds:.0f} s)")
                bar.update()
    except KeyboardInterrupt:
        print("interrupted; finished notebooks are whole", file=sys.stderr)
        return 130
    _print_scorecard(folder)
    return 1 if failures else 0


def _print_scorecard(folder: Path) -> None:
    print(f"\nNotebooks, figures and tables: {folder.relative_to(ROOT)}/")
    for record in scorecard(folder / "figures").to_dict("records"):
        print(f"\n{summary(record)}")


if __name__ == "__main__":
    raise SystemExit(main())
