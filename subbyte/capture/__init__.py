"""torch modules to graphs. The only place that knows ATen operators."""

from subbyte.capture.problems import Problem, Site
from subbyte.capture.trace import Survey, capture, survey

__all__ = ["Problem", "Site", "Survey", "capture", "survey"]
