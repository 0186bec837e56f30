"""The options of `EnterpriseGatewayApp`, one class a group of `enterprise_gateway.settings`.

Names, defaults and environment variables are those of Jupyter Enterprise Gateway wherever it has
them. An option's `env` metadata lists the
variables that set it, the preferred one first; those after it that are deprecated are in
`deprecated_env`.
"""

from traitlets import Any, Bool, CBool, Float, HasTraits, Integer, List, Set, Unicode


class ServerTraits(HasTraits):
    """Where and how the HTTP server listens."""

    ip = Unicode("127.0.0.1", help="IP address on which to listen.").tag(
        config=True, env=("EG_IP", "KG_IP")
    )
    port = Integer(8888, min=0, max=65535, help="Port on which to listen; 0 for any free one.").tag(
        config=True, env=("EG_PORT", "KG_PORT")
    )
    port_retries = Integer(
        50, min=0, help="Number of ports to try if the specified port is not available."
    ).tag(config=True, env=("EG_PORT_RETRIES", "KG_PORT_RETRIES"))
    base_url = Unicode("/", help="The base path under which all resources are mounted.").tag(
        config=True, env=("EG_BASE_URL", "KG_BASE_URL")
    )
    certfile = Unicode("", allow_none=True, help="Full path of a TLS certificate file.").tag(
        config=True, env=("EG_CERTFILE", "KG_CERTFILE")
    )
    keyfile = Unicode("", allow_none=True, help="Full path of the certificate's private key.").tag(
        config=True, env=("EG_KEYFILE", "KG_KEYFILE")
    )
    client_ca = Unicode(
        "",
        allow_none=True,
        help="Full path of an authority's certificate: clients must show one signed by it.",
    ).tag(config=True, env=("EG_CLIENT_CA", "KG_CLIENT_CA"))
    ssl_version = Integer(
        None,
        allow_none=True,
        help="""Number of an `ssl.PROTOCOL_*` constant. 5 (`PROTOCOL_TLSv1_2`) allows TLS 1.2
        only; by default TLS 1.2 and later are negotiated. Versions before 1.2 are
        refused.""",
    ).tag(config=True, env=("EG_SSL_VERSION", "KG_SSL_VERSION"))
    authorized_origin = Unicode(
        "",
        help="""Host name that the client's certificate must carry, such as 'reverse.proxy.net';
        403 otherwise. Requires TLS and `client_ca`.""",
    ).tag(config=True, env=("EG_AUTHORIZED_ORIGIN",))
    trust_xheaders = CBool(
        default_value=False,
        help="""Take the client's address from X-Real-IP or X-Forwarded-For and the scheme from
        X-Scheme or X-Forwarded-Proto. Only behind a proxy that sets them.""",
    ).tag(config=True, env=("EG_TRUST_XHEADERS", "KG_TRUST_XHEADERS"))
    max_body_bytes = Integer(
        8 * 1024 * 1024, min=1024, help="Largest request body taken; 413 beyond."
    ).tag(config=True, env=("EG_MAX_BODY_BYTES",))
    dynamic_config_interval = Integer(
        0,
        min=0,
        help="""Seconds between looks at the configuration files for changes, which are put in
        force without a restart. 0 disables it.""",
    ).tag(config=True, env=("EG_DYNAMIC_CONFIG_INTERVAL",))


class AccessTraits(HasTraits):
    """Who may talk to the gateway."""

    auth_token = Unicode(
        None,
        allow_none=True,
        help="""Token that every request must carry. Without one, and without `auth_token_file`, a
        token is derived from the cluster secret and printed; an explicit empty one switches
        authentication off.""",
    ).tag(config=True, env=("EG_AUTH_TOKEN", "KG_AUTH_TOKEN"), secret=True)
    auth_token_file = Unicode(
        "",
        help="""File that holds the token, such as a Docker secret; `auth_token` beats it unless
        that is empty.""",
    ).tag(config=True, env=("EG_AUTH_TOKEN_FILE",))
    allow_credentials = Unicode("", help="Value of Access-Control-Allow-Credentials.").tag(
        config=True, env=("EG_ALLOW_CREDENTIALS", "KG_ALLOW_CREDENTIALS")
    )
    allow_headers = Unicode("", help="Value of Access-Control-Allow-Headers.").tag(
        config=True, env=("EG_ALLOW_HEADERS", "KG_ALLOW_HEADERS")
    )
    allow_methods = Unicode("", help="Value of Access-Control-Allow-Methods.").tag(
        config=True, env=("EG_ALLOW_METHODS", "KG_ALLOW_METHODS")
    )
    allow_origin = Unicode(
        "",
        help="""Value of Access-Control-Allow-Origin, and the origin from which requests without a
        token are taken; '*' for all.""",
    ).tag(config=True, env=("EG_ALLOW_ORIGIN", "KG_ALLOW_ORIGIN"))
    expose_headers = Unicode("", help="Value of Access-Control-Expose-Headers.").tag(
        config=True, env=("EG_EXPOSE_HEADERS", "KG_EXPOSE_HEADERS")
    )
    max_age = Unicode("", help="Value of Access-Control-Max-Age.").tag(
        config=True, env=("EG_MAX_AGE", "KG_MAX_AGE")
    )
    authorizer_class = Unicode(
        "",
        help="""Dotted name of a class with the interface of `jupyter_server.auth.Authorizer`. By
        default everybody who is authenticated may do everything.""",
    ).tag(config=True, env=("EG_AUTHORIZER_CLASS",))
    list_kernels = Bool(
        default_value=False,
        help="""Whether GET /api/kernels and GET /api/sessions list what is running; 403
        otherwise. JupyterLab and VS Code need it when they talk to the gateway directly.""",
    ).tag(config=True, env=("EG_LIST_KERNELS", "KG_LIST_KERNELS"))


class KernelTraits(HasTraits):
    """Which kernels may be started by whom, with what environment."""

    default_kernel_name = Unicode(
        "",
        help="""Kernelspec of requests that name none. By default 'python_docker' when it is
        there, else 'python3'.""",
    ).tag(config=True, env=("EG_DEFAULT_KERNEL_NAME", "KG_DEFAULT_KERNEL_NAME"))
    max_kernels = Integer(
        None, allow_none=True, help="Most kernels that may run at once. Unbounded by default."
    ).tag(config=True, env=("EG_MAX_KERNELS", "KG_MAX_KERNELS"))
    max_kernels_per_user = Integer(
        -1, help="Most kernels that one user may have at once; -1: no limit."
    ).tag(config=True, env=("EG_MAX_KERNELS_PER_USER",))
    client_envs = List(
        Unicode(),
        help="""Names of environment variables, besides KERNEL_*, that clients may set for a
        kernel; '*' for all but those that steer how it is launched, such as PATH, LD_*, PYTHON*,
        DOCKER_* and EG_*.""",
    ).tag(
        config=True,
        env=("EG_CLIENT_ENVS", "EG_ENV_WHITELIST"),
        deprecated_env=("EG_ENV_WHITELIST",),
    )
    inherited_envs = List(
        Unicode(),
        help="Names of environment variables of the gateway that kernels inherit.",
    ).tag(
        config=True,
        env=("EG_INHERITED_ENVS", "EG_ENV_PROCESS_WHITELIST"),
        deprecated_env=("EG_ENV_PROCESS_WHITELIST",),
    )
    env_whitelist = List(Unicode(), help="Deprecated: use client_envs.").tag(
        config=True, renamed="client_envs"
    )
    env_process_whitelist = List(Unicode(), help="Deprecated: use inherited_envs.").tag(
        config=True, renamed="inherited_envs"
    )
    authorized_users = Set(
        Unicode(), help="If not empty: the only values of KERNEL_USERNAME that may start kernels."
    ).tag(config=True, env=("EG_AUTHORIZED_USERS",))
    unauthorized_users = Set(
        Unicode(),
        default_value={"root"},
        help="""Values of KERNEL_USERNAME that may not start kernels, whatever authorized_users
        says.""",
    ).tag(config=True, env=("EG_UNAUTHORIZED_USERS",))
    default_username = Unicode(
        "",
        help="""KERNEL_USERNAME of requests that bring none. By default the name of the gateway's
        own user, or 'jovyan' if that is root.""",
    ).tag(config=True, env=("EG_DEFAULT_USERNAME",))
    prohibited_uids = List(
        Integer(), default_value=[0], help="Values of KERNEL_UID that are refused."
    ).tag(config=True, env=("EG_PROHIBITED_UIDS",))
    prohibited_gids = List(
        Integer(), default_value=[0], help="Values of KERNEL_GID that are refused."
    ).tag(config=True, env=("EG_PROHIBITED_GIDS",))
    impersonation_enabled = Bool(
        default_value=False, help="Passed on to launch scripts as EG_IMPERSONATION_ENABLED."
    ).tag(config=True, env=("EG_IMPERSONATION_ENABLED",))
    port_range = Unicode(
        "0..0",
        help="""Range from which kernels take their ports, such as '33245..34245'. '0..0': any
        free port. A kernelspec may set its own.""",
    ).tag(config=True, env=("EG_PORT_RANGE",))
    min_port_range_size = Integer(1000, min=0, help="Narrowest port range accepted.").tag(
        config=True, env=("EG_MIN_PORT_RANGE_SIZE",)
    )
    max_port_range_retries = Integer(
        5, min=0, help="Attempts a kernel makes to find a free port in its range."
    ).tag(config=True, env=("EG_MAX_PORT_RANGE_RETRIES",))
    kernel_launch_timeout = Float(
        30.0,
        min=0.1,
        help="""Seconds within which a kernel must be ready, unless the request says
        KERNEL_LAUNCH_TIMEOUT.""",
    ).tag(config=True, env=("EG_KERNEL_LAUNCH_TIMEOUT",))
    ws_ping_interval = Integer(
        30, min=0, help="Seconds between WebSocket pings; 0 disables them."
    ).tag(config=True, env=("EG_WS_PING_INTERVAL_SECS",))


class ResponseTraits(HasTraits):
    """Where kernel agents report that they are ready."""

    response_ip = Unicode(
        "",
        help="""Address told to kernels. By default the one from which this host reaches their
        network.""",
    ).tag(config=True, env=("EG_RESPONSE_IP",))
    response_port = Integer(8877, min=0, max=65535, help="Port for the reports of kernels.").tag(
        config=True, env=("EG_RESPONSE_PORT",)
    )
    response_port_retries = Integer(
        10, min=0, help="Number of ports to try if response_port is not available."
    ).tag(config=True, env=("EG_RESPONSE_PORT_RETRIES",))
    response_addr_any = Bool(default_value=False, help="Take reports on all interfaces.").tag(
        config=True, env=("EG_RESPONSE_ADDR_ANY",)
    )
    prohibited_local_ips = List(
        Unicode(), help="Patterns of local addresses that are never told to kernels."
    ).tag(config=True, env=("EG_PROHIBITED_LOCAL_IPS",))


class DockerTraits(HasTraits):
    """The Docker engine and what containers get."""

    docker_host = Unicode("", help="URL of the Docker engine; empty for its usual socket.").tag(
        config=True, env=("DOCKER_HOST",)
    )
    docker_tls_verify = Unicode(
        "", help="Not empty: talk TLS to the engine and verify its certificate."
    ).tag(config=True, env=("DOCKER_TLS_VERIFY",))
    docker_cert_path = Unicode("", help="Folder with ca.pem, cert.pem and key.pem.").tag(
        config=True, env=("DOCKER_CERT_PATH",)
    )
    docker_network = Unicode("bridge", help="Docker network that kernels join.").tag(
        config=True, env=("EG_DOCKER_NETWORK",)
    )
    kernel_image = Unicode(
        "", help="Image for kernels whose kernelspec and request name none."
    ).tag(config=True, env=("EG_KERNEL_IMAGE",))
    companion_image = Unicode(
        "",
        help="""Image of companions: the agents beside kernels into whose containers none can be
        put. By default 'enterprise-gateway/enterprise-gateway' of this version.""",
    ).tag(config=True, env=("EG_COMPANION_IMAGE",))
    mirror_working_dirs = Bool(
        default_value=False, help="Start kernels in KERNEL_WORKING_DIR; the image must contain it."
    ).tag(config=True, env=("EG_MIRROR_WORKING_DIRS",))
    remove_container = Bool(
        default_value=True, help="Remove the containers of kernels that have ended."
    ).tag(config=True, env=("EG_REMOVE_CONTAINER", "REMOVE_CONTAINER"))


class ClusterTraits(HasTraits):
    """What replicas share."""

    cluster_secret = Unicode(
        "",
        help="""Secret that all replicas share: the tokens of kernel agents derive from it. By
        default it is generated and kept in the Jupyter data folder.""",
    ).tag(config=True, env=("EG_CLUSTER_SECRET",), secret=True)
    cluster_secret_file = Unicode("", help="File that holds the cluster secret.").tag(
        config=True, env=("EG_CLUSTER_SECRET_FILE",)
    )


class IgnoredTraits(HasTraits):
    """Options of Enterprise Gateway without meaning here; its configuration keeps working."""

    remote_hosts = Any(help="Ignored: kernels are not started over SSH.").tag(
        config=True, ignored="kernels are not started over SSH", env=("EG_REMOTE_HOSTS",)
    )
    load_balancing_algorithm = Any(help="Ignored: the engine places kernels.").tag(
        config=True, ignored="the engine places kernels", env=("EG_LOAD_BALANCING_ALGORITHM",)
    )
    yarn_endpoint = Any(help="Ignored: no YARN.").tag(
        config=True, ignored="no YARN", env=("EG_YARN_ENDPOINT",)
    )
    alt_yarn_endpoint = Any(help="Ignored: no YARN.").tag(
        config=True, ignored="no YARN", env=("EG_ALT_YARN_ENDPOINT",)
    )
    yarn_endpoint_security_enabled = Any(help="Ignored: no YARN.").tag(
        config=True, ignored="no YARN", env=("EG_YARN_ENDPOINT_SECURITY_ENABLED",)
    )
    conductor_endpoint = Any(help="Ignored: no Conductor.").tag(
        config=True, ignored="no Conductor", env=("EG_CONDUCTOR_ENDPOINT",)
    )
    availability_mode = Any(help="Ignored: kernels always survive the gateway.").tag(
        config=True, ignored="kernels always survive the gateway", env=("EG_AVAILABILITY_MODE",)
    )
    kernel_headers = Any(help="Ignored: only Conductor used request headers.").tag(
        config=True, ignored="only Conductor used request headers", env=("EG_KERNEL_HEADERS",)
    )
    kernel_spec_manager_class = Any(help="Ignored: not replaceable.").tag(
        config=True, ignored="not replaceable"
    )
    kernel_spec_cache_class = Any(help="Ignored: not replaceable.").tag(
        config=True, ignored="not replaceable"
    )
    kernel_manager_class = Any(help="Ignored: bring a process proxy of your own.").tag(
        config=True, ignored="bring a process proxy of your own"
    )
    kernel_session_manager_class = Any(help="Ignored: no kernel state is stored.").tag(
        config=True, ignored="no kernel state is stored"
    )
