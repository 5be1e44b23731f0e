"""Tables that a program writes into a page of the docs."""

from pathlib import Path

from paperlib.store import write_text


def write_between(page: Path, mark: str, text: str) -> None:
    """Replace what stands in a page between `<!-- mark -->` and `<!-- /mark -->`.

    Raises ValueError for a page without the marks.
    """
    start, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    old = page.read_text()
    before, found, rest = old.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} has no marks {start.strip()} and {end}")
    write_text(page, f"{before}{start}{text}{end}{after}")
