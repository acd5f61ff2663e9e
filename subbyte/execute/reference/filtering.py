"""Winograd's minimal filtering F(2 x 2, 3 x 3), as docs/spec/numerics.md allows it: where, and its terms.

The reference computes no layer in this way; its bounds have to cover executors that do.
"""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.windows import patches
from subbyte.ir import Node

# |B'|, |G| and |A'| of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
_INPUT = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]], np.float64)
_FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]], np.float64)
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], np.float64)


def may_filter(node: Node) -> bool:
    """Whether an executor may filter this conv2d: 3 x 3 taps side by side, stride 1, one group."""
    attrs = node.attrs
    return (
        node.op == "conv2d"
        and node.params["weight"].shape[1:3] == (3, 3)
        and tuple(attrs["stride"]) == (1, 1)
        and attrs["groups"] == 1
        and tuple(attrs.get("dilation", (1, 1))) == (1, 1)
    )


def filtered_magnitudes(x: np.ndarray, weight: np.ndarray, pad: tuple[int, int, int, int]) -> np.ndarray:
    """S of numerics.md, float64 [N, H', W', O], for |inputs| [N, H, W, C] and |weights| [O, 3, 3, C].

    pad: top, bottom, left, right. Squares of 2 x 2 outputs begin at even rows and columns.
    """
    top, bottom, left, right = pad
    height, width = x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2
    square = patches(x, (4, 4), (2, 2), (top, bottom + height % 2, left, right + width % 2))
    n, down, across, _, channels = square.shape
    square = square.reshape(n, down, across, 4, 4, channels).astype(np.float64)
    spread = np.einsum("ai,bj,nhwijc->nhwabc", _INPUT, _INPUT, square)
    filters = np.einsum("ai,bj,oijc->oabc", _FILTER, _FILTER, weight)
    sums = np.einsum("nhwabc,oabc->nhwabo", spread, filters)
    result = np.einsum("ia,jb,nhwabo->nhiwjo", _OUTPUT, _OUTPUT, sums)
    return result.reshape(n, 2 * down, 2 * across, -1)[:, :height, :width]
