"""The architecture: who may import whom, and words that must not appear."""

import ast

import pytest

from paperlib.paths import ROOT

PACKAGE = ROOT / "paperlib"
# What each module may import of the package; pure modules (tensors in, tensors out) only each
# other downward, and only `features` and `reproduce` reach across.
ALLOWED = {
    "__init__": set(),
    "paths": set(),
    "published": {"paths"},
    "tiers": set(),
    "tensorfile": set(),
    "bank": {"tensorfile"},
    "shards": {"bank", "tensorfile"},
    "distributed": set(),
    "classes": {"bank"},
    "plots": set(),
    "statistics": set(),
    "compiled": set(),
    "filters": {"compiled"},
    "rankings": {"filters"},
    "selection": {"filters", "decomposition"},
    "comparison": {"filters", "decomposition", "rankings", "selection"},
    "sweeps": {"filters"},
    "cards": {"filters"},
    "decomposition": {"compiled", "filters"},
    "essentiality": {"filters"},
    "overlap": set(),
    "selectivity": {"filters"},
    "manifold": {"filters"},
    "cost": {"filters", "decomposition"},
    "claims": set(),
    "datasets": {"paths"},
    "checkpoints": {"paths"},
    "zoo": {"checkpoints"},
    "models": {"checkpoints", "zoo"},
    "hooks": set(),
    "inference": set(),
    "extraction": {"__init__", "bank", "hooks", "inference", "models"},
    "resumable": {"bank", "distributed", "extraction", "filters", "shards", "tensorfile"},
    "features": {
        "bank",
        "classes",
        "datasets",
        "distributed",
        "extraction",
        "models",
        "paths",
        "resumable",
        "tiers",
    },
    "reproduce": {"paths", "claims", "tiers"},
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported_siblings(module):
    """Names of the package's modules that a module imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            package, _, name = node.module.partition(".")
            if package == "paperlib":
                found |= {name} if name else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add(f"relative import in line {node.lineno}")
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("paperlib")]
            found |= {name.partition(".")[2] or "__init__" for name in names}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_import_direction(module):
    assert imported_siblings(module) <= ALLOWED[module]


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_unsafe(module):
    text = (PACKAGE / f"{module}.py").read_text()
    for word in (
        "allow_" + "pickle",
        "import pickle",
        "weights_only=" + "False",
        "strict=" + "False",
    ):
        assert word not in text
    assert text.count("torch.load(") == text.count("weights_only=True")
