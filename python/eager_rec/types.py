"""Types of what goes in and comes out, for annotations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional, Protocol, TypedDict, Union

import numpy as np
from numpy.typing import NDArray

# An item's id, or its number.
Item = Union[str, int, "np.integer[Any]"]


class ArrowArray(Protocol):
    """An array or record batch of any library, by Arrow's PyCapsule interface."""

    def __arrow_c_array__(self, requested_schema: Optional[object] = None) -> tuple[object, object]: ...


class ArrowStream(Protocol):
    """A chunked array, table or frame of any library, by Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Optional[object] = None) -> object: ...


Histories = Union[Iterable[Iterable[Item]], "NDArray[np.integer[Any]]", ArrowArray, ArrowStream]


class _Listed(TypedDict):
    id: str
    title: Optional[str]
    score: float
    behaviour: Optional[float]
    semantic: Optional[float]


class Listed(_Listed, total=False):
    """An item of a list; a stream that did not predict it has None. `direct` is there where the model has a direct head."""

    direct: Optional[float]


class Token(TypedDict):
    """A token of a code: which of its siblings, how likely after those before it, and what lies below."""

    token: int
    log_prob: float
    siblings: int
    leaves: int
    samples: list[str]


class Code(TypedDict):
    """A code with the log-probability of the whole."""

    log_prob: float
    tokens: list[Token]


class Explained(TypedDict):
    """An item with its codes, as a history makes them likely."""

    id: str
    title: Optional[str]
    behaviour: Code
    semantic: Code


class Near(TypedDict):
    """An item near another, with the cosine of their vectors."""

    id: str
    title: Optional[str]
    cosine: float
