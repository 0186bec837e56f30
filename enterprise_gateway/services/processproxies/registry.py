"""Process proxies by class name: one object for each class that some kernelspec names."""

import asyncio
import importlib
import inspect

from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.processproxies.engine.client import DockerEngine
from enterprise_gateway.services.processproxies.injection.bundle import BundleMaker
from enterprise_gateway.services.processproxies.launch.base import (
    LaunchTools,
    ReportingProcessProxy,
)
from enterprise_gateway.services.processproxies.pulls.pulls import Pulls
from enterprise_gateway.services.processproxies.responses.listener import ResponseListener
from enterprise_gateway.services.processproxies.scripts.runner import ScriptRunner
from enterprise_gateway.settings import LiveSettings

LOCAL_PROCESS_PROXY = "enterprise_gateway.services.processproxies.processproxy.LocalProcessProxy"
DOCKER_PROCESS_PROXY = "enterprise_gateway.services.processproxies.docker_swarm.DockerProcessProxy"
SWARM_PROCESS_PROXY = (
    "enterprise_gateway.services.processproxies.docker_swarm.DockerSwarmProcessProxy"
)
BUILT_IN = (LOCAL_PROCESS_PROXY, DOCKER_PROCESS_PROXY, SWARM_PROCESS_PROXY)
"""Created at every start: kernels of an earlier gateway must be found, even if their kernelspec is
gone.

Any other class is created at the start if a kernelspec that exists then names it
(`services/composition.py`), else at the first start of a kernel of it on this replica.
"""


_PORTING = (
    " Process proxies written for Enterprise Gateway have to be ported: "
    "docs/writing-process-proxies.md, section 'How to port one of Enterprise Gateway', says how."
)


class ProxyRegistry:
    """Owns the process proxies and their shared tools."""

    def __init__(self, live: LiveSettings) -> None:
        self._live = live
        engine = DockerEngine(live.current.docker, live.current.host.home)
        self._tools = LaunchTools(
            ResponseListener(live), ScriptRunner(), engine, BundleMaker(), Pulls(live, engine)
        )
        self._proxies: dict[type[BaseProcessProxyABC], BaseProcessProxyABC] = {}
        self._starting: dict[BaseProcessProxyABC, asyncio.Task[None]] = {}
        self._started = False

    async def start(self) -> None:
        """Start the built-in process proxies and those named so far; raise the first failure."""
        for name in BUILT_IN:
            self.get(name)
        self._tools.responses.start()
        self._tools.engine.open()
        self._started = True
        await asyncio.gather(*(proxy.start() for proxy in self._proxies.values()))

    async def close(self) -> None:
        """Close the process proxies and their tools; kernels continue."""
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await asyncio.gather(*(proxy.close() for proxy in self._proxies.values()))
        await self._tools.pulls.close()
        await self._tools.scripts.close()
        await self._tools.responses.close()
        await self._tools.engine.close()

    def get(self, class_name: str) -> BaseProcessProxyABC:
        """Return the one object of a class, given as in `metadata.process_proxy.class_name`.

        Raises:
            ConfigurationError: there is no such class, or it is not a process proxy.
        """
        proxy_class = load_class(class_name)
        proxy = self._proxies.get(proxy_class)
        if proxy is None:
            proxy = self._proxies[proxy_class] = self._make(proxy_class)
            if self._started:
                self._starting[proxy] = asyncio.get_running_loop().create_task(proxy.start())
        return proxy

    def _make(self, proxy_class: type[BaseProcessProxyABC]) -> BaseProcessProxyABC:
        try:
            if issubclass(proxy_class, ReportingProcessProxy):
                return proxy_class(self._live, self._tools)
            return proxy_class(self._live)
        except Exception as exc:
            raise ConfigurationError(
                f"The process proxy {proxy_class.__qualname__} cannot be created: "
                f"{type(exc).__name__}: {exc}"
            ) from exc

    def all(self) -> list[BaseProcessProxyABC]:
        """Return all process proxies."""
        return list(self._proxies.values())


def load_class(class_name: str) -> type[BaseProcessProxyABC]:
    """Import a process proxy class.

    Raises:
        ConfigurationError: as `ProxyRegistry.get`.
    """
    module_name, _, attribute = class_name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:  # a module is a program, which may raise anything
        raise ConfigurationError(
            f"The process proxy class '{class_name}' cannot be imported: {exc}. Correct "
            "class_name in the kernelspec's metadata.process_proxy, or install its "
            f"package where the gateway runs.{_PORTING if _is_written_for_eg(exc) else ''}"
        ) from exc
    found = getattr(module, attribute, None)
    if (
        inspect.isclass(found)
        and issubclass(found, BaseProcessProxyABC)
        and not inspect.isabstract(found)
    ):
        return found
    porting = _PORTING if hasattr(found, "launch_process") else ""
    offered = [
        name
        for name, candidate in inspect.getmembers(module, inspect.isclass)
        if issubclass(candidate, BaseProcessProxyABC) and not inspect.isabstract(candidate)
    ]
    raise ConfigurationError(
        f"'{class_name}' is not a process proxy class (a subclass of BaseProcessProxyABC "
        f"with all its methods). {module_name} has: {', '.join(offered) or 'none'}. "
        f"Correct class_name in the kernelspec's metadata.process_proxy.{porting}"
    )


def _is_written_for_eg(exc: Exception) -> bool:
    """Return whether the missing module or class is one of Enterprise Gateway's."""
    return isinstance(exc, ImportError) and str(exc.name).startswith("enterprise_gateway.")
