"""A run in a job and a run outside one, with the same tests for both."""

from run_folder import Run, enter, job, local, run

__all__ = ["Run", "enter", "job", "local", "run"]
