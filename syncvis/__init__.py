"""SyncVIS workbench: the trainable core (arXiv 2412.00882) and the methods it stands on.

From data to table, in reading order: ``data`` -> ``structures.ClipBatch`` -> ``methods`` (``encode``, ``decode``) ->
``losses`` -> ``training.run`` -> ``evaluation``; then ``sweeps`` (many runs) and ``analysis`` (tables and curves).
"""

__version__ = "0.1.0"
