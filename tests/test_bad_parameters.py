"""Bad parameters of notebooks, one row a case: the first cells must name the value and the rest.

What `paperlib reproduce` refuses before it starts a notebook is in `test_bad_files`; these are the
parameters that a reader changes in the notebook itself.
"""

import shutil

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from reproduction.paths import NOTEBOOKS, ROOT

ALL = tuple(path.name[:2] for path in sorted(NOTEBOOKS.glob("*.ipynb")))
COUNTING = [name for name in ALL if name != "09"]  # it compares published subsets of one size
COMPARING = ("00", "01", "02", "03", "04", "05", "06", "12")  # those that take `networks`
# Notebooks, parameter, value, and the words
CASES = [
    (ALL, "tier", "moon", "unknown tier 'moon'; choose from embedded, cifar10, imagenet"),
    (ALL, "tier", "", "unknown tier ''; choose from embedded"),
    (ALL, "seed", -1, "seed must be a whole number of at least 0, not -1"),
    (("01", "03", "10"), "seed", 1.5, "seed must be a whole number of at least 0, not 1.5"),
    (("01", "03", "10"), "seed", "one", "seed must be a whole number of at least 0, not 'one'"),
    (("01", "03", "10"), "seed", True, "seed must be a whole number of at least 0, not True"),
    (COUNTING, "k", 0, r"whole number .* not 0|to 10, not 0"),
    (
        [name for name in COUNTING if name not in ("05", "07")],
        "k",
        65,
        "from 1 to 64, not 65|must be 1 to 10, not 65",
    ),
    ([name for name in COUNTING if name != "07"], "k", "five", "not 'five'"),
    ([name for name in COUNTING if name != "07"], "k", 2.5, "not 2.5"),
    (ALL, "network", "vgg", "network 'vgg'.*choose from resnet20, resnet32"),
    (COMPARING, "networks", "resnet20", r"networks must be a list such as \[\"resnet20\"\], not"),
    (COMPARING, "networks", ["vgg"], r"vgg.*choose from resnet20, resnet32"),
    (ALL, "device", "tpu", "device 'tpu' cannot be used .*; try auto or cpu"),
    (("01", "11", "12"), "draws", 0, "draws must be a whole number of at least 1, not 0"),
    (("03",), "repeats", 0, "repeats must be a whole number of at least 1, not 0"),
    (("10",), "bank_file", "gone.safetensors", "no feature bank at gone.safetensors"),
    (("10",), "model", "vgg", "unknown network 'vgg'; choose from resnet20"),
    (("10",), "model", "resnet20", "a network needs `images`, such as"),
    (("12",), "images", "gone", "unknown dataset 'gone'; choose cifar10"),
]
NEEDS_A_CHECKPOINT = [("model", "resnet20"), ("images", "gone")]  # the network comes first
ROWS = [(name, *rest) for names, *rest in CASES for name in names]
NAMES = [f"{name} {parameter}={value!r}" for name, parameter, value, _ in ROWS]


def run_until_it_fails(name, parameter, value):
    (path,) = NOTEBOOKS.glob(f"{name}_*.ipynb")
    names = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                assert parameter in names, f"{path.name} has no parameter {parameter}"
                names[parameter] = value


@pytest.mark.parametrize(("name", "parameter", "value", "words"), ROWS, ids=NAMES)
def test_a_bad_parameter_is_named(name, parameter, value, words, tmp_path, monkeypatch, request):
    if (parameter, value) in NEEDS_A_CHECKPOINT:
        request.getfixturevalue("assets")
    shutil.copytree(ROOT / "figures" / "claims", tmp_path / "claims")  # the scorecard reads them
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path))
    threads = torch.get_num_threads()
    try:
        with (
            plt.rc_context({"backend": "Agg"}),
            pytest.raises((ValueError, FileNotFoundError), match=words),
        ):
            run_until_it_fails(name, parameter, value)
    finally:
        torch.set_num_threads(threads)
        plt.close("all")


def test_a_scorecard_of_no_claims_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no claims of tier cifar10: run the other"):
        run_until_it_fails("09", "tier", "cifar10")
