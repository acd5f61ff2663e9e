"""The native engine, built from native/ by CMake; native/include/subbyte/engine.h describes it."""

import enum
from typing import Any

import numpy as np

class Op(enum.Enum):
    """One member per row of native/include/subbyte/ops.inc."""

    quantize = ...
    dequantize = ...
    conv2d = ...
    activation = ...
    add = ...
    mul = ...
    global_avg_pool = ...
    max_pool2d = ...
    concat = ...
    flatten = ...

class Act(enum.Enum):
    """One member per row of native/include/subbyte/activations.inc."""

    none = ...

class ValueDesc:
    name: str
    height: int
    width: int
    channels: int
    quantized: bool
    scale: float
    zero_point: int
    bits: int
    level_bits: int

class NodeDesc:
    name: str
    op: Op
    inputs: list[int]
    output: int
    groups: int
    weight_format: str
    clamp_low: int
    clamp_high: int
    pre_zero: int
    factor_a: float
    factor_b: float
    def set_window(
        self,
        kernel_h: int,
        kernel_w: int,
        stride_h: int,
        stride_w: int,
        top: int,
        bottom: int,
        left: int,
        right: int,
        /,
    ) -> None: ...
    def set_activation(self, act: Act, first: float, second: float, third: float, /) -> None: ...
    def set_table(self, table: np.ndarray, /) -> None: ...
    def set_codes(
        self, packed: np.ndarray, levels: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, /
    ) -> None: ...
    def set_multiplier(self, multiplier: np.ndarray, /) -> None: ...
    def set_real(self, weight: np.ndarray, bias: np.ndarray, /) -> None: ...

class Model:
    def __init__(
        self,
        values: list[ValueDesc],
        nodes: list[NodeDesc],
        input: int,
        outputs: list[int],
        isa: str,
        threads: int,
        streams: int,
        depth_first_above: int,
        memory_limit: int = 0,
    ) -> None: ...
    def run(self, x: np.ndarray, /) -> list[np.ndarray]: ...
    def profile(self, x: np.ndarray, /) -> list[float]: ...
    def steps(self) -> list[dict[str, Any]]: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def region_work(self) -> int: ...

def available_isas() -> list[str]: ...
def best_isa() -> str: ...
def trim() -> None: ...
def peak_dot_gmacs(isa: str, seconds: float) -> float: ...
def round_and_look_up(
    v: np.ndarray, table: np.ndarray, index: np.ndarray, out: np.ndarray, threads: int
) -> None: ...
def slope_and_sum(
    gradient: np.ndarray,
    slopes: np.ndarray,
    index: np.ndarray,
    out: np.ndarray,
    sums: np.ndarray,
    threads: int,
) -> None: ...
