"""Numbers of bytes, as people write them."""

import pytest

from enterprise_gateway.settings.values.sizes import read_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("5", 5),
        ("5b", 5),
        ("007k", 7 << 10),
        (" 5K ", 5 << 10),
        ("5mb", 5 << 20),
        ("5Gi", 5 << 30),
        ("1TiB", 1 << 40),
        ("1048576t", 1 << 60),
    ],
)
def test_size_may_be_in_dockers_and_kubernetes_words(text: str, size: int) -> None:
    """With any spelling of the unit."""
    assert read_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1.5g", "5x", "5 m", "5bb", "5p", "1048577t", "\u0665", "5\u212a"]
)
def test_text_that_is_no_size_is_none(text: str) -> None:
    """Other digits than ASCII's and more than any machine has, too."""
    assert read_size(text) is None
