"""Kernels other than Python's, as services; tests/languages has the rest."""

from contextlib import closing

import pytest
from harness.clients.cells import expect_example, expect_failure, expect_plot, is_output_of
from harness.clients.languages import R
from harness.gateways.replica import ReplicaGroup

pytestmark = [pytest.mark.docker, pytest.mark.kernel]


def test_r_kernel_is_a_service_like_any_other(replicas: ReplicaGroup) -> None:
    """Output, a value, a plot, an interrupt, a restart, each by way of another replica."""
    kernel_id = replicas.start_kernel(R.kernel)
    path = f"/api/kernels/{kernel_id}"
    with closing(replicas.connect(kernel_id)) as channels:
        expect_example(channels, R.hello)
        expect_plot(channels, R.plot)
        assert channels.execute(R.keep).status == "ok"
        request_id = channels.start_execution(R.loop)
        channels.receive_until(is_output_of(request_id))
        assert replicas.request("POST", f"{path}/interrupt").status_code == 204
        assert channels.finish_execution(request_id).status != "ok"
        expect_example(channels, R.kept)
        restart = replicas.request("POST", f"{path}/restart")
        assert restart.status_code == 200, restart.text
        expect_failure(channels, R.forgotten)
    assert replicas.request("DELETE", path).status_code == 204
    replicas.wait_until_no_kernels()
