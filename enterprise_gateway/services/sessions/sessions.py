"""Jupyter sessions: a path tied to a kernel."""

from enterprise_gateway.services.kernels.kernels import Kernels


class Sessions:
    """All sessions; they live in the annotations of their kernels."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
