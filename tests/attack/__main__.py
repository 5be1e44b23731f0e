"""The long form: `make attack`, whose figures stand in docs/reliability.md."""

import argparse
import tempfile
from pathlib import Path

from tests.attack import kills, targets

KINDS = ("mutations", "kills")


def main() -> None:
    """Run the attacks and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=10_000, help="damaged copies of a file")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of each long job")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "mutations" in given.kinds:
            for name, run in targets.TARGETS.items():
                found = run(Path(folder), given.rounds, given.seed)
                print(f"{name}: {given.rounds} damaged copies: {dict(found)}", flush=True)
        if "kills" in given.kinds:
            for name, job in kills.jobs(Path(folder)).items():
                print(f"{name}: {kills.killed(job, given.kills, given.seed)}", flush=True)


if __name__ == "__main__":
    main()
