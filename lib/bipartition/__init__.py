"""Companion to Choi & Hong 2021: cut a photograph in two, let a classifier say which half is the object."""

import atexit
import gc

# A process that ends is searched for cycles of objects, which takes a second for those of PyTorch and frees nothing that the
# system would not take back a moment later.
atexit.register(gc.freeze)
