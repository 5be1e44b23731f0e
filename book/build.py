"""Builds the book from what is stored: `.venv-book/bin/python book/build.py`, nothing executed.

Sphinx reads sources below one folder, so pages, notebooks and the files they link to are first
copied to OUT/source, in the places that they have in the clone: every relative link stays right.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import main as sphinx

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
sys.path.insert(0, str(ROOT))

from book.front import front_page  # noqa: E402
from book.run_chapter import run_chapter  # noqa: E402

# Folders of the clone whose Markdown files are pages
PAGES = ("docs/*.md", "data/README.md", "benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)")


def prepared(notebook, stem):
    """A chapter: code folded, figures described for who cannot see them, and how to run it."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^#+ (.*)", cell.source, re.M):
                heading = title
        else:
            cell.metadata.setdefault("tags", []).append("hide-input")
            cell.metadata["mystnb"] = {"image": {"alt": f"Figure: {heading}"}}
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(run_chapter(stem)))
    return notebook


def copy_chapters(source):
    """Copies all notebooks; returns the title of each by its stem."""
    titles = {}
    (source / "notebooks").mkdir(parents=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        titles[path.stem] = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
        nbformat.write(prepared(notebook, path.stem), source / "notebooks" / path.name)
    return titles


def copy_page(path, source):
    """Copies a Markdown page, and beside it the files that it links to, for download."""
    copy(path, source)
    for link in LINK.findall(path.read_text()):
        target = (path.parent / link).resolve()
        if target.is_file() and target.suffix not in (".md", ".ipynb"):
            copy(target, source)


def copy(path, source):
    """Copies a file of the clone to its place below `source`."""
    place = source / path.resolve().relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)


def assemble(source, atlas):
    """Everything that Sphinx reads."""
    titles = copy_chapters(source)
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            copy_page(path, source)
    for path in BOOK.glob("*.md"):
        shutil.copyfile(path, source / path.name)
    scorecard = (ROOT / "figures" / "scorecard.md").read_text().replace("](../", "](")
    (source / "scorecard_table.txt").write_text(scorecard)
    for figure in (ROOT / "figures").glob("*.png"):
        copy(figure, source)
    (source / "index.md").write_text(front_page(ROOT / "figures", titles, atlas=atlas))


def main(arguments=None):
    """Assembles, then runs Sphinx; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "book")
    parser.add_argument("--atlas", type=Path, help="a folder with the atlas, put at atlas/")
    options = parser.parse_args(arguments)
    if options.atlas and not (options.atlas / "index.html").is_file():
        parser.error(f"--atlas {options.atlas}: no index.html in it")
    source, html = options.out / "source", options.out / "html"
    for folder in (source, html):
        shutil.rmtree(folder, ignore_errors=True)
    assemble(source, atlas=bool(options.atlas))
    code = sphinx(["-W", "--keep-going", "-q", "-E", "-c", str(BOOK), str(source), str(html)])
    if options.atlas and not code:
        shutil.copytree(options.atlas, html / "atlas")
    if not code:
        print(f"open {html / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
