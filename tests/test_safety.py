"""No file that the package reads can run code: every call that reads one is on this list."""

import ast

import pytest
from torchvision.datasets import CIFAR10

from reproduction.paths import ROOT

# What reads a file, a stream or an address, by the last part of the call's name
READING = {
    "open",
    "safe_open",
    "load",
    "loads",
    "load_file",
    "read_text",
    "read_bytes",
    "read",
    "fromfile",
    "genfromtxt",
    "loadtxt",
    "memmap",
    "imread",
    "urlopen",
    "urlretrieve",
    "download_url_to_file",
    "load_state_dict_from_url",
    "read_csv",
    "read_json",
    "read_pickle",
    "read_parquet",
    "CIFAR10",
    "create_model",
    "execute_notebook",
    "inspect_notebook",
    "import_module",
}
# By module, the calls allowed and what keeps them safe
READERS = {
    "paperlib/__init__.py": {"import_module"},  # the front door's own names
    "paperlib/__main__.py": {"import_module"},  # the subcommands of fixed tables
    "paperlib/store.py": {"open", "safe_open", "json.loads"},  # "open" writes
    "paperlib/extraction/shards.py": {"safe_open", "json.loads", "self.manifest.read_text"},
    "paperlib/networks/assets.py": {"open", "urlopen", "answer.read"},  # bytes, for their SHA-256
    "paperlib/networks/by_name.py": {"timm.create_model"},  # timm's own downloads, an extra
    "paperlib/networks/cifar_runs.py": {"open", "torch.load"},  # weights_only, after the SHA-256
    # CIFAR-10's batches are pickles; torchvision opens those whose MD5 it knows, from an archive
    # whose SHA-256 we know
    "paperlib/networks/datasets.py": {"Image.open", "read_text", "torchvision.datasets.CIFAR10"},
    # weights_only, after the SHA-256; timm builds the network and loads no weights
    "paperlib/networks/efficientnet_lite.py": {"timm.create_model", "torch.load"},
    "paperlib/networks/strips.py": {"Image.open", "read_text"},
    "paperlib/networks/trained.py": {"safe_open", "json.loads"},
    "reproduction/__init__.py": {"import_module"},  # the names of a fixed table
    "reproduction/atlas.py": {"file.read_bytes"},  # of the page, to be copied
    "reproduction/claims.py": {"json.loads", "path.read_text", "tomllib.loads"},
    "reproduction/published.py": {"json.loads", "path.read_text", "read_text"},
    # The notebooks of the clone are code, and are run: that is what the command is for
    "reproduction/parameters.py": {"json.loads", "papermill.inspect_notebook"},
    "reproduction/runner.py": {"nbformat.read", "papermill.execute_notebook"},
    "experiments/better_subsets.py": {"json.loads", "path.read_text", "read_text"},
    "experiments/fine_tuning.py": {"pd.read_csv"},
    "experiments/training/train.py": {"safe_open"},
}
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
OURS = {"FeatureBank.load", "TrainingRun.load", "run.load", "load"}  # in this list themselves


def calls(tree):
    """(name as written, last part, node) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = getattr(node.func, "attr", None) or name
            # What a call is made on may itself be a call: `Path(...).read_text`
            yield (last if "(" in name else name), last, node


MODULES = [
    path.relative_to(ROOT).as_posix()
    for building in ("paperlib", "reproduction", "experiments")
    for path in sorted((ROOT / building).rglob("*.py"))
]


@pytest.mark.parametrize("module", MODULES)
def test_every_reader_is_known(module):
    tree = ast.parse((ROOT / module).read_text())
    found = {name for name, last, _ in calls(tree) if last in READING} - OURS
    assert found == READERS.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_turns_data_into_code(module):
    tree = ast.parse((ROOT / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            assert not {name.partition(".")[0] for name in names} & FORBIDDEN, node.lineno
    for name, _, node in calls(tree):
        written = ast.unparse(node.func)
        assert written not in ("eval", "exec", "compile", "__import__", "os.system"), node.lineno
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert "allow_pickle" not in given and given.get("shell", "False") == "False"
        if name == "torch.load":
            assert given["weights_only"] == "True"


def test_torchvision_opens_only_batches_that_it_knows(tmp_path):
    """The one reader of pickles: batches that would run a command, were they opened."""
    opened, folder = tmp_path / "opened", tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        (folder / name).write_bytes(f"cposix\nsystem\n(S'touch {opened}'\ntR.".encode())
    with pytest.raises(RuntimeError, match="not found or corrupted"):
        CIFAR10(tmp_path)
    assert not opened.exists()
    assert CIFAR10.url.startswith("https://")
