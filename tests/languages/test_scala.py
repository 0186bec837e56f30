"""What only Scala has: Spark and magics. Spark that starts when it is used is in the table."""

import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from harness.clients.cells import execute, expect_example
from harness.clients.channels import Channels
from harness.clients.languages import SCALA, Example
from harness.gateways.gateway import Gateway

pytestmark = [pytest.mark.docker, pytest.mark.kernel]

EAGER = {"KERNEL_SPARK_CONTEXT_INIT_MODE": "eager"}


@pytest.fixture(scope="module")
def channels(gateway: Gateway) -> Iterator[Channels]:
    """A WebSocket to a kernel with Spark from its start, whose user the image does not know."""
    kernel_id = gateway.start_kernel(SCALA.kernel, {**EAGER, "KERNEL_UID": "12345"})
    with closing(gateway.connect(kernel_id)) as connected:
        yield connected
    gateway.delete_kernel(kernel_id)


def test_spark_is_there_before_the_first_cell(channels: Channels) -> None:
    """And works for a user without a name."""
    is_started = "org.apache.spark.sql.SparkSession.getDefaultSession.isDefined"
    expect_example(channels, Example(is_started, "true"))
    expect_example(channels, Example("sc.parallelize(1 to 10).sum", "55.0"))


def test_reason_is_told_if_spark_does_not_start(gateway: Gateway) -> None:
    """At once, in the words of Spark."""
    env = {**EAGER, "KERNEL_USERNAME": gateway.username, "JDK_JAVA_OPTIONS": "-Xmx400m"}
    response = gateway.request("POST", "/api/kernels", json={"name": SCALA.kernel, "env": env})
    assert not response.ok
    assert re.search("exit.* 1.*System memory", response.json()["message"], re.DOTALL), (
        response.text
    )


def test_magics_work(channels: Channels) -> None:
    """Those of Toree, which `%lsmagic` lists."""
    assert "%%html" in execute(channels, "%lsmagic").stdout
    (result,) = execute(channels, "%%html <b>x</b>").of_type("execute_result")
    assert result.content["data"] == {"text/html": "<b>x</b>"}


def test_error_is_told_without_its_text(channels: Channels) -> None:
    """Where Toree shows no output it has the error's name all the same."""
    assert execute(channels, "%showoutput off").status == "ok"
    (error,) = execute(channels, "1 / 0").of_type("error")
    assert error.content["evalue"] == "/ by zero"
