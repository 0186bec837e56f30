"""Every error has a status, and tells clients what it should and nothing else."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from enterprise_gateway import errors
from enterprise_gateway.errors import GatewayError, LaunchTimeoutError, UnavailableError
from enterprise_gateway.web.errors import STATUS, ErrorResponse, gateway_error_response


def subclasses(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Yield all classes below a class."""
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_class_is_in_the_table() -> None:
    """A new error class needs a status."""
    ours = {cls for cls in subclasses(GatewayError) if cls.__module__ == errors.__name__}
    assert ours == set(STATUS)


@pytest.mark.parametrize(("cls", "status"), STATUS.items())
def test_error_has_reason_and_message(cls: type[GatewayError], status: HTTPStatus) -> None:
    """The body has the phrase of the status and the error's text."""
    response = gateway_error_response(cls("what happened"))
    assert response.status == status
    assert json.loads(response.text or "") == {"reason": status.phrase, "message": "what happened"}
    assert response.content_type == "application/json"


def test_subclass_elsewhere_has_its_parents_status() -> None:
    """A bring-your-own process proxy may refine an error."""

    class ImageMissingError(LaunchTimeoutError):
        pass

    assert gateway_error_response(ImageMissingError("x")).status == STATUS[LaunchTimeoutError]


@pytest.mark.parametrize(("seconds", "header"), [(5.0, "5"), (0.2, "1"), (1.5, "2"), (0.0, "1")])
def test_unavailable_says_when_to_try_again(seconds: float, header: str) -> None:
    """Retry-After is whole seconds, at least one."""
    response = gateway_error_response(UnavailableError("engine", retry_after=seconds))
    assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.headers["Retry-After"] == header


def test_message_is_empty_if_there_is_nothing_to_say() -> None:
    """Both keys are always there: clients read them."""
    assert json.loads(ErrorResponse(HTTPStatus.NOT_FOUND).text or "") == {
        "reason": "Not Found",
        "message": "",
    }
