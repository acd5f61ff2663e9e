"""Running artifacts on the native engine (no torch)."""

from subbyte.execute.native.session import Session, available_isas, best_isa

__all__ = ["Session", "available_isas", "best_isa"]
