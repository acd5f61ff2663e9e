"""How numbers are stored and read: the type behind every bit-width.

A Format holds no numbers. QTensor pairs one with codes, a recipe asks for one per layer, allocation chooses
among them, a target says what each costs, an artifact stores it, and the plan of the engine says which one
executes. docs/decisions/0007-formats.md says what was chosen and why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant.packing import pack, packed_size, unpack

Shape = tuple[int, ...]
Kind = Literal["int", "uint", "float"]


@dataclass(frozen=True)
class Pattern:
    """Which codes of a tensor are stored, and how: a row of PATTERNS.

    size: bytes of a shape at a width; pack: uint8 codes [O, ...] and their width to uint8 [size];
    unpack: the inverse, of bytes, shape and width; ArtifactError for bytes that `pack` never makes.
    """

    name: str
    size: Callable[[Shape, int], int]
    pack: Callable[[np.ndarray, int], np.ndarray]
    unpack: Callable[[np.ndarray, Shape, int], np.ndarray]


#: By name. A sparsity pattern is a row here; a file that names another is refused.
PATTERNS: dict[str, Pattern] = {
    "dense": Pattern("dense", lambda shape, bits: packed_size(math.prod(shape), bits), pack, unpack),
}

_TEXT = re.compile(r"(int|uint|fp)([0-9]{1,2})((?:\+[a-z0-9:]+)*)")


@dataclass(frozen=True, order=True)
class Format:
    """kind: "int" for signed codes (weights), "uint" for unsigned ones (activations), "float" for IEEE 754
    numbers. bits: of a code or number. book: codes index a code book of 2**bits int8 levels; without, they
    are the numbers in two's complement. pattern: which codes are stored (PATTERNS).

    Scales are float32, one per output channel for "int", one per tensor for "uint"; a "float" has none.
    As text: "int4", "int4+book", "int8+2:4", "uint8", "fp16".
    """

    kind: Kind
    bits: int
    book: bool = False
    pattern: str = "dense"

    def __str__(self) -> str:
        name = f"{'fp' if self.kind == 'float' else self.kind}{self.bits}"
        return name + "+book" * self.book + (f"+{self.pattern}" if self.pattern != "dense" else "")

    @property
    def scales(self) -> Literal["channel", "tensor", "none"]:
        """What shares a scale."""
        return {"int": "channel", "uint": "tensor", "float": "none"}[self.kind]  # type: ignore[return-value]

    @property
    def is_float(self) -> bool:
        """Whether numbers are stored as they are, without a grid."""
        return self.kind == "float"

    def bytes(self, shape: Shape) -> int:
        """Bytes of a tensor of that shape in a file: codes, scales and code book, without padding."""
        if self.is_float:
            return math.prod(shape) * self.bits // 8
        scales = {"channel": shape[0], "tensor": 1}[self.scales]
        return self.packed_bytes(shape) + 4 * scales + (self.book and 1 << self.bits)

    def packed_bytes(self, shape: Shape) -> int:
        """Bytes of the codes alone."""
        return PATTERNS[self.pattern].size(shape, self.bits)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """uint8 codes of any shape to uint8 [packed_bytes]: docs/spec/artifact.md."""
        return PATTERNS[self.pattern].pack(codes, self.bits)

    def unpack(self, packed: np.ndarray, shape: Shape) -> np.ndarray:
        """The inverse of `pack`. ArtifactError if the bytes are not what `pack` makes."""
        return PATTERNS[self.pattern].unpack(packed, shape, self.bits)


FP32, FP16 = Format("float", 32), Format("float", 16)
#: What a layer's weights can be quantized to (each also with a code book), and an activation; wide to narrow.
WEIGHT_FORMATS: dict[str, Format] = {f"int{bits}": Format("int", bits) for bits in (8, 4, 3, 2)}
ACTIVATION_FORMATS: dict[str, Format] = {f"uint{bits}": Format("uint", bits) for bits in (8, 4, 3, 2)}
INT8, UINT8 = WEIGHT_FORMATS["int8"], ACTIVATION_FORMATS["uint8"]


def parse_format(text: str) -> Format:
    """The format whose text this is. GraphError if it is none that this version knows."""
    found = _TEXT.fullmatch(text)
    if found is not None:
        traits = found[3].split("+")[1:]
        patterns = [trait for trait in traits if trait != "book"] or ["dense"]
        kind: Kind = "float" if found[1] == "fp" else found[1]  # type: ignore[assignment]
        parsed = Format(kind, int(found[2]), "book" in traits, patterns[0])
        known = (*WEIGHT_FORMATS.values(), *ACTIVATION_FORMATS.values(), FP32, FP16)
        plain = Format(kind, int(found[2]))
        if plain in known and patterns[0] in PATTERNS and str(parsed) == text:
            return parsed
    names = ", ".join([*WEIGHT_FORMATS, *ACTIVATION_FORMATS, "fp32", "fp16"])
    raise GraphError(f"unknown format {text!r:.80}; known: {names}")
