"""python -m benchmarks [--device cuda] [--quick]: measure, print, and keep JSON and a table."""

import argparse
import json
from pathlib import Path

import torch

from benchmarks import extraction, gpu, heads, ranking
from benchmarks.measure import machine
from benchmarks.pages import write_between

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "speed.md"
UNITS = {"peak_mb": "MB at peak", "images per second": "images/s"}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def table(result: dict) -> str:
    """One run as Markdown: what was measured, against what, ratio, aims, seconds and the rest."""
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['device']}, {about['threads']} of {about['cpus']} CPUs used, load "
        f"{about['load']} at the start; {versions}.",
        "",
        "| what | against | times faster | must | goal | seconds | also |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        named = {"benchmark", "against", "ratio", "must", "goal", "seconds"}
        extra = {UNITS.get(key, key): value for key, value in row.items() if key not in named}
        also = ", ".join(f"{_number(x)} {key}" for key, x in extra.items() if x is not None)
        aims = (f"{row[aim]:g}" if row[aim] else "" for aim in ("must", "goal"))
        ratio, seconds = f"**{row['ratio']:.1f}**", f"{row['seconds']:.2g}"
        cells = (row["benchmark"], row["against"], ratio, *aims, seconds, also)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def publish() -> None:
    """Write the tables of all stored results into docs/speed.md, between its marks."""
    runs = sorted((FOLDER / "results").glob("*.json"))
    tables = [table(json.loads(path.read_text())) for path in runs]
    write_between(PAGE, "benchmarks", "\n".join(tables))


def main() -> None:
    """Run all benchmarks; a quick run checks that they work and writes nothing but to `--out`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: do they run?")
    parser.add_argument(
        "--out", type=Path, help="JSON file; results/<cpu or cuda>.json if not quick"
    )
    arguments = parser.parse_args()
    device = arguments.device
    result = {"machine": machine(device), "rows": []}
    modules = (heads, extraction, ranking)
    if device != "cpu" or arguments.quick:
        modules += (gpu,)
    for module in modules:
        for row in module.run(device, arguments.quick):
            if device != "cpu" or module is gpu:  # the aims are of the CPU
                row |= {"must": None, "goal": None}
            result["rows"].append(
                {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
            )
            print(f"{row['benchmark']}: {row['ratio']:.1f} times faster", flush=True)
    kind = torch.device(device).type
    out = arguments.out or (None if arguments.quick else FOLDER / "results" / f"{kind}.json")
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
    if not arguments.quick:
        publish()


if __name__ == "__main__":
    main()
