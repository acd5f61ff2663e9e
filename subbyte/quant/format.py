"""How numbers are stored and read: the type behind every bit-width.

A Format holds no numbers. QTensor pairs one with codes, a recipe asks for one per layer, allocation chooses
among them, a target says what each costs, an artifact stores it, and the plan of the engine says which one
executes. docs/decisions/0007-formats.md says what was chosen and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant.pattern import DENSE, Pattern, Shape
from subbyte.quant.sparsity import NAMES, find_pattern

Kind = Literal["int", "uint", "float"]


@dataclass(frozen=True, repr=False)
class Format:
    """kind: "int" for signed codes (weights), "uint" for unsigned ones (activations), "float" for IEEE 754
    numbers. bits: of a code or number. book: there is a code book of 2**bits levels. Those of "int" are int8,
    and codes index them; without, codes are the numbers in two's complement. Those of "uint" are uint8, and
    a number is stored as its level, a byte; without, as a code 0 .. 2**bits - 1. pattern: which codes are
    stored.

    Scales are float32, one per output channel for "int", one per tensor for "uint"; a "float" has none.
    As text: "int4", "int4+book", "int8+2:4" (of a pattern so called), "uint8", "uint4+levels", "fp16".
    Raises GraphError for a code book of floats, of a pattern's codes (a pattern leaves out zeros, which a
    code book need not have), or of all 256 bytes that an activation can be.
    """

    kind: Kind
    bits: int
    book: bool = False
    pattern: Pattern = DENSE

    def __post_init__(self) -> None:
        fits = self.kind == "int" or (self.kind == "uint" and self.bits < 8)
        if self.book and not (fits and self.pattern == DENSE):
            raise GraphError(
                f"only dense weights and activations below 8 bits can have a code book, not {self.plain}"
            )

    def __str__(self) -> str:
        name = f"{'fp' if self.kind == 'float' else self.kind}{self.bits}"
        book = {"int": "+book", "uint": "+levels"}.get(self.kind, "")
        return name + book * self.book + f"+{self.pattern.name}" * (self.pattern != DENSE)

    def __repr__(self) -> str:
        return f"Format({self})"

    @property
    def short(self) -> int | str:
        """The bits, where these say everything to who knows the kind, else the text; so do files."""
        return str(self) if self.is_float or self.book or self.pattern != DENSE else self.bits

    @property
    def words(self) -> str:
        """For people: "4 bits", "4-bit levels in a byte", or the text."""
        if self.kind == "uint" and self.book:
            return f"{self.bits}-bit levels in a byte"
        return f"{self.bits} bits" if self.short == self.bits else str(self)

    @property
    def is_float(self) -> bool:
        """Whether numbers are stored as they are, without a grid."""
        return self.kind == "float"

    @property
    def plain(self) -> Format:
        """Without the code book."""
        return replace(self, book=False) if self.book else self

    @property
    def dense(self) -> Format:
        """Without code book and pattern."""
        return replace(self, book=False, pattern=DENSE) if self.book or self.pattern != DENSE else self

    @property
    def of_weights(self) -> bool:
        """Whether weights can be quantized to it: a row of WEIGHT_FORMATS, also with code book or pattern."""
        return self.dense in WEIGHT_FORMATS.values() and find_pattern(self.pattern.name) == self.pattern

    def with_book(self, levels: np.ndarray) -> Format:
        """With a code book if these levels, int8 [2**bits], are not two's complement."""
        return replace(self, book=not np.array_equal(levels, uniform_levels(self.bits)))

    @property
    def scales(self) -> Literal["channel", "tensor", "none"]:
        """What shares a scale."""
        scales: dict[str, Literal["channel", "tensor", "none"]] = {"int": "channel", "uint": "tensor"}
        return scales.get(self.kind, "none")

    def scale_bytes(self, shape: Shape) -> int:
        """Bytes of the scales of a tensor of that shape."""
        return 4 * {"channel": shape[0], "tensor": 1, "none": 0}[self.scales]

    def bytes(self, shape: Shape) -> int:
        """Bytes of a tensor of that shape in a file: codes, scales and code book."""
        return self.packed_bytes(shape) + self.scale_bytes(shape) + (1 << self.bits if self.book else 0)

    def packed_bytes(self, shape: Shape) -> int:
        """Bytes of the codes, or floats, alone."""
        if self.is_float:
            return math.prod(shape) * self.bits // 8
        if self.kind == "uint" and self.book:
            return math.prod(shape)
        return self.pattern.size(shape, self.bits)

    @property
    def width(self) -> float:
        """Bits that a number takes up in a large tensor: `bits`, less what a pattern leaves out."""
        return self.packed_bytes((256, 256)) / (1 << 13)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """uint8 codes of any shape to uint8 [packed_bytes]: docs/spec/artifact.md."""
        return self.pattern.pack(codes, self.bits)

    def unpack(self, packed: np.ndarray, shape: Shape) -> np.ndarray:
        """The inverse of `pack`. ArtifactError if the bytes are not what `pack` makes."""
        return self.pattern.unpack(packed, shape, self.bits)


FP32, FP16 = Format("float", 32), Format("float", 16)
#: What numbers of layers can be that are not quantized; by text, like the next two.
FLOAT_FORMATS: dict[str, Format] = {"fp32": FP32, "fp16": FP16}
#: What a layer's weights can be quantized to (dense ones also with a code book); wide to narrow.
WEIGHT_FORMATS: dict[str, Format] = {f"int{bits}": Format("int", bits) for bits in (8, 4, 3, 2)}
#: What an activation can be quantized to (those below 8 bits also to levels, QParams.levels).
ACTIVATION_FORMATS: dict[str, Format] = {f"uint{bits}": Format("uint", bits) for bits in (8, 4, 3, 2)}
INT8, UINT8 = WEIGHT_FORMATS["int8"], ACTIVATION_FORMATS["uint8"]


def uniform_levels(bits: int) -> np.ndarray:
    """The int8 value of each code 0 .. 2**bits - 1 for plain two's complement codes."""
    codes = np.arange(1 << bits, dtype=np.int16)
    return np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes).astype(np.int8)


def weight_format(value: object) -> Format:
    """The format of weights that people write as 4, "int4" or "int4+2:4". GraphError if there is none."""
    if isinstance(value, (str, Format)):
        format = value if isinstance(value, Format) else _patterned(value)
        if format is not None and format.of_weights and not format.book:
            return format
        if isinstance(value, str) and "+" in value:
            known = ", ".join(WEIGHT_FORMATS)
            raise GraphError(f"weights can be {known}, each with {NAMES}, not {value!r:.80}")
    return _row(value, "weights", WEIGHT_FORMATS)


def activation_format(value: object) -> Format:
    """The format of activations that people write as 4 or "uint4". GraphError if there is none."""
    return _row(value, "activations", ACTIVATION_FORMATS)


def _row(value: object, what: str, table: Mapping[str, Format]) -> Format:
    for row in table.values():
        if type(value) in (int, str, Format) and value in (row, row.short, str(row)):
            return row
    known = ", ".join(str(row.short) for row in table.values())
    raise GraphError(f"{what} can have {known} bits, not {value!r:.80}")


def _patterned(text: str) -> Format | None:
    """The format of weights with a pattern whose text this is, None if it is none."""
    bits, _, name = text.partition("+")
    row, pattern = WEIGHT_FORMATS.get(bits), find_pattern(name)
    return None if row is None or pattern in (None, DENSE) else replace(row, pattern=pattern)


def pattern_named(name: object) -> Pattern:
    """The pattern that a recipe writes as "dense", "2:4" or "4x16:50". GraphError if there is none."""
    pattern = find_pattern(name) if isinstance(name, str) else None
    if pattern is None:
        raise GraphError(f"a pattern of weights is dense, {NAMES}, not {name!r:.80}")
    return pattern


def parse_format(text: str) -> Format:
    """The format whose text this is. GraphError if it is none that this version knows."""
    known = {**WEIGHT_FORMATS, **ACTIVATION_FORMATS, **FLOAT_FORMATS}
    plain = known.get(text.removesuffix("+levels" if text.startswith("uint") else "+book"))
    if plain is not None:
        return replace(plain, book=text != str(plain))
    patterned = _patterned(text)
    if patterned is None:
        raise GraphError(
            f"unknown format {text!r:.80}; known: {', '.join(known)}; of weights also with {NAMES}"
        )
    return patterned
