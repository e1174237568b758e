"""EAGER in Python: what a trained bundle recommends, and why.

>>> import eager_rec
>>> bundle = eager_rec.Bundle.load("beauty")
>>> lists = bundle.recommend([["B004756YJA", "B004ZT0SSG"]], k=10)
>>> lists.ids[0], lists.scores[0]

A bundle is the folder that ``eager export`` makes of a trained run.
"""

import os as _os

# Elementwise operations on large tensors would otherwise share one spinning pool among all threads of the process, so that
# they wait for each other. Read once, at the first such operation; a value of your own is left alone.
_os.environ.setdefault("CANDLE_NUM_THREADS", "1")

from eager_rec._native import (  # noqa: E402
    Bundle,
    BundleError,
    Lists,
    TextEncoder,
    __version__,
)

__all__ = ["Bundle", "BundleError", "Lists", "TextEncoder", "__version__"]
