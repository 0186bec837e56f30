"""Workload names."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enterprise_gateway.services.processproxies.workloads.names import (
    escape_username,
    unescape_username,
    username_of,
    workload_name,
)

KERNEL_ID = str(uuid.UUID(int=7))
DOCKER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
HOST_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
AWKWARD = st.text(alphabet="ab-_@.hé/ ", max_size=30) | st.text(max_size=80)


@given(username=AWKWARD)
def test_name_is_legal_for_docker_and_as_host_name(username: str) -> None:
    """Any user name gives a valid name for a container and a host."""
    name = workload_name(username, KERNEL_ID)
    assert DOCKER_NAME.fullmatch(name)
    assert HOST_NAME.fullmatch(name)


@given(one=AWKWARD, other=AWKWARD)
def test_names_of_distinct_users_are_distinct(one: str, other: str) -> None:
    """Two names are equal only if the users are the same."""
    assert (escape_username(one) == escape_username(other)) == (one == other)


@given(username=AWKWARD)
def test_operator_reads_the_name_as_the_user_writes_it(username: str) -> None:
    """Unless it is too long for a host name; then its beginning remains."""
    escaped = escape_username(username)
    assert unescape_username(escaped) == (escaped if "--h" in escaped else username)


@given(username=AWKWARD)
def test_username_can_be_read_from_the_name(username: str) -> None:
    """The escaped user name is found again, even with hyphens in it."""
    assert username_of(workload_name(username, KERNEL_ID), KERNEL_ID) == escape_username(username)


@pytest.mark.parametrize(
    ("username", "escaped"),
    [
        ("ann", "ann"),
        ("Ann2", "Ann2"),
        ("ann-marie", "ann-marie"),
        ("ann@example.org", "ann--40example--2eorg"),
        ("a--b", "a--2d--2db"),
        ("ann-", "ann--2d"),
    ],
)
def test_escaping_is_as_documented(username: str, escaped: str) -> None:
    """Plain names stay as they are, other bytes become `--` and two digits."""
    assert escape_username(username) == escaped


@pytest.mark.parametrize("username", ["", "@ann", "a" * 27, "jürgen.müller@example.org"])
def test_name_that_cannot_be_escaped_is_digested(username: str) -> None:
    """A name that would be too long or begin with a hyphen keeps its plain beginning."""
    assert re.fullmatch(r"[a-zA-Z0-9]{1,7}--h[a-z2-7]{16}", escape_username(username))


def test_foreign_container_name_has_no_username() -> None:
    """A name of another form is not parsed."""
    assert username_of("something-else", KERNEL_ID) == ""
