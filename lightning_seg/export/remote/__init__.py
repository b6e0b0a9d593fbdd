"""Files that `export hf` copies beside the network's own: they import only torch, transformers and
each other.

``network.py``, which they import, is written by the export: it says which class is the network.
"""
