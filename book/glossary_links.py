"""A Sphinx extension: the first use of a glossary term on a page is a link to its definition.

The notebooks and pages stay plain Markdown, readable on any host.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

GLOSSARY = "glossary"
# Where a word is not prose, or a link already
NOT_PROSE = (
    nodes.reference,
    nodes.literal,
    nodes.math,
    nodes.title,
    addnodes.pending_xref,
    addnodes.download_reference,
)


class GlossaryLinks(SphinxPostTransform):
    """Links each term once a page, in paragraphs, lists and tables."""

    default_priority = 5  # before Sphinx resolves the links that authors wrote
    formats = ("html",)

    def run(self, **kwargs):
        """Goes through the page's text in order."""
        terms = {} if self.env.docname == GLOSSARY else self.anchors()
        for text in list(self.document.findall(nodes.Text)) if terms else ():
            if is_prose(text):
                self.link(text, terms)

    def anchors(self):
        """The anchor of every form of every term; the forms of one term share that of the first."""
        entries = self.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item)
        return {
            form.astext().lower(): next(entry.findall(nodes.term))["ids"][0]
            for entry in entries
            for form in entry.findall(nodes.term)
        }

    def link(self, text, terms):
        """Splits a text at the terms that are still to be linked, the longest first."""
        longest_first = sorted(terms, key=len, reverse=True)
        pattern = rf"(?<![\w-])({'|'.join(map(re.escape, longest_first))})(?![\w-])"
        pieces, end = [], 0
        for match in re.finditer(pattern, text, re.I):
            anchor = terms.get(match[0].lower())
            if anchor is None:  # linked a few words before
                continue
            for form in [form for form, other in terms.items() if other == anchor]:
                del terms[form]
            word = nodes.inline(match[0], match[0], classes=["glossary-term"])
            link = make_refnode(self.app.builder, self.env.docname, GLOSSARY, anchor, word)
            pieces += [nodes.Text(text[end : match.start()]), link]
            end = match.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[end:])])


def is_prose(text):
    """Whether a text stands in a paragraph, outside links, code, equations, and cards."""
    node, inside_paragraph = text.parent, False
    while node is not None:
        if isinstance(node, NOT_PROSE) or "sd-card" in node.get("classes", []):
            return False
        inside_paragraph |= isinstance(node, nodes.paragraph)
        node = node.parent
    return inside_paragraph


def setup(app):
    """Sphinx's entry point."""
    app.add_post_transform(GlossaryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
