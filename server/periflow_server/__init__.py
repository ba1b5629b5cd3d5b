"""The control plane of PeriFlow."""

__version__ = "0.2.0"
__all__ = ["__version__"]
