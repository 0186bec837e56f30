"""Whether the gateway can start kernels."""

import asyncio

from enterprise_gateway.errors import UnavailableError
from enterprise_gateway.services.kernels.kernels import Kernels
from enterprise_gateway.services.processproxies.contract import BaseProcessProxyABC
from enterprise_gateway.services.proxies import Proxies

CHECK_SECONDS = 5.0


async def missing_engines(kernels: Kernels, proxies: Proxies) -> list[str]:
    """Return what keeps the gateway from being ready, in words; nothing if it is.

    A process proxy counts if its engine has answered before or is named in the settings: where
    there never was a Docker engine, the gateway is ready for local kernels.
    """
    counted = [proxy for proxy in proxies.all() if kernels.counts(proxy)]
    faults = await asyncio.gather(*(_fault(proxy) for proxy in counted))
    return [fault for fault in faults if fault]


async def _fault(proxy: BaseProcessProxyABC) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await proxy.check()
    except UnavailableError as exc:
        return f"{type(proxy).__name__}: {exc}"
    except TimeoutError:
        return f"{type(proxy).__name__}: its engine does not answer"
    return ""
