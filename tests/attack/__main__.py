"""The long form: `make attack`, whose figures it writes into docs/reliability.md."""

import argparse
import json
import platform
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.pages import write_between
from paperlib.store import write_text
from tests.attack import kills, targets
from tests.attack.kills import ROOT

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "reliability.md"
KINDS = ("mutations", "kills")


def table(rows: dict[str, dict]) -> str:
    """Markdown: what was attacked, how often, and what became of it."""
    lines = ["| attack | seed | what became of it | where |", "|---|---|---|---|"]
    for name, row in sorted(rows.items()):
        about = row["machine"]
        versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
        where = f"{about['device']}, {about['cpus']} CPUs, {about['system']}; {versions}"
        found = ", ".join(f"{number:,} {what}" for what, number in row["found"].items())
        lines.append(f"| {name} | {row['seed']} | {found} | {row['date']}: {where} |")
    return "\n".join(lines) + "\n"


def keep(name: str, found: dict[str, int], seed: int) -> None:
    """Put one attack's figures into the results and the page."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    about = machine("cpu")
    chosen = {name: about["versions"][name] for name in ("python", "torch", "numpy")}
    about = {"device": about["device"], "cpus": about["cpus"], "system": platform.machine()}
    about["versions"] = chosen
    row = {"found": found, "seed": seed, "date": date.today().isoformat(), "machine": about}
    rows[name] = row
    write_text(RESULTS, json.dumps(rows, indent=1, sort_keys=True) + "\n")
    publish()


def publish() -> None:
    """Write the table of what is kept into the page, between its marks."""
    write_between(PAGE, "attacks", table(json.loads(RESULTS.read_text())))


def main() -> None:
    """Run the attacks, print what became of them, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=10_000, help="damaged copies of a file")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of each long job")
    parser.add_argument("--minutes", type=float, default=60, help="for the kills of a job")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "mutations" in given.kinds:
            for name, run in targets.TARGETS.items():
                found = dict(run(Path(folder), given.rounds, given.seed))
                print(f"damaged files: {name}: {found}", flush=True)
                keep(f"damaged files: {name}", {"copies": given.rounds} | found, given.seed)
        if "kills" in given.kinds:
            for name, job in kills.jobs(Path(folder)).items():
                found = kills.killed(job, given.kills, given.seed, 60 * given.minutes)
                print(f"killed jobs: {name}: {found}", flush=True)
                keep(f"killed jobs: {name}", found, given.seed)


if __name__ == "__main__":
    main()
