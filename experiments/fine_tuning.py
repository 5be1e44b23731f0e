"""The paper's remedy for every CIFAR-10 run: one epoch of the whole network, decomposed.

    python -m experiments.fine_tuning [RUN ...] [--out FILE]

One row per run in `data/fine_tuning.csv`; a run that is there is skipped.  The tuned networks go to
`build/fine_tuned/`.  One core takes some four minutes per ResNet-20 and eleven per ResNet-56.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset, Subset

from experiments.runs import DEEPEST
from experiments.training.batches import PADDING, Batches
from paperlib.api import decompose, extract, influential
from paperlib.heads.finetune import correct_images, finetune_network
from paperlib.networks.by_name import load_network
from paperlib.networks.cifar_runs import RUNS
from paperlib.networks.datasets import load_dataset
from paperlib.networks.head import split_head
from paperlib.seeds import torch_generator
from paperlib.store import atomic_write, write_text
from reproduction.paths import ROOT, data_folder

K, SEED = 5, 0
RANKED = 10_000  # train images, the first, that the influential filters are found on


class RandomCrops(Dataset):
    """Images of `batches`, cropped and flipped anew whenever they are read, a batch at a time."""

    def __init__(self, batches: Batches, seed: int):
        self.batches, self.draw = batches, torch_generator(seed)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        """`[3, 32, 32] float32` and a label, per index."""
        chosen = torch.tensor(indices)
        top, left = torch.randint(2 * PADDING + 1, (2, len(chosen)), generator=self.draw)
        flip = torch.rand(len(chosen), generator=self.draw) < 0.5
        images = self.batches.cut(chosen, top, left, flip)
        return list(zip(images, self.batches.labels[chosen], strict=True))


def fine_tune(run: str, networks: Path) -> dict:
    """Tune a run by its own K filters per class, keep the network, and return its row."""
    network = load_network(run)
    train, test = (load_dataset("cifar10", split, network.transform) for split in ("train", "test"))
    first = Subset(train, range(min(RANKED, len(train))))
    bank = extract(network.model, train=first, test=test, device="cpu", progress=False)
    subsets, tested = influential(bank, K), bank.split("test")
    cut = decompose(bank, subsets)(tested.features).argmax(dim=1) == tested.labels
    train.transform = None
    crops = RandomCrops(Batches(train, torch.device("cpu"), 0, RUNS[run].normalisation), SEED + 1)
    model = network.model.to(memory_format=torch.channels_last)  # faster on the CPU
    start = time.process_time()
    name = split_head(model).name
    tuned = finetune_network(model, name, subsets, crops, device="cpu", seed=SEED, progress=False)
    seconds = time.process_time() - start
    with atomic_write(networks / f"{run.replace(':', '-')}.safetensors") as file:
        file.write(save({key: value.contiguous() for key, value in tuned.state_dict().items()}))
    return {
        "run": run,
        "k": K,
        "train images": len(train),
        "test images": len(test),
        "seed": SEED,
        "full correct": int(tested.correct().sum()),
        "cut correct": int(cut.sum()),
        "fine-tuned correct": int(correct_images(tuned, test, device="cpu").sum()),
        "core seconds": round(seconds, 1),
        "torch": torch.__version__,
    }


def main(arguments: list[str] | None = None) -> None:
    """Append the rows that the table lacks, shallow networks first."""
    runs = sorted((run for run in RUNS.values() if run.depth <= DEEPEST), key=lambda run: run.depth)
    names = [run.name for run in runs]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help="such as resnet20:segura (all)")
    parser.add_argument("--out", type=Path, default=data_folder() / "fine_tuning.csv")
    parser.add_argument("--networks", type=Path, default=ROOT / "build" / "fine_tuned")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.runs) - set(names)):
        parser.error(f"no runs {unknown}; choose from {', '.join(names)}")
    torch.set_num_threads(1)  # more would add up in another order
    rows = pd.read_csv(given.out).to_dict("records") if given.out.exists() else []
    for name in given.runs or names:
        if name not in {row["run"] for row in rows}:
            rows.append(fine_tune(name, given.networks))
            write_text(given.out, pd.DataFrame(rows).to_csv(index=False))
            print(*rows[-1].values(), flush=True)


if __name__ == "__main__":
    main()
