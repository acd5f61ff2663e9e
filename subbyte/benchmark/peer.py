"""What a peer is: another engine, ready to run one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subbyte.exporters.onnx import to_nchw, to_nhwc

Outputs = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Peer:
    """A network loaded in another engine.

    name: the engine, as in peers.ENGINES. precision: "fp32", "bf16" or "int8".
    version: the engine's. file_bytes: size of the model file that it loads.
    run: float32 [N, C, H, W], contiguous, to the outputs in channels-first layout; [N, H, W, C] and
    channels-last if `channels_last`. N is the batch size that the model was exported with. The arrays
    may be overwritten by the next call.
    write: puts the model into a folder as the engine's own kind of file; its path.
    """

    name: str
    precision: str
    version: str
    file_bytes: int
    run: Callable[[np.ndarray], Outputs]
    write: Callable[[Path], Path]
    channels_last: bool = False

    @property
    def label(self) -> str:
        """Name and precision, "openvino-int8"."""
        return f"{self.name}-{self.precision}"

    def __call__(self, x: np.ndarray) -> np.ndarray | Outputs:
        """float32 [N, H, W, C] to [N, classes] or [N, H, W, C] (a tuple of them if several)."""
        outputs = tuple(np.array(y) for y in self.run(self.layout(x)))
        if not self.channels_last:
            outputs = tuple(to_nhwc(y) for y in outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def layout(self, x: np.ndarray) -> np.ndarray:
        """float32 [N, H, W, C] in the layout that `run` takes, contiguous."""
        return np.ascontiguousarray(x) if self.channels_last else to_nchw(x)
