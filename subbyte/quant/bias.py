"""How large a quantized bias may be, stage by stage, in units of its accumulator.

An accumulator is `sum |w| * 255 + |B|` < 2**31 at most (docs/spec/numerics.md). A bias may take half of
it; the other half has room for 2**30 / (127 * 255), over 33,000 products. Every stage of compression leaves
the next one room for twice its bias, which it becomes when a scale is halved:

    2**28  rounding: a channel's scale is at least so large that its bias stays below
    2**29  correction and training: the biases they make are clipped there
    2**30  the end: `quantize_bias` refuses more
"""

from __future__ import annotations

LARGEST = 1 << 30
LARGEST_TRAINED = LARGEST >> 1
LARGEST_ROUNDED = LARGEST_TRAINED >> 1
#: A channel without weights has a scale for its bias alone, which becomes so many units: rounding moves it by
#: 2**-21 of its value at most.
ALONE = 1 << 20
