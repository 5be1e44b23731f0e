"""Banks in which some classes have no images."""

from dataclasses import replace

import torch

from paperlib.bank import SPLIT_CODES, FeatureBank, LinearHead


def classes_with_images(bank: FeatureBank, split: str = "train") -> list[int]:
    """The classes of which the bank holds images of a split, in order."""
    labels = bank.labels[bank.split_codes == SPLIT_CODES[split]]
    return labels.unique().tolist()


def without_empty_classes(bank: FeatureBank) -> FeatureBank:
    """The bank with the classes left out that have no train images: their logits, weights, images.

    What is left is a bank of C' classes, numbered anew in the same order, whose head tells these
    classes apart; `metadata["classes_kept"]` holds their old numbers.  A bank with images of every
    class comes back as it is.  Raises ValueError where no class has train images.
    """
    kept = classes_with_images(bank)
    if len(kept) == bank.num_classes:
        return bank
    if not kept:
        raise ValueError("the bank holds no train images, so no class can be kept")
    number = torch.full((bank.num_classes,), -1)
    number[kept] = torch.arange(len(kept))
    rows = number[bank.labels] >= 0
    head = LinearHead(*(part[kept] for part in bank.head))
    return replace(
        bank,
        features=bank.features[rows],
        logits=bank.logits[rows][:, kept],
        labels=number[bank.labels[rows]],
        split_codes=bank.split_codes[rows],
        class_names=[bank.class_names[c] for c in kept],
        stored_head=head,
        blocks={name: block[rows] for name, block in bank.blocks.items()},
        metadata=bank.metadata | {"classes_kept": kept},
    )
