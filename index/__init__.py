"""Nearest neighbours by inner product: `index.builder` makes the files, `index.search` answers from them."""

import os

# FAISS's threads wait asleep. Where processors are shared, those that spin for the end of a short parallel loop took
# thirty times the CPU time of the learning itself. OpenMP reads this when FAISS is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
