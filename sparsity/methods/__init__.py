"""One paper per file: `sparsity/methods/mine.py` holds `def mine(partition, *, ...) -> Method`.

A config names the file; its keyword arguments are the config's section. Nothing else lists it.
"""
