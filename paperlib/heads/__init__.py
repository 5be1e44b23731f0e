"""The head in which each class reads only its own filters: cut, mended, searched, and its cost."""

from paperlib.heads.accuracy import AccuracyCurve, correct_by_k
from paperlib.heads.decomposed import DecomposedHead, DenseWeight, sparse_product
from paperlib.heads.finetune import correct_images, finetune_network
from paperlib.heads.refit import fit_by_softmax, least_squares_refit, mean_fill, softmax_refit
from paperlib.heads.selection import RANKINGS, backward_selection, forward_selection
