"""This paper's reproduction: claims, published figures, tiers and the runner of the notebooks.

    import paperlib as pl
    import reproduction as rp

    study = rp.start(tier, network, networks, device, data)

A notebook needs these two imports; the names below are all that it takes from here.  It works in a
clone, where the notebooks' data are.
"""

from importlib import import_module

# Where each name lives; imported when first used
_HOMES = {
    "multiply_accumulates": "reproduction.cost",
    "interleaved_times": "reproduction.cost",
    "head_implementations": "reproduction.cost",
    "head_cost": "reproduction.cost",
    "Study": "reproduction.banks",
    "start": "reproduction.banks",
    "Banks": "reproduction.banks",
    "CLAIMS": "reproduction.claims",
    "HEADS": "reproduction.comparison",
    "QUICK_RANKINGS": "reproduction.comparison",
    "RESNET20_ACCURACY": "reproduction.published",
    "RESNET20_CSG_SUBSETS": "reproduction.published",
    "RESNET20_MUTUAL_INFORMATION": "reproduction.published",
    "RESNET20_SUBSETS": "reproduction.published",
    "ROOT": "reproduction.paths",
    "SIZES": "reproduction.run_sizes",
    "SLOW_RANKINGS": "reproduction.comparison",
    "Sample": "reproduction.comparison",
    "TIERS": "reproduction.tiers",
    "check_whole": "paperlib.seeds",
    "data_folder": "reproduction.paths",
    "figures_folder": "reproduction.paths",
    "imagenette_path": "reproduction.imagenette",
    "load_bank": "reproduction.banks",
    "load_imagenette": "reproduction.imagenette",
    "load_runs": "reproduction.runs",
    "load_ten_classes": "reproduction.imagenette",
    "origins": "reproduction.runs",
    "published_subsets": "reproduction.published",
    "record_claim": "reproduction.claims",
    "runs_of": "reproduction.runs",
    "scorecard": "reproduction.claims",
    "scorecard_markdown": "reproduction.claims",
    "subsets_by_k": "reproduction.comparison",
    "summary": "reproduction.claims",
    "table_of_sizes": "reproduction.run_sizes",
}
_MODULES = ("plots",)

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"reproduction.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'reproduction' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))
