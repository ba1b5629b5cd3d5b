"""`pf`, the command line of PeriFlow."""

__version__ = "0.2.0"
