"""Which filters of a deep CNN decide a class: the helper package behind the notebooks.

Reproduces "Decomposing the Deep: Finding Class Specific Filters in Deep CNNs"
(arXiv 2112.07719, doi 10.1007/s00521-023-08441-z).  `features` turns images into a
`FeatureBank`, `filters` ranks the filters of each class, `decomposition` cuts the head to them.
"""

__version__ = "0.1.0"
