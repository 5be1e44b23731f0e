"""What stands below a chapter's first words: how to run it here, on Binder and on Colab."""

import os
from urllib.parse import quote

# Where the clone is public, as owner/name on GitHub.  Not known here: who publishes the book says
# so (the workflow does), and the links to Binder and Colab appear.
REPOSITORY = os.environ.get("PAPERLIB_REPOSITORY", "")
BRANCH = os.environ.get("PAPERLIB_BRANCH", "main")

HERE = """\
:::{{dropdown}} Run this chapter
In a clone, after `make reproduce` has set up `.venv` from `requirements.lock`:

```sh
PAPERLIB_FIGURES=build/try .venv/bin/papermill notebooks/{stem}.ipynb out.ipynb
```

`make lab` opens the notebook in JupyterLab; parameters (`-p seed 1`) stand in its first code cell.
{hosted}
:::
"""

HOSTED = """
Without a clone: [open it on Binder]({binder}), which installs `requirements.lock` first
(minutes), or [on Colab]({colab}) with this as a first cell:

```sh
!git clone --depth 1 --branch {branch} https://github.com/{repository} paperlib
%cd paperlib
!pip install --quiet --require-hashes --requirement requirements.lock
!pip install --quiet --no-deps --editable .
%cd notebooks
```
"""


def run_chapter(stem):
    """The folded box of a notebook, in Markdown."""
    hosted = ""
    if REPOSITORY:
        path = quote(f"lab/tree/notebooks/{stem}.ipynb", safe="")
        binder = f"https://mybinder.org/v2/gh/{REPOSITORY}/{BRANCH}?urlpath={path}"
        place = f"{REPOSITORY}/blob/{BRANCH}/notebooks/{stem}.ipynb"
        colab = f"https://colab.research.google.com/github/{place}"
        hosted = HOSTED.format(repository=REPOSITORY, branch=BRANCH, binder=binder, colab=colab)
    return HERE.format(stem=stem, hosted=hosted)
