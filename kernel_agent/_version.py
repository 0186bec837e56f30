"""The version of the package, stated nowhere else."""

__version__ = "0.1.0"
