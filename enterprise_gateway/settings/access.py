"""Settings of authentication, authorization and CORS."""

from dataclasses import dataclass

from enterprise_gateway.settings import parse
from enterprise_gateway.settings.option import option

STRONG_CHARS = 22
"""How long a token is that is not found by trying: 128 random bits in base64."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may use the gateway."""

    auth_token: str = option(
        "Token that all clients share, and that opens everything. Without one, and without"
        " `auth_token_file`, a token is derived from the cluster secret and printed; an explicit"
        " empty one switches it off, and authentication, too, unless users are known in another"
        " way.",
        default=None,
        takes=str | None,
        parse=parse.text_or_empty,
        default_text="derived",
        secret=True,
        env=("EG_AUTH_TOKEN", "KG_AUTH_TOKEN"),
    )
    """The token in force, also if it is derived or read from a file; "": none, see
    `Settings.is_authentication_on`."""
    allow_credentials: str = option(
        "Value of the header Access-Control-Allow-Credentials. By default it is not sent.",
        default="",
        env=("EG_ALLOW_CREDENTIALS", "KG_ALLOW_CREDENTIALS"),
    )
    allow_headers: str = option(
        "Value of the header Access-Control-Allow-Headers. By default it is not sent.",
        default="",
        env=("EG_ALLOW_HEADERS", "KG_ALLOW_HEADERS"),
    )
    allow_methods: str = option(
        "Value of the header Access-Control-Allow-Methods. By default it is not sent.",
        default="",
        env=("EG_ALLOW_METHODS", "KG_ALLOW_METHODS"),
    )
    allow_origin: str = option(
        "Value of the header Access-Control-Allow-Origin, and the origin whose requests are"
        " accepted without a token if authentication is off; '*' for all origins.",
        default="",
        env=("EG_ALLOW_ORIGIN", "KG_ALLOW_ORIGIN"),
    )
    expose_headers: str = option(
        "Value of the header Access-Control-Expose-Headers. By default it is not sent.",
        default="",
        env=("EG_EXPOSE_HEADERS", "KG_EXPOSE_HEADERS"),
    )
    max_age: str = option(
        "Value of the header Access-Control-Max-Age, in seconds. By default it is not sent.",
        default="",
        env=("EG_MAX_AGE", "KG_MAX_AGE"),
    )
    authorizer_class: str = option(
        "Dotted name of a class with the interface of `jupyter_server.auth.Authorizer`. By default"
        " every authenticated user may do everything.",
        default="",
        env=("EG_AUTHORIZER_CLASS",),
    )
    list_kernels: bool = option(
        "Whether GET /api/kernels and GET /api/sessions list what is running; by default they"
        " answer 403. JupyterLab and VS Code need the lists when they connect to the gateway"
        " directly, and Jupyter servers for their own list of kernels and status.",
        default=False,
        env=("EG_LIST_KERNELS", "KG_LIST_KERNELS"),
    )

    @property
    def is_auth_token_weak(self) -> bool:
        """Whether the token is so short that it may be found by trying."""
        return 0 < len(self.auth_token) < STRONG_CHARS
