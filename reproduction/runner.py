"""`paperlib reproduce`: run the notebooks through papermill and print the verdicts."""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from paperlib.extraction.cpus import usable_cpus
from reproduction.claims import CLAIMS, scorecard, summary
from reproduction.parameters import parameters_for
from reproduction.paths import NOTEBOOKS, ROOT
from reproduction.tiers import CIFAR_ONLY, TIER_PARAMETERS, TIERS

if TYPE_CHECKING:  # Windows has no fork server
    from multiprocessing.context import ForkServerContext, SpawnContext

EXAMPLES = """examples:
  paperlib reproduce                              all notebooks on the embedded banks
  paperlib reproduce 01 02 --jobs 2 -p seed 1     two of them, with another seed
  paperlib reproduce --tier cifar10               all 60,000 images, downloaded once
  paperlib reproduce --tier imagenet -p data 2012 your ImageNet folder, on a GPU

Executed notebooks, figures and claims go to build/<tier>/."""
# Critical errors only: every kernel else warns that it talks to us unencrypted, on the loopback,
# and of the interrupt with which it is shut down
QUIET_KERNEL = ["--IPKernelApp.log_level=50"]


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


def _partial(source: Path, folder: Path) -> Path:
    """Where a notebook grows while it runs."""
    return folder / f".{source.stem}.partial.ipynb"


def run_notebook(source: Path, folder: Path, parameters: Mapping) -> Outcome:
    """Execute one notebook; the result appears in `folder` whole, or as `<name>.failed.ipynb`."""
    started = time.monotonic()
    partial, finished = _partial(source, folder), folder / source.name
    failed = folder / f"{source.stem}.failed.ipynb"
    try:
        _execute(source, partial, parameters)
    except PapermillExecutionError as error:
        reason = f"cell [{error.exec_count}]: {error.ename}: {error.evalue}"
    except DeadKernelError:
        reason = f"cell [{_running_cell(partial)}]: the kernel died (killed, or out of memory)"
    except RuntimeError as error:
        reason = f"its kernel does not start: {error}"
    else:
        os.replace(partial, finished)
        failed.unlink(missing_ok=True)
        return Outcome(source.stem, finished, time.monotonic() - started)
    os.replace(partial, failed)
    return Outcome(source.stem, failed, time.monotonic() - started, reason)


def _execute(source: Path, partial: Path, parameters: Mapping) -> None:
    settings = {"cwd": source.parent, "progress_bar": False, "kernel_name": "python3"}
    for last in (False, True):
        try:
            papermill.execute_notebook(
                source, partial, parameters, extra_arguments=QUIET_KERNEL, **settings
            )
            return
        except RuntimeError as error:
            # Before a kernel listens, another may have taken a port that was free when chosen
            if last or isinstance(error, DeadKernelError):
                raise


def _running_cell(partial: Path) -> int:
    """The number of the code cell that was running when a notebook was last saved."""
    cells = nbformat.read(partial, as_version=4).cells
    states = [c.metadata.papermill.status for c in cells if c.cell_type == "code"]
    return states.index("running") + 1 if "running" in states else len(states)


def run_all(work: Mapping[Path, Mapping], folder: Path, jobs: int) -> Iterator[Outcome]:
    """Execute several notebooks at once and yield each outcome as it comes.

    The scorecard runs last, because it reads what the others record.  A notebook whose process
    dies counts as failed; the others go on.  Whatever still runs when the caller stops is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PAPERLIB_FIGURES"] = str(folder / "figures")
    threads = max(1, usable_cpus() // jobs)  # the kernels share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    scorecards = {path for path in work if path.stem.endswith("_scorecard")}
    for paths in (work.keys() - scorecards, scorecards):
        yield from _side_by_side(deque(sorted(paths)), work, folder, jobs)


def _side_by_side(
    waiting: deque[Path], work: Mapping[Path, Mapping], folder: Path, jobs: int
) -> Iterator[Outcome]:
    context = _process_context()
    # By what tells the end of the process
    running: dict[Any, tuple[BaseProcess, connection.Connection, Path]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                path = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                given = (sender, dict(os.environ), path, folder, work[path])
                process: BaseProcess = context.Process(target=_send_outcome, args=given)
                with _interrupts_ignored():
                    process.start()
                sender.close()
                running[process.sentinel] = process, receiver, path
            for sentinel in connection.wait(list(running)):
                process, receiver, path = running.pop(sentinel)
                process.join()
                yield _received(receiver, path, process.exitcode)
    finally:
        for process, _, path in running.values():
            process.kill()  # its kernel follows by itself
            process.join()
            _partial(path, folder).unlink(missing_ok=True)


def _process_context() -> "ForkServerContext | SpawnContext":
    """Processes forked from one that has imported this module already, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _send_outcome(sender: connection.Connection, environment: Mapping, *arguments) -> None:
    os.environ.update(environment)  # of now; that of a fork server is of its start
    try:
        sender.send(run_notebook(*arguments))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def _received(receiver: connection.Connection, path: Path, exitcode: int | None) -> Outcome:
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = f"its process died with exit code {exitcode}"
    return outcome if isinstance(outcome, Outcome) else Outcome(path.stem, path, 0.0, outcome)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started within ignore Ctrl-C: who started them ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `paperlib reproduce` takes."""
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


def _planned(arguments: argparse.Namespace) -> dict[Path, dict]:
    """The notebooks asked for, with the parameters of each.  Raises ValueError on bad input."""
    if arguments.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, not {arguments.jobs}")
    notebooks = find_notebooks(arguments.notebooks)
    if arguments.tier == "imagenet" and not arguments.notebooks:
        notebooks = [path for path in notebooks if not path.name.startswith(CIFAR_ONLY)]
    given = {"tier": arguments.tier} | dict(arguments.parameter)
    return parameters_for(notebooks, given, TIER_PARAMETERS.get(arguments.tier, {}))


def run(arguments: argparse.Namespace) -> int:
    """Exit status: 0 all notebooks ran, 1 some failed, 2 bad input, 130 interrupted."""
    try:
        work = _planned(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = ROOT / "build" / arguments.tier
    _forget_verdicts(folder / "figures", {path.stem for path in work})
    done: set[str] = set()
    try:
        with tqdm(total=len(work), unit="notebook", disable=None) as bar:
            for count, outcome in enumerate(run_all(work, folder, arguments.jobs), 1):
                state = f"FAILED, {outcome.error}" if outcome.error else "ok"
                done |= set() if outcome.error else {outcome.name}
                bar.write(
                    f"{count:>2}/{len(work)} {outcome.name}: {state} ({outcome.seconds:.0f} s)"
                )
                bar.update()
    except KeyboardInterrupt:
        print("interrupted; finished notebooks are whole", file=sys.stderr)
        return 130
    _print_verdicts(folder, done)
    return 0 if len(done) == len(work) else 1


def _forget_verdicts(figures: Path, names: set[str]) -> None:
    """Delete what earlier runs recorded of these notebooks, so that no old verdict looks new."""
    for key, claim in CLAIMS.items():
        if claim.notebook in names:
            (figures / "claims" / f"{key}.json").unlink(missing_ok=True)


def _print_verdicts(folder: Path, done: set[str]) -> None:
    """The verdicts of this run; those of earlier ones, which a scorecard shows too, are named."""
    print(f"\nNotebooks, figures and tables: {folder.relative_to(ROOT)}/")
    records = scorecard(folder / "figures").to_dict("records")
    for record in (r for r in records if r["notebook"] in done):
        print(f"\n{summary(record)}")
    earlier = sorted({record["notebook"] for record in records} - done)
    if earlier and any(name.endswith("_scorecard") for name in done):
        print(f"\nThe scorecard also holds verdicts of earlier runs: {', '.join(earlier)}")
