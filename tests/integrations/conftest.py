"""Real trainings: as jobs of two ranks, and in this process as one rank of a job or none."""

from job_run import client, run, run_on
from run_folder import Run, enter, job, local

__all__ = ["Run", "client", "enter", "job", "local", "run", "run_on"]
