"""Nearest neighbours by inner product: `index.builder` makes the files, `index.search` answers from them."""
