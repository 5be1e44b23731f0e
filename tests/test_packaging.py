"""pyproject.toml, the lock and environment.yml name the same packages."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from reproduction.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = {
    requirement.name: requirement.specifier
    for line in PROJECT["dependencies"] + EXTRAS["study"] + EXTRAS["test"]
    for requirement in [Requirement(line)]
}
# A network and images for the lines that the README shows
TINY = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 9), torch.nn.ReLU(),
                            torch.nn.Linear(9, 3))
train_images, test_images = ((torch.rand(60, 3, 2, 2), torch.arange(60) % 3) for _ in range(2))
"""
CONDA_NAMES = {"pytorch": "torch", "playwright-python": "playwright"}


def locked(name="requirements.lock"):
    """Name to the versions that a lock pins (several where they differ between Pythons)."""
    pins = {}
    pattern = r"^([\w.-]+)==([^\s;]+)(.*?)(?=^\S|\Z)"
    for match in re.finditer(pattern, (ROOT / name).read_text(), re.M | re.S):
        assert "--hash=sha256:" in match[3], f"{match[1]} has no hash"
        pins.setdefault(match[1], []).append(Version(match[2]))
    return pins


def test_lock_pins_every_declared_package_within_its_range():
    pins = locked()
    for name, specifier in DECLARED.items():
        assert all(version in specifier for version in pins[name]), name


def test_the_book_has_a_small_lock_of_its_own():
    pins = locked("requirements-book.lock")
    for requirement in map(Requirement, EXTRAS["book"]):
        assert all(version in requirement.specifier for version in pins[requirement.name])
    assert "torch" not in pins


def test_the_oldest_lock_pins_the_lower_bounds():
    """`make test-oldest` tries what pyproject.toml promises: each range from its lower end."""
    pins = locked("requirements-oldest.lock")
    for name, specifier in DECLARED.items():
        (lowest,) = (Version(each.version) for each in specifier if each.operator == ">=")
        (pinned,) = pins[name]
        assert pinned.release[: len(lowest.release)] == lowest.release, name


def test_environment_gives_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    packages = {}
    for line in environment["dependencies"]:
        if isinstance(line, str) and line != "pip":
            name, specifier = re.fullmatch(r"([\w-]+)(.*)", line).groups()
            packages[CONDA_NAMES.get(name, name)] = SpecifierSet(specifier)
    assert packages.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert packages == DECLARED


def test_the_library_needs_nothing_of_the_notebooks():
    needed = {Requirement(line).name for line in PROJECT["dependencies"]}
    library = {"filelock", "torch", "torchvision", "numpy", "numba", "safetensors", "scipy", "tqdm"}
    assert needed == library


def test_a_wheel_holds_every_room_and_its_data(tmp_path):
    """A plain `pip install .`: the wheel is built, unpacked and used away from the clone."""
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "paperlib", sources / "paperlib")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, sources], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "paperlib", tmp_path / "clean", ignore=ignored)
    expected = {p.relative_to(tmp_path / "clean") for p in (tmp_path / "clean").rglob("*.*")}
    site = tmp_path / "site" / "paperlib"
    assert {path.relative_to(site) for path in site.rglob("*.*")} == expected
    environment = os.environ | {"PYTHONPATH": str(site.parent)}
    environment.pop("PAPERLIB_DATA", None)
    run = [sys.executable, "-m", "paperlib"]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    assert subprocess.run([*run, "extract", "--help"], **options).returncode == 0
    (snippet,) = re.findall(
        r"```python\n(import paperlib.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    (tmp_path / "ten_lines.py").write_text(TINY + snippet)
    ten_lines = subprocess.run([sys.executable, "ten_lines.py"], **options)
    assert ten_lines.returncode == 0 and "[" in ten_lines.stdout, ten_lines.stderr
    away = subprocess.run([*run, "reproduce"], **options)
    assert away.returncode == 2 and "clone" in away.stderr, away.stderr


def test_ranges_admit_an_existing_gpu_environment():
    assert Version("2.11.0") in DECLARED["torch"]
    assert Version("0.26.0") in DECLARED["torchvision"]


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"\.PHONY: (.*)", makefile)[1].split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in targets:
        assert f"make {target}" in shown.stdout
    for setting in ("JOBS", "PYTHON", "DEVICE"):
        assert f"{setting}=" in shown.stdout


@pytest.mark.parametrize("command", ["make reproduce", "make test"])
def test_readme_names_the_commands(command):
    assert command in (ROOT / "README.md").read_text()
