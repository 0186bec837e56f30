"""Sessions in annotations."""

from enterprise_gateway.services.sessions.annotations import (
    Session,
    sessions_in,
    with_session,
    without_session,
)

FIRST = Session("1", "a.ipynb", "a", "notebook")
SECOND = Session("2", "b.ipynb", "b", "notebook")


def test_sessions_are_added_replaced_and_removed() -> None:
    """The list has one entry an id."""
    document = with_session(SECOND, with_session(FIRST, {}))
    assert sessions_in(document) == [FIRST, SECOND]
    renamed = Session("1", "c.ipynb", "c", "notebook")
    assert sessions_in(with_session(renamed, document)) == [SECOND, renamed]
    assert sessions_in(without_session("1", document)) == [SECOND]


def test_other_annotations_stay() -> None:
    """Whatever else is in the document is kept, and the original is not changed."""
    original = {"claimed_by": "ann"}
    assert with_session(FIRST, original)["claimed_by"] == "ann"
    assert without_session("1", original) == {"claimed_by": "ann", "sessions": []}
    assert original == {"claimed_by": "ann"}


def test_no_annotations_are_no_sessions() -> None:
    """A kernel that nobody made a session for has none."""
    assert sessions_in({}) == []
