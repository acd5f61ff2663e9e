"""What a network's outputs mean: one task a row of TASKS (numpy and pillow; losses need torch)."""

from subbyte.tasks.prediction import predict
from subbyte.tasks.table import TASKS, artifact_task, named, task_of
from subbyte.tasks.task import Task

__all__ = ["TASKS", "Task", "artifact_task", "named", "predict", "task_of"]
