"""Nearest neighbours by inner product: `index.build` makes the files, `index.search` answers from them."""
