"""The book: built with warnings as errors, its links, what its pages load, in a real browser."""

import json
import os
import re
import subprocess
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from browser import WIDTHS, browser, chromium, until  # noqa: F401

from reproduction.paths import NOTEBOOKS, ROOT
from reproduction.rules import with_interval

PYTHON = ROOT / ".venv-book" / "bin" / "python"
STEMS = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
# What makes a browser load something, by tag; `a` is for reading and may lead anywhere
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """Links, anchors, what is loaded, and inline scripts of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors, self.images = [], [], set(), []
        self.scripts, self.inside_script = [], False
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in LOADS and given.get(LOADS[tag]):
            self.loads.append(given[LOADS[tag]])
        if tag == "img":
            self.images.append(given)
        self.inside_script = tag == "script"

    def handle_endtag(self, tag):
        self.inside_script = False

    def handle_data(self, data):
        if self.inside_script and data.strip():
            self.scripts.append(data)


def words(path):
    """The text of a page, without markup and with plain apostrophes."""
    return unescape(re.sub(r"<[^>]*>", "", path.read_text())).replace("’", "'")


def build(out, *options, **environment):
    """The run of the book's builder."""
    if not PYTHON.exists():
        pytest.skip("no .venv-book to build the book with: `make book` sets it up")
    return subprocess.run(
        [PYTHON, ROOT / "book" / "build.py", "--out", out, *options],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The built site, with a stand-in for the atlas."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "atlas").mkdir()
    (folder / "atlas" / "index.html").write_text("<!doctype html><title>atlas</title>")
    run = build(folder / "out", "--atlas", folder / "atlas", PAPERLIB_REPOSITORY="who/what")
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return folder / "out" / "html"


@pytest.fixture(scope="module")
def pages(html):
    """All pages; templates of the theme that lie in _static are none."""
    found = [path for path in sorted(html.rglob("*.html")) if "_static" not in path.parts]
    return {path: Page(path) for path in found}


def test_every_notebook_and_page_of_the_clone_is_in_the_book(html):
    expected = {f"notebooks/{stem}" for stem in STEMS}
    expected |= {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")}
    expected |= {"index", "scorecard", "glossary", "search", "data/README", "benchmarks/README"}
    assert not [name for name in sorted(expected) if not (html / f"{name}.html").is_file()]


def test_every_internal_link_and_anchor_leads_somewhere(pages):
    broken, followed = [], 0
    for path, page in pages.items():
        for link in page.links + page.loads:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            place = (path.parent / unquote(target.path)).resolve() if target.path else path
            found = place.is_file() and (
                not target.fragment
                or place.suffix != ".html"
                or unquote(target.fragment) in pages[place].anchors
            )
            followed += 1
            if not found:
                broken.append(f"{path.name}: {link}")
    assert followed > 1000 and not broken, broken


def test_no_page_loads_anything_from_elsewhere(html, pages):
    for path, page in pages.items():
        outside = [link for link in page.loads if urlsplit(link).scheme not in ("", "data")]
        assert not outside and not [link for link in page.loads if link.startswith("//")], path
    for sheet in html.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_the_book_is_small(html):
    assert sum(path.stat().st_size for path in html.rglob("*")) < 40e6


def test_notebook_text_is_escaped_and_no_script_holds_data(pages):
    """A few lines of the theme's own are inline on every page, the same on all."""
    kinds = {
        re.sub(r"'[^']*'|\"[^\"]*\"|\d", "", script)
        for path, page in pages.items()
        for script in page.scripts
        if "atlas" not in path.parts
    }
    assert len(kinds) <= 8, kinds
    for path, page in pages.items():
        assert not [script for script in page.scripts if "resnet" in script.lower()], path


def test_chapters_fold_code_show_figures_and_say_how_to_run(html, pages):
    for stem in STEMS:
        path = html / "notebooks" / f"{stem}.html"
        text = path.read_text()
        stored = json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text())["cells"]
        codes = [cell for cell in stored if cell["cell_type"] == "code"]
        figures = [o for c in codes for o in c["outputs"] if "image/png" in o.get("data", {})]
        assert text.count("Show the code") == len(codes)
        assert len(re.findall(r"<img[^>]*_images", text)) == len(figures)
        assert f"papermill notebooks/{stem}.ipynb" in words(path)
        for host in ("mybinder.org/v2/gh/who/what/", "colab.research.google.com/github/who/what/"):
            assert [link for link in pages[path].links if host in link and stem in unquote(link)]
        assert all(image.get("alt") for image in pages[path].images)


def test_the_front_page_says_what_the_claims_say(html):
    text = words(html / "index.html")
    cards = 0
    for path in (ROOT / "figures" / "claims").glob("*.json"):
        record = json.loads(path.read_text())
        if f"{with_interval(record)}: {record['quantity']}" in text:
            cards += 1
            assert record["statement"] in text
    assert cards == (html / "index.html").read_text().count('class="sd-card-title') > 10
    assert 'href="atlas/index.html"' in (html / "index.html").read_text()


def test_words_lead_to_the_glossary(pages):
    linked = [
        path.name
        for path, page in pages.items()
        if [link for link in page.links if "glossary.html#term-" in link]
    ]
    assert len(set(linked) & {f"{stem}.html" for stem in STEMS}) == len(STEMS)


def test_an_atlas_that_is_none_is_refused(tmp_path):
    run = build(tmp_path / "out", "--atlas", tmp_path)
    assert run.returncode == 2 and "no index.html in it" in run.stderr


def assert_it_fits(page):
    """Nothing makes the page wider than its window, and every equation is drawn."""
    assert page.locator("article h1").is_visible()
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
    drawn = "document.querySelectorAll('mjx-container svg').length"
    until(page, f"document.querySelectorAll('.math').length === {drawn}")


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_every_screen(browser, html, width):  # noqa: F811
    for name in ("index", "scorecard", "glossary", f"notebooks/{STEMS[1]}"):
        assert_it_fits(browser.open(html / f"{name}.html", width))


def test_every_page_opens_on_a_phone_without_a_network(browser, html, pages):  # noqa: F811
    for path in pages:
        page = browser.open(path, WIDTHS[0])
        if path.parent.name in ("notebooks", "docs", "data", "benchmarks"):
            assert_it_fits(page)
        page.close()


def test_the_scorecard_sorts_by_keyboard_and_says_so(browser, html):  # noqa: F811
    page = browser.open(html / "scorecard.html")
    rows, head = page.locator("table.scorecard tbody tr"), page.locator("table.scorecard th")
    first, button = rows.first.inner_text(), head.nth(3).locator("button")
    order = ["reproduced", "partly", "not reproduced", "not testable here"]
    for direction in ("ascending", "descending"):
        button.press("Enter")
        verdicts = rows.locator("td:nth-child(4)").all_inner_texts()
        assert verdicts == sorted(verdicts, key=order.index, reverse=direction == "descending")
        assert head.nth(3).get_attribute("aria-sort") == direction
    head.nth(2).locator("button").press("Space")
    values = [
        float(re.match(r"-?[\d.]+", text)[0])
        for text in rows.locator("td:nth-child(3)").all_inner_texts()
    ]
    assert values == sorted(values)
    assert page.locator("th[aria-sort]").count() == 1
    assert rows.count() == len(list((ROOT / "figures" / "claims").glob("*.json")))
    assert rows.first.inner_text() != first


def test_code_is_one_click_away_and_the_search_finds(browser, html):  # noqa: F811
    page = browser.open(html / "notebooks" / f"{STEMS[1]}.html")
    assert not page.locator("div.highlight-ipython3").first.is_visible()
    page.get_by_text("Show the code").first.click()
    assert page.locator("div.highlight-ipython3").first.is_visible()
    found = browser.open(html / "search.html", fragment="?q=frequency")
    found.locator("#search-results li").first.wait_for()
