"""The numpy executor: slow, exact, and the definition that the others are compared with."""

from subbyte.execute.reference.executor import run
from subbyte.ir import activation_function

__all__ = ["activation_function", "run"]
