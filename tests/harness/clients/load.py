"""Kernels that print all the time, and clients that want every line of it."""

import logging
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from harness.clients.load_client import LoadClient
from harness.clients.load_record import Figures
from harness.clients.load_rest import RestClient
from jupyter_wire.messages import Codec

FIRST_LINES = 20
PAUSE = 0.02
"""Seconds between two lines of a kernel: ten kernels print 500 lines a second at most."""
PRINT_UNTIL_INTERRUPTED = f"""\
import signal, time
interrupts = []
signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
count = 0
while not interrupts:
    print(count, flush=True)
    count += 1
    time.sleep({PAUSE})
count"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Printing:
    """A client whose kernel prints numbered lines, and has the next request waiting."""

    client: LoadClient
    request_id: str
    next_id: str

    def check(self) -> int:
        """Check that all came, in the kernel's order and once; returns how many lines are lost.

        Ends as an assertion if anything but lines is missing, or something is out of order.
        """
        execution = self.client.record.execution(self.request_id)
        assert execution.status == "ok"
        count = int(execution.result)
        iopub = [message for message in execution.messages if message.channel == "iopub"]
        assert iopub[0].content["execution_state"] == "busy"
        assert iopub[1].type == "execute_input"
        assert iopub[-1].content["execution_state"] == "idle"
        assert len(execution.of_type("execute_reply")) == 1
        lines = [int(line) for line in execution.stdout.split()]
        assert lines == sorted(set(lines)), "lines are out of order"
        assert self.client.record.execution(self.next_id).result == str(2 * count)
        return count - len(lines)


class Load:
    """Clients, each with a kernel of its own that prints, while the context lasts.

    Every other one speaks the legacy codec, as a Jupyter server does.
    """

    def __init__(self, kernels: Sequence[str], orders: Sequence[Sequence[str]], token: str) -> None:
        """Each client takes one of `orders`: URLs of gateways as it tries them, round and round."""
        self.printing: list[Printing] = []
        self._kernels = kernels
        self._orders = orders
        self._token = token
        self._stack = ExitStack()

    @property
    def clients(self) -> list[LoadClient]:
        """The clients, in the order of their kernels."""
        return [printing.client for printing in self.printing]

    def __enter__(self) -> Self:
        """Let the kernels print, each with a second request behind; returns when all do."""
        with ExitStack() as stack:
            for number, kernel_id in enumerate(self._kernels):
                order = self._orders[number % len(self._orders)]
                session_id = f"printing-{number}-{secrets.token_hex(4)}"
                codec = list(Codec)[number % 2]
                client = LoadClient(kernel_id, order, self._token, session_id, codec)
                stack.callback(client.close)
                request_id = client.channels.start_execution(PRINT_UNTIL_INTERRUPTED)
                next_id = client.channels.start_execution("2 * count")
                self.printing.append(Printing(client, request_id, next_id))
            for client in self.clients:
                client.wait_for_line(FIRST_LINES)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the clients; the kernels go on."""
        self._stack.close()

    def wait_for_more(self, lines: int) -> None:
        """Wait until each client has got so many more lines."""
        for client, target in [(each, each.printed + lines) for each in self.clients]:
            client.wait_for_line(target)

    def finish(self, rest: RestClient) -> Figures:
        """End the cells, check what came of them, and return the figures."""
        for client in self.clients:
            response = rest.ask("POST", f"/api/kernels/{client.kernel_id}/interrupt")
            assert response.status_code == 204, response.text
        for printing in self.printing:
            printing.client.wait_for_end(printing.request_id)
            printing.client.wait_for_end(printing.next_id)
        outages = [outage for client in self.clients for outage in client.record.outages()]
        figures = Figures(
            clients=len(self.clients),
            messages=sum(len(client.record.messages) for client in self.clients),
            lost=sum(printing.check() for printing in self.printing),
            outages=tuple(outages),
        )
        logger.info("%s", figures)
        assert figures.lost == 0
        # the rest was acknowledged
        assert all(outage.repeated < outage.known for outage in outages)
        return figures
