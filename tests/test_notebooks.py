"""Structure of the stored notebooks: one clean run from the top, small, no traces of a machine."""

import re

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import papermill
import pytest

from reproduction.paths import NOTEBOOKS
from tests.pretend_cuda import OnGpu, pretended_gpu

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
REQUIRED_PARAMETERS = {"tier", "network", "k", "device", "seed"}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem[:2])
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_text(output):
    data = output.get("data", {})
    parts = [output.get("text", ""), *(data.get(f"text/{kind}", "") for kind in ("plain", "html"))]
    return "".join(parts)


def test_numbering_has_no_gaps():
    assert [int(path.name[:2]) for path in PATHS] == list(range(len(PATHS)))


def test_one_run_from_the_top(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_clean(path, notebook):
    assert path.stat().st_size < 1_000_000
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output_text(output)[:200]
            assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", output_text(output))


def test_parameters_are_plain_literals(path, notebook):
    (cell,) = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.match(r"\w+ = ([\"'\d-]|True|False|\[)", line), line
        assert "  # " in line, f"{line!r} does not say what it is for"
    assert set(papermill.inspect_notebook(path)) >= REQUIRED_PARAMETERS


def test_cells_are_short_and_explained(notebook):
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown" and kinds[-1] == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert "## What differs and why" in notebook.cells[-1].source
    for cell in code_cells(notebook):
        assert cell.source.count("\n") < 25, cell.source[:80]


def test_a_claim_is_recorded_and_a_figure_shown(path, notebook):
    source = "\n".join(cell.source for cell in code_cells(notebook))
    no_claim = path.stem.startswith("10")  # the reader's own network: nothing published
    assert "record_claim(" in source or "scorecard(" in source or no_claim
    images = [
        o for c in code_cells(notebook) for o in c.outputs if "image/png" in o.get("data", {})
    ]
    assert images or path.stem.startswith("09")


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pandas meets the pretended GPU
@pytest.mark.parametrize("number", ["00", "02", "03", "04", "05"])
def test_a_notebook_runs_whole_with_its_banks_on_a_gpu(number, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path))
    names, fewer = {}, {"networks": ["resnet20"], "repeats": 2, "draws": 2}
    with matplotlib.rc_context({"backend": "Agg"}), pretended_gpu():
        for cell in code_cells(nbformat.read(PATHS[int(number)], as_version=4)):
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"device": "cuda"} | {k: v for k, v in fewer.items() if k in names}
    (bank,) = names["banks"].values()
    plt.close("all")
    assert isinstance(bank.features, OnGpu)
    assert (tmp_path / "claims").is_dir()
