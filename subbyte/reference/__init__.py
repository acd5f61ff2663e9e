"""The numpy executor: slow, exact, and the definition that the others are compared with."""

from subbyte.reference.activations import activation_function
from subbyte.reference.executor import run

__all__ = ["activation_function", "run"]
