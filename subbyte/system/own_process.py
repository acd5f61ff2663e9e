"""Measurements in a process of their own, where nothing has run before and no threads are left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from subbyte.errors import InputError

TIMEOUT_SECONDS = 600


def ask(module: str, job: dict[str, Any], subject: str, seconds: float = 0) -> Any:
    """Runs `python -m MODULE JOB`, the job as JSON, and returns the JSON that it prints last.

    The process may use the CPUs that the calling thread may use. It is given TIMEOUT_SECONDS more than
    `seconds`, which the job itself is meant to take.

    Raises InputError, which names `subject`, if it fails.
    """
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", module, json.dumps(job)]
    environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    timeout = TIMEOUT_SECONDS + seconds
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"it took more than {timeout:g} s"
    raise InputError(f"{subject} cannot be measured in a process of its own: {reason}")
