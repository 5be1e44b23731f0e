"""This paper's reproduction: claims, published figures, tiers and the runner of the notebooks.

The rest of the package is anybody's and never imports this.
"""
