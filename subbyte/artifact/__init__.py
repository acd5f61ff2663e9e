"""The file that compression writes and the engine reads: docs/spec/artifact.md (numpy only)."""

from subbyte.artifact.artifact import Artifact
from subbyte.artifact.file import load, save

__all__ = ["Artifact", "load", "save"]
