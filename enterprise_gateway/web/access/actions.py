"""What a request does, and to which resource. Pure."""

from enum import StrEnum


class Action(StrEnum):
    """An action of a request, in jupyter_server's words."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


def classify(method: str, path: str) -> tuple[Action, str]:
    """Return the action of a request and the resource that it is about.

    Args:
        method: The HTTP method.
        path: The route's path relative to the base URL, with a leading slash.
    """
    segments = path[1:].split("/")
    named = segments[1] if segments[0] == "api" and len(segments) > 1 else segments[0]
    resource = named if named in {"kernels", "kernelspecs", "sessions"} else "api"
    is_execution = segments[3:4] == ["executions"] and len(segments) > 4
    if resource == "kernels" and (segments[-1] in {"channels", "execute"} or is_execution):
        return Action.EXECUTE, resource
    return (Action.READ if method in {"GET", "HEAD", "OPTIONS"} else Action.WRITE), resource
