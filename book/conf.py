"""Sphinx's settings of the book; `build.py` assembles its sources and calls Sphinx."""

import sys
from importlib.util import find_spec
from pathlib import Path

BOOK = Path(__file__).resolve().parent
sys.path.insert(0, str(BOOK.parent))

project = "Which filters of a deep CNN decide a class?"
author = "The paperlib authors"
copyright = "The paperlib authors, MIT licence"
language = "en"

extensions = ["myst_nb", "sphinx_design", "sphinx.ext.mathjax", "book.glossary_links"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # so that links in an output lead to chapters
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

# One file draws all equations as SVG, without fonts; the package carries all of MathJax
MATHJAX = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg.js"
mathjax_path = MATHJAX.name

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = [str(BOOK / "static"), str(MATHJAX)]
html_css_files = ["book.css"]
html_js_files = [("scorecard.js", {"defer": "defer"})]
html_copy_source = False
html_show_search_summary = False  # would fetch pages, which a browser refuses below file://
html_show_sphinx = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 1,
    "navbar_persistent": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
