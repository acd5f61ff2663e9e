"""The numpy executor: slow, exact, and the definition that the others are compared with."""

from subbyte.ir import activation_function
from subbyte.execute.reference.executor import run

__all__ = ["activation_function", "run"]
