"""A site's module that cannot be imported."""

message = "no engine today"
raise RuntimeError(message)
