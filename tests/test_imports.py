"""The architecture: who may import whom, names that are documented, words that must not appear."""

import ast
import subprocess
import sys

import pytest

import paperlib
from paperlib.study.paths import ROOT

PACKAGE = ROOT / "paperlib"
# The rooms that each room may import from, beside its own.  `study` is this paper's, the others
# are anybody's: none of them may know it.
ROOMS = {
    "banks": set(),
    "networks": {"banks", "heads"},
    "subsets": set(),
    "extraction": {"__init__", "banks", "networks", "subsets"},  # __init__: the version
    "training": {"banks", "extraction", "networks"},
    "heads": {"subsets"},
    "measures": {"subsets"},
}
LIBRARY = set(ROOMS)
ALLOWED = ROOMS | {
    "analysis": LIBRARY,
    "__init__": LIBRARY | {"analysis"},  # the front door
    "__main__": {"__init__"},  # its subcommands are imported by name, when they are called
    "study": LIBRARY | {"__init__", "__main__"},
}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(module):
    """The folder of a module, or its own name at the top level."""
    return module.partition("/")[0].removesuffix(".py")


def tree_of(module):
    return ast.parse((PACKAGE / module).read_text())


def imported_rooms(module):
    """The rooms that a module imports, wherever in the file."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import in line {node.lineno}"
            names = [node.module]
            if node.module == "paperlib":
                names = [f"paperlib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "paperlib":
                room = rest.partition(".")[0]
                is_room = (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()
                found.add(room if room and is_room else "__init__")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_import_direction(module):
    room = room_of(module)
    assert imported_rooms(module) <= ALLOWED[room] | {room}


def test_every_module_stands_in_a_room():
    assert {room_of(module) for module in MODULES} == set(ALLOWED)
    for room in LIBRARY | {"study"}:
        assert ast.get_docstring(tree_of(f"{room}/__init__.py")), room


def test_modules_do_not_import_each_other_in_a_circle():
    """Also within a room; `import` order would decide what works."""
    graph = {}
    for module in MODULES:
        name = "paperlib." + module.removesuffix(".py").replace("/", ".")
        graph[name] = {
            node.module
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.ImportFrom) and node.module.startswith("paperlib.")
        }
    while leaves := [name for name, needs in graph.items() if not needs & set(graph)]:
        for name in leaves:
            del graph[name]
    assert not graph


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module):
    tree = tree_of(module)
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}: {node.name} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module):
    assert len((PACKAGE / module).read_text().splitlines()) < 300


@pytest.mark.parametrize("module", MODULES)
def test_nothing_unsafe(module):
    text = (PACKAGE / module).read_text()
    for word in (
        "allow_" + "pickle",
        "import pickle",
        "weights_only=" + "False",
        "strict=" + "False",
    ):
        assert word not in text
    assert text.count("torch.load(") == text.count("weights_only=True")


def test_the_front_door_opens_every_name():
    assert sorted(paperlib.__all__) == paperlib.__all__ and len(paperlib.__all__) <= 15
    assert set(paperlib.__all__) <= set(dir(paperlib))
    for name in paperlib.__all__:
        assert getattr(paperlib, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'influental'"):
        _ = paperlib.influental
    assert (PACKAGE / "py.typed").exists()


def test_importing_the_package_imports_nothing_heavy():
    """`import paperlib` costs nothing; names are imported when they are first used."""
    code = "import sys, paperlib; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "paperlib" in loaded and not loaded & {"torch", "numpy", "torchvision", "numba"}


def test_the_library_runs_without_the_packages_of_the_study():
    """What `pip install .` brings is enough for the front door."""
    study = {"matplotlib", "pandas", "papermill", "seaborn", "sklearn", "nbformat"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({study}))\n"
        "import paperlib as pl\n"
        "[getattr(pl, name) for name in pl.__all__]\n"
        "import paperlib.extraction.command\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
