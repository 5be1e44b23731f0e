"""Which filters decide a class: counting, ranking and response mass; tensors in, tensors out."""
