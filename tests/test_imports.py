"""The architecture: who may import whom, names that are documented, words that must not appear."""

import ast
import inspect
import subprocess
import sys

import pytest

import paperlib
from reproduction.paths import ROOT

PACKAGE = ROOT / "paperlib"
# The rooms of the library that each room may import from, beside its own.
ROOMS = {
    "store": set(),
    "seeds": set(),
    "border": {"store"},
    "stats": {"seeds"},
    "bank": {"border", "store"},
    "networks": {"heads", "store"},
    "filters": {"border", "seeds"},
    "heads": {"filters", "seeds", "stats"},
    "metrics": {"filters", "seeds"},
    # __init__: the version
    "extraction": {"__init__", "bank", "border", "filters", "networks", "seeds", "store"},
}
LIBRARY = set(ROOMS)
ALLOWED = ROOMS | {
    "api": LIBRARY,
    "__init__": LIBRARY | {"api"},  # the front door
    "__main__": {"__init__"},  # its subcommands are imported by name, when they are called
}
# The buildings that each may import from: the library is anybody's and knows no other.
BUILDINGS = {
    "paperlib": set(),
    "reproduction": {"paperlib"},
    "experiments": {"paperlib", "reproduction"},
}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(module):
    """The folder of a module, or its own name at the top level."""
    return module.partition("/")[0].removesuffix(".py")


def sources_of(building):
    return sorted((ROOT / building).rglob("*.py"))


@pytest.mark.parametrize("building", BUILDINGS)
def test_buildings_import_one_way(building):
    for path in sources_of(building):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            packages = {name.partition(".")[0] for name in names} & set(BUILDINGS)
            assert packages <= BUILDINGS[building] | {building}, path


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
    for path in (*PACKAGE.glob("*/__init__.py"), *map(ROOT.joinpath, BUILDINGS)):
        file = path / "__init__.py" if path.is_dir() else path
        assert ast.get_docstring(ast.parse(file.read_text())), path


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


@pytest.mark.parametrize("path", [p for b in BUILDINGS for p in sources_of(b)], ids=str)
def test_nothing_unsafe(path):
    text = path.read_text()
    for word in (
        "allow_" + "pickle",
        "import pickle",
        "weights_only=" + "False",
        "strict=" + "False",
    ):
        assert word not in text
    assert text.count("torch.load(") == text.count("weights_only=True")


def test_the_front_door_opens_every_name():
    assert sorted(paperlib.__all__) == paperlib.__all__ and len(paperlib.__all__) <= 30
    assert set(paperlib.__all__) <= set(dir(paperlib))
    for name in paperlib.__all__:
        assert getattr(paperlib, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'influental'"):
        _ = paperlib.influental
    with pytest.raises(AttributeError, match=r"recommended is now paperlib\.backward_selection"):
        _ = paperlib.recommended
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("room", ["filters", "heads", "metrics", "networks"])
def test_the_rooms_name_all_that_is_public(room):
    """`pl.metrics.overlap` and the like: each name documented, none forgotten."""
    opened = getattr(paperlib, room)
    modules = {name for name, value in vars(opened).items() if inspect.ismodule(value)}
    names = {name for name in vars(opened) if not name.startswith("_")} - modules
    assert len(names) > 10
    for name in names:
        assert getattr(opened, name).__doc__, name


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
