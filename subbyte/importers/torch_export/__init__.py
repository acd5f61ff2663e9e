"""torch modules to graphs. The only place that knows ATen operators."""

from subbyte.importers.rules.problems import Problem, Site
from subbyte.importers.torch_export.trace import Survey, capture, capture_program, survey

__all__ = ["Problem", "Site", "Survey", "capture", "capture_program", "survey"]
