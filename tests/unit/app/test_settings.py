"""Every option reaches its setting, from every place, in the documented order of precedence."""

import base64
import json
import logging
import os
from collections.abc import Callable
from ipaddress import ip_network
from operator import attrgetter
from pathlib import Path

import pytest
from jupyter_client.ioloop import AsyncIOLoopKernelManager
from jupyter_client.kernelspec import KernelSpecManager as JupyterKernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Configurable

from enterprise_gateway.app import EnterpriseGatewayApp
from enterprise_gateway.app.configuration.check import find_sections
from enterprise_gateway.app.managers import CLASSES
from enterprise_gateway.errors import ConfigurationError
from enterprise_gateway.settings import VolumePermission
from enterprise_gateway.settings.values.amounts import Amounts, Quota
from enterprise_gateway.settings.values.schedule import ScheduledSize
from enterprise_gateway.settings.values.times import Times

MakeApp = Callable[..., EnterpriseGatewayApp]
OPTION_CLASSES: tuple[type[Configurable], ...] = (EnterpriseGatewayApp, *CLASSES)

takes_literals = pytest.mark.filterwarnings("ignore:.*for containers is deprecated")
"""Enterprise Gateway's way to write lists in argv; traitlets prefers repeated options."""

GIB = 1024**3

# variable, its value, the setting, what it must be
VARIABLES = [
    ("EG_IP", "0.0.0.0", "server.ip", "0.0.0.0"),
    ("EG_PORT", "9999", "server.port", 9999),
    ("EG_PORT_RETRIES", "0", "server.port_retries", 0),
    ("EG_BASE_URL", "gateway", "server.base_url", "/gateway/"),
    ("EG_CERTFILE", "/c.pem", "server.certfile", "/c.pem"),
    ("EG_KEYFILE", "/k.pem", "server.keyfile", "/k.pem"),
    ("EG_CLIENT_CA", "/ca.pem", "server.client_ca", "/ca.pem"),
    ("EG_AUDIT_LOG", "/audit.log", "server.audit_log", "/audit.log"),
    ("EG_SSL_VERSION", "5", "server.ssl_version", 5),
    ("EG_AUTHORIZED_ORIGIN", "proxy.example", "server.authorized_origin", "proxy.example"),
    ("EG_TRUST_XHEADERS", "True", "server.trust_xheaders", True),
    (
        "EG_TRUSTED_PROXIES",
        "10.0.1.0/24,::1",
        "server.trusted_proxies",
        (ip_network("10.0.1.0/24"), ip_network("::1")),
    ),
    ("EG_LOCAL_HOSTNAMES", "a,b", "server.local_hostnames", {"a", "b"}),
    ("EG_MAX_BODY_BYTES", "2048", "server.max_body_bytes", 2048),
    ("EG_AUTH_TOKEN", "secret", "access.auth_token", "secret"),
    ("EG_AUTH_TOKEN", "", "access.auth_token", ""),
    ("EG_ALLOW_CREDENTIALS", "true", "access.allow_credentials", "true"),
    ("EG_ALLOW_HEADERS", "X-A", "access.allow_headers", "X-A"),
    ("EG_ALLOW_METHODS", "GET", "access.allow_methods", "GET"),
    ("EG_ALLOW_ORIGIN", "*", "access.allow_origin", "*"),
    ("EG_EXPOSE_HEADERS", "X-B", "access.expose_headers", "X-B"),
    ("EG_MAX_AGE", "60", "access.max_age", "60"),
    ("EG_AUTHORIZER_CLASS", "my.Authorizer", "access.authorizer_class", "my.Authorizer"),
    ("EG_LIST_KERNELS", "True", "access.list_kernels", True),
    ("EG_USER_TOKENS_FILE", "/t.json", "identity.user_tokens_file", "/t.json"),
    (
        "EG_JUPYTERHUB_API_URL",
        "http://hub:8081/hub/api/",
        "identity.jupyterhub_api_url",
        "http://hub:8081/hub/api",
    ),
    ("EG_JUPYTERHUB_SERVICE", "gateway", "identity.jupyterhub_service", "gateway"),
    ("EG_JUPYTERHUB_API_TOKEN_FILE", "/f", "identity.jupyterhub_api_token_file", "/f"),
    ("EG_OIDC_JWKS_URL", "https://id/keys", "identity.oidc_jwks_url", "https://id/keys"),
    ("EG_OIDC_AUDIENCE", "gateway", "identity.oidc_audience", "gateway"),
    ("EG_OIDC_ALGORITHMS", "ES384,EdDSA", "identity.oidc_algorithms", ("ES384", "EdDSA")),
    ("EG_OIDC_USERNAME_CLAIM", "email", "identity.oidc_username_claim", "email"),
    ("EG_OIDC_GROUPS_CLAIM", "roles", "identity.oidc_groups_claim", "roles"),
    ("EG_ADMIN_USERS", "root,ann", "identity.admin_users", {"root", "ann"}),
    ("EG_ADMIN_GROUPS", "staff", "identity.admin_groups", {"staff"}),
    ("EG_ACTS_FOR", "lab=ann,lab=*", "identity.acts_for", {("lab", "ann"), ("lab", "*")}),
    ("EG_DEFAULT_KERNEL_NAME", "r", "kernels.default_kernel_name", "r"),
    ("EG_MAX_KERNELS", "3", "kernels.max_kernels", 3),
    ("EG_MAX_KERNELS", "", "kernels.max_kernels", None),
    ("EG_MAX_KERNELS_PER_USER", "2", "kernels.max_kernels_per_user", 2),
    ("EG_CLIENT_ENVS", "A,B", "kernels.client_envs", {"A", "B"}),
    ("EG_CLIENT_ENVS", "", "kernels.client_envs", set()),
    ("EG_ENV_WHITELIST", "A", "kernels.client_envs", {"A"}),
    ("EG_AUTHORIZED_USERS", "bob,alice", "kernels.authorized_users", {"bob", "alice"}),
    ("EG_UNAUTHORIZED_USERS", "eve", "kernels.unauthorized_users", {"eve"}),
    ("EG_DEFAULT_USERNAME", "guest", "kernels.default_username", "guest"),
    ("EG_PROHIBITED_UIDS", "0,1", "kernels.prohibited_uids", {0, 1}),
    ("EG_PROHIBITED_GIDS", "0,5", "kernels.prohibited_gids", {0, 5}),
    (
        "EG_ALLOWED_UIDS",
        "1000, 20000-29999",
        "kernels.allowed_uids",
        (range(1000, 1001), range(20000, 30000)),
    ),
    ("EG_ALLOWED_GIDS", "100", "kernels.allowed_gids", (range(100, 101),)),
    ("EG_IMPERSONATION_ENABLED", "true", "kernels.impersonation_enabled", True),
    ("EG_PORT_RANGE", "40000..41000", "kernels.port_range", (40000, 41000)),
    ("EG_MIN_PORT_RANGE_SIZE", "10", "kernels.min_port_range_size", 10),
    ("EG_MAX_PORT_RANGE_RETRIES", "7", "kernels.max_port_range_retries", 7),
    ("EG_KERNEL_LAUNCH_TIMEOUT", "60", "kernels.launch_timeout", 60.0),
    ("EG_MAX_CONCURRENT_LAUNCHES", "7", "kernels.max_concurrent_launches", 7),
    ("EG_MAX_QUEUED_LAUNCHES", "9", "kernels.max_queued_launches", 9),
    (
        "EG_POOL_SIZES",
        "Py_Docker=2, r=0, py=Pause",
        "kernels.pool_sizes",
        (("py_docker", 2), ("r", 0), ("py", "pause")),
    ),
    (
        "EG_POOL_SCHEDULE",
        "sat 08:00-09:30 R=1",
        "kernels.pool_schedule",
        (ScheduledSize(frozenset({5}), 480, 570, "r", 1),),
    ),
    ("EG_POOL_TTL", "60", "kernels.pool_ttl", 60),
    (
        "EG_DEFAULT_RESOURCES",
        "cpus=1500m memory=2g",
        "kernels.resources.default_amounts",
        Amounts(nano_cpus=1_500_000_000, memory=2 * GIB, pids=4096),
    ),
    ("EG_DEFAULT_RESOURCES", "", "kernels.resources.default_amounts", Amounts(pids=4096)),
    ("EG_MAX_RESOURCES", "gpus=1", "kernels.resources.max_amounts", Amounts(gpus=1)),
    (
        "EG_KERNEL_SIZES",
        "small: cpus=1 memory=2g, large: memory=32Gi shm_size=8g pids=100",
        "kernels.resources.sizes",
        (
            ("small", Amounts(nano_cpus=1_000_000_000, memory=2 * GIB)),
            ("large", Amounts(memory=32 * GIB, shm_size=8 * GIB, pids=100)),
        ),
    ),
    (
        "EG_USER_QUOTAS",
        "*: kernels=5 gpus=0, ann:b: cpus=8",
        "kernels.resources.user_quotas",
        (("*", Quota(kernels=5, gpus=0)), ("ann:b", Quota(nano_cpus=8_000_000_000))),
    ),
    (
        "EG_GROUP_QUOTAS",
        "lab: memory=64g",
        "kernels.resources.group_quotas",
        (("lab", Quota(memory=64 * GIB)),),
    ),
    (
        "EG_USER_TIMES",
        "ann:b: cull_idle_timeout=600 cull_busy=true, bob: max_kernel_age=0",
        "kernels.resources.user_times",
        (("ann:b", Times(cull_idle_timeout=600, cull_busy=True)), ("bob", Times(max_kernel_age=0))),
    ),
    (
        "EG_GROUP_TIMES",
        "lab: max_kernel_age=86400 cull_connected=False",
        "kernels.resources.group_times",
        (("lab", Times(cull_connected=False, max_kernel_age=86400)),),
    ),
    (
        "EG_PLACEMENT_CONSTRAINTS",
        "node.labels.kernels == yes,node.role==worker",
        "kernels.resources.placement_constraints",
        ("node.labels.kernels == yes", "node.role==worker"),
    ),
    (
        "EG_PLACEMENT_PREFERENCES",
        "node.labels.rack",
        "kernels.resources.placement_preferences",
        ("node.labels.rack",),
    ),
    ("EG_PAUSE_IDLE_TIMEOUT", "600", "kernels.pause_idle_timeout", 600),
    ("EG_PAUSE_IDLE_TIMEOUT", "-1", "kernels.pause_idle_timeout", 0),
    ("EG_MAX_KERNEL_AGE", "28800", "kernels.age.max_kernel_age", 28800),
    ("EG_MAX_KERNEL_AGE", "-1", "kernels.age.max_kernel_age", 0),
    ("EG_MAX_KERNEL_AGE_WARNING", "60", "kernels.age.max_kernel_age_warning", 60),
    (
        "EG_ALLOWED_IMAGES",
        "team/*,r.example.org:5000/k:1",
        "docker.allowed_images",
        ("team/*", "r.example.org:5000/k:1"),
    ),
    ("EG_DROP_CAPABILITIES", "False", "sandbox.drop_capabilities", False),
    ("EG_NO_NEW_PRIVILEGES", "False", "sandbox.no_new_privileges", False),
    ("EG_PRIMARY_GROUP", "False", "sandbox.primary_group", False),
    ("EG_BLOCK_METADATA", "False", "sandbox.block_metadata", False),
    ("EG_READ_ONLY_ROOT", "True", "sandbox.read_only_root", True),
    ("EG_CONTAINER_RUNTIME", "runsc", "sandbox.container_runtime", "runsc"),
    ("EG_CONTAINER_LOG_DRIVER", "", "sandbox.container_log_driver", ""),
    ("EG_CONTAINER_LOG_MAX_SIZE", "20M", "sandbox.container_log_max_size", "20m"),
    ("EG_CONTAINER_LOG_MAX_FILES", "5", "sandbox.container_log_max_files", 5),
    ("EG_ALLOWED_VOLUME_ROOTS", "/srv/a/,/b", "sandbox.allowed_volume_roots", ("/srv/a", "/b")),
    (
        "EG_REQUEST_VOLUMES",
        "tmpfs,volume:home-{username},bind:/srv/:ro",
        "sandbox.request_volumes",
        (
            VolumePermission("tmpfs", "", is_read_only=False),
            VolumePermission("volume", "home-{username}", is_read_only=False),
            VolumePermission("bind", "/srv", is_read_only=True),
        ),
    ),
    ("EG_SECRETS_FOLDER", "/srv//secrets/", "sandbox.secrets_folder", "/srv/secrets"),
    ("EG_INTERNAL_NETWORK", "inner", "sandbox.internal_network", "inner"),
    ("EG_ACCEPT_EG_PAYLOADS", "False", "response.accept_eg_payloads", False),
    ("EG_WS_PING_INTERVAL_SECS", "10", "kernels.ws_ping_interval", 10.0),
    ("EG_RESTART_SPARE", "false", "kernels.restart_spare", False),
    ("EG_LOG_MEMORY_BYTES", "2000000", "kernels.limits.log_memory_bytes", 2_000_000),
    ("EG_LOG_SPILL_BYTES", "0", "kernels.limits.log_spill_bytes", 0),
    ("EG_LOG_MAX_AGE", "60", "kernels.limits.log_max_age", 60.0),
    ("EG_MAX_MESSAGE_BYTES", "1000000", "kernels.limits.max_message_bytes", 1_000_000),
    ("EG_MAX_OUTPUT_BYTES", "1000000", "kernels.limits.max_output_bytes", 1_000_000),
    ("EG_IOPUB_DATA_RATE_LIMIT", "1e6", "kernels.limits.iopub_data_rate_limit", 1e6),
    ("EG_IOPUB_MSG_RATE_LIMIT", "1000", "kernels.limits.iopub_msg_rate_limit", 1000.0),
    ("EG_KERNEL_INFO_TIMEOUT", "90", "kernels.kernel_info_timeout", 90.0),
    (
        "EG_ALLOWED_KERNELS",
        "'r_docker','python3'",
        "kernels.allowed_kernels",
        {"r_docker", "python3"},
    ),
    ("EG_ALLOWED_KERNELS", "null", "kernels.allowed_kernels", set()),
    ("EG_KERNEL_WHITELIST", "['a','b']", "kernels.allowed_kernels", {"a", "b"}),
    ("EG_KERNELSPEC_CACHE_ENABLED", "0", "kernels.kernelspec_cache_enabled", False),
    ("EG_CULL_IDLE_TIMEOUT", "43200", "kernels.culling.cull_idle_timeout", 43200),
    ("EG_CULL_INTERVAL", "60", "kernels.culling.cull_interval", 60),
    ("EG_CULL_CONNECTED", "False", "kernels.culling.cull_connected", False),
    ("EG_CULL_CONNECTED", "True", "kernels.culling.cull_connected", True),
    ("EG_CULL_BUSY", "true", "kernels.culling.cull_busy", True),
    ("EG_CULL_GPU_IDLE_TIMEOUT", "600", "kernels.culling.cull_gpu_idle_timeout", 600),
    ("EG_RESPONSE_IP", "10.0.0.1", "response.ip", "10.0.0.1"),
    ("EG_RESPONSE_PORT", "9000", "response.port", 9000),
    ("EG_RESPONSE_PORT_RETRIES", "1", "response.port_retries", 1),
    ("EG_RESPONSE_ADDR_ANY", "True", "response.addr_any", True),
    ("EG_PROHIBITED_LOCAL_IPS", r"10\..*", "response.prohibited_local_ips", (r"10\..*",)),
    ("EG_PROHIBITED_LOCAL_IPS", r"(10|9)\..*", "response.prohibited_local_ips", (r"(10|9)\..*",)),
    ("EG_PORT_RANGE", "", "kernels.port_range", (0, 0)),
    ("DOCKER_HOST", "tcp://e:2376", "docker.host", "tcp://e:2376"),
    ("DOCKER_TLS_VERIFY", "1", "docker.tls_verify", True),
    ("DOCKER_CERT_PATH", "/certs", "docker.cert_path", "/certs"),
    ("EG_DOCKER_NETWORK", "eg", "docker.network", "eg"),
    ("EG_ENCRYPT_AGENT_TRAFFIC", "True", "docker.encrypt_agent_traffic", True),
    ("EG_SIDECAR_IMAGE", "img:1", "docker.sidecar_image", "img:1"),
    ("EG_KERNEL_IMAGE", "img:1", "docker.kernel_image", "img:1"),
    ("EG_PULL_POLICY", "always", "docker.pull_policy", "Always"),
    ("EG_PREPULL_IMAGES", "True", "docker.prepull_images", True),
    ("EG_PULL_TIMEOUT", "600", "docker.pull_timeout", 600.0),
    ("EG_MIRROR_WORKING_DIRS", "True", "docker.mirror_working_dirs", True),
    ("EG_REMOVE_CONTAINER", "False", "docker.remove_container", False),
    ("REMOVE_CONTAINER", "False", "docker.remove_container", False),
    ("EG_EVENT_LOG", "/var/log/events.jsonl", "events.log", "/var/log/events.jsonl"),
]
FALLBACKS = [
    "IP", "PORT", "PORT_RETRIES", "BASE_URL", "AUTH_TOKEN", "ALLOW_CREDENTIALS", "ALLOW_HEADERS",
    "ALLOW_METHODS", "ALLOW_ORIGIN", "EXPOSE_HEADERS", "MAX_AGE", "TRUST_XHEADERS", "CERTFILE",
    "KEYFILE", "CLIENT_CA", "SSL_VERSION", "MAX_KERNELS", "DEFAULT_KERNEL_NAME", "LIST_KERNELS",
]  # fmt: skip
# an option, the setting, a value and what it must become
MANAGER_OPTIONS = [
    ("RemoteMappingKernelManager.cull_idle_timeout=5", "kernels.culling.cull_idle_timeout", 5),
    ("MappingKernelManager.cull_interval=6", "kernels.culling.cull_interval", 6),
    ("AsyncMappingKernelManager.cull_busy=True", "kernels.culling.cull_busy", True),
    ("MappingKernelManager.cull_idle_timeout=-1", "kernels.culling.cull_idle_timeout", 0),
    ("MappingKernelManager.cull_interval=0", "kernels.culling.cull_interval", 300),
    ("MappingKernelManager.kernel_info_timeout=7", "kernels.kernel_info_timeout", 7.0),
    ("RemoteMappingKernelManager.default_kernel_name=r", "kernels.default_kernel_name", "r"),
    ("MappingKernelManager.allow_tracebacks=False", "kernels.allow_tracebacks", False),
    (
        "MappingKernelManager.traceback_replacement_message=no",
        "kernels.traceback_replacement_message",
        "no",
    ),
    ("MappingKernelManager.allowed_message_types=['a']", "kernels.allowed_message_types", ("a",)),
    ("RemoteKernelManager.autorestart=False", "kernels.autorestart", False),
    ("KernelManager.shutdown_wait_time=2", "kernels.shutdown_wait_time", 2.0),
    ("KernelRestarter.restart_limit=1", "kernels.restart_limit", 1),
    ("AsyncIOLoopKernelRestarter.restart_limit=2", "kernels.restart_limit", 2),
    ("KernelSpecManager.allowed_kernelspecs={'A'}", "kernels.allowed_kernels", {"a"}),
    ("KernelSpecManager.whitelist=['A']", "kernels.allowed_kernels", {"a"}),
    ("KernelSpecManager.ensure_native_kernel=False", "kernels.ensure_native_kernel", False),
    ("KernelSpecCache.cache_enabled=False", "kernels.kernelspec_cache_enabled", False),
]


@pytest.mark.parametrize(("name", "text", "setting", "expected"), VARIABLES)
def test_variable_reaches_its_setting(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    setting: str,
    expected: object,
) -> None:
    """Each variable of Enterprise Gateway sets the same option as there."""
    monkeypatch.setenv(name, text)
    assert attrgetter(setting)(make_app().read_settings()) == expected


@pytest.mark.parametrize("name", FALLBACKS)
def test_old_variable_is_used_only_if_the_new_one_is_unset(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`KG_*` is a fallback for `EG_*`."""
    _, text, setting, expected = next(row for row in VARIABLES if row[0] == f"EG_{name}" and row[1])
    monkeypatch.setenv(f"KG_{name}", text)
    assert attrgetter(setting)(make_app().read_settings()) == expected
    monkeypatch.setenv(f"KG_{name}", "1")
    monkeypatch.setenv(f"EG_{name}", text)
    assert attrgetter(setting)(make_app().read_settings()) == expected


@takes_literals
@pytest.mark.parametrize(("option", "setting", "expected"), MANAGER_OPTIONS)
def test_option_of_a_manager_class_reaches_its_setting(
    make_app: MakeApp, option: str, setting: str, expected: object
) -> None:
    """Options work under the class names of jupyter_client and jupyter_server, too."""
    assert attrgetter(setting)(make_app(f"--{option}").read_settings()) == expected


def test_every_variable_of_an_option_is_tested() -> None:
    """The tables above miss no variable."""
    known = {row[0] for row in VARIABLES} | {f"KG_{name}" for name in FALLBACKS}
    tested_elsewhere = {
        "EG_INHERITED_ENVS", "EG_ENV_PROCESS_WHITELIST",
        "EG_DYNAMIC_CONFIG_INTERVAL", "EG_CLUSTER_SECRET", "EG_CLUSTER_SECRET_FILE", "EG_LOG_JSON",
        "EG_AUTH_TOKEN_FILE", "EG_BALANCER_SECRET_FILE", "EG_LOG_LEVEL",
        "EG_OIDC_ISSUER", "EG_CERTIFICATE_USERNAME", "EG_PROXY_USER_HEADER",
        "EG_JUPYTERHUB_PUBLIC_URL",
        "EG_EVENT_WEBHOOK_URL", "EG_EVENT_WEBHOOK_SECRET_FILE",
    }  # fmt: skip
    declared = {
        variable
        for cls in OPTION_CLASSES
        for trait in cls.class_traits(config=True, ignored=None).values()
        for variable in trait.metadata.get("env", ())
    }
    assert declared - known - tested_elsewhere == set()


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"EG_OIDC_ISSUER": "https://id"}, "EG_OIDC_AUDIENCE"),
        ({"EG_OIDC_ISSUER": "id.example", "EG_OIDC_AUDIENCE": "x"}, "oidc_issuer is not a URL"),
        ({"EG_OIDC_ISSUER": "http://[", "EG_OIDC_AUDIENCE": "x"}, "is not a URL"),
        ({"EG_JUPYTERHUB_API_URL": "file:///etc/passwd"}, "is not a URL"),
        ({"EG_JUPYTERHUB_PUBLIC_URL": "https://h/hub"}, "EG_JUPYTERHUB_API_TOKEN_FILE"),
        ({"EG_USER_TOKENS_FILE": "t", "EG_TRUST_XHEADERS": "1"}, "EG_TRUSTED_PROXIES"),
        ({"EG_OIDC_ALGORITHMS": "RS256,HS256"}, "oidc_algorithms .* has 'HS256'"),
        ({"EG_OIDC_ALGORITHMS": "none"}, "oidc_algorithms .* has 'none'"),
        ({"EG_OIDC_ALGORITHMS": ""}, "oidc_algorithms .* is empty"),
        ({"EG_CERTIFICATE_USERNAME": "common_name"}, "EG_CLIENT_CA"),
        ({"EG_CERTIFICATE_USERNAME": "CN", "EG_CLIENT_CA": "c"}, "certificate_username .* 'CN'"),
        ({"EG_PROXY_USER_HEADER": "X-Forwarded-User"}, "EG_TRUSTED_PROXIES"),
        ({"EG_PROXY_USER_HEADER": "X-Forwarded-User", "EG_TRUST_XHEADERS": "1"}, "TRUSTED_PROXIES"),
        ({"EG_PROXY_USER_HEADER": "X User", "EG_TRUSTED_PROXIES": "10.0.0.1"}, "name of a header"),
        ({"EG_PROXY_USER_HEADER": "Cookie", "EG_TRUSTED_PROXIES": "10.0.0.1"}, "name of a header"),
        ({"EG_ACTS_FOR": "lab"}, "SERVICE=USER"),
    ],
)
def test_way_of_knowing_users_that_is_not_safe_ends_the_start(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    """With what is missing."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=named):
        make_app().read_settings()


@pytest.mark.parametrize(
    ("variables", "setting", "wanted"),
    [
        (
            {"EG_OIDC_ISSUER": "https://id/", "EG_OIDC_AUDIENCE": "x"},
            "identity.oidc_issuer",
            "https://id/",
        ),
        (
            {
                "EG_CERTIFICATE_USERNAME": "dns",
                "EG_CLIENT_CA": "/ca.pem",
                "EG_CERTFILE": "/c.pem",
            },
            "identity.certificate_username",
            "dns",
        ),
        (
            {"EG_PROXY_USER_HEADER": "X-User", "EG_TRUSTED_PROXIES": "10.0.0.1"},
            "identity.proxy_user_header",
            "X-User",
        ),
        ({"EG_USER_TOKENS_FILE": "t"}, "identity.user_tokens_file", "t"),
        ({"EG_JUPYTERHUB_API_URL": "http://h"}, "identity.jupyterhub_api_url", "http://h"),
        (
            {
                "EG_JUPYTERHUB_API_URL": "http://h",
                "EG_JUPYTERHUB_SERVICE": "gateway",
                "EG_JUPYTERHUB_API_TOKEN_FILE": "/f",
                "EG_JUPYTERHUB_PUBLIC_URL": "https://hub.example.org/hub/",
            },
            "identity.jupyterhub_public_url",
            "https://hub.example.org/hub",
        ),
    ],
)
def test_each_way_of_knowing_users_switches_authentication_on(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    setting: str,
    wanted: str,
) -> None:
    """Also where the shared token is switched off; the derived one stays otherwise."""
    monkeypatch.setenv("EG_AUTH_TOKEN", "")
    assert not make_app().read_settings().is_authentication_on
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = make_app().read_settings()
    assert attrgetter(setting)(settings) == wanted
    assert settings.is_authentication_on
    monkeypatch.delenv("EG_AUTH_TOKEN")
    assert make_app().read_settings().access.auth_token


def test_ways_of_knowing_users_change_at_a_start_only(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload switches none on or off."""
    before = make_app().read_settings()
    monkeypatch.setenv("EG_USER_TOKENS_FILE", "t")
    assert make_app().read_settings(before).identity == before.identity


def test_launches_at_once_follow_the_number_of_cpus(make_app: MakeApp) -> None:
    """A machine that does four at once gives four kernels in time, and then four more."""
    cpus = len(os.sched_getaffinity(0))
    assert make_app().read_settings().kernels.max_concurrent_launches == 2 * cpus


def test_no_bound_of_launches(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 is no default: it says that all are launched at once."""
    monkeypatch.setenv("EG_MAX_CONCURRENT_LAUNCHES", "0")
    assert make_app().read_settings().kernels.max_concurrent_launches == 0


def test_defaults_are_those_of_enterprise_gateway(make_app: MakeApp) -> None:
    """Without any configuration the defaults of Enterprise Gateway hold."""
    settings = make_app().read_settings()
    assert (settings.server.ip, settings.server.port, settings.server.port_retries) == (
        "127.0.0.1",
        8888,
        50,
    )
    assert settings.server.base_url == "/"
    assert settings.access.list_kernels is False
    assert settings.kernels.unauthorized_users == {"root"}
    assert settings.kernels.max_kernels is None
    assert settings.kernels.max_kernels_per_user == -1
    assert settings.kernels.launch_timeout == 30.0
    assert settings.kernels.culling.cull_idle_timeout == 0
    assert settings.kernels.culling.cull_interval == 300
    assert settings.response.port == 8877
    assert settings.docker.network == "bridge"


def test_command_line_beats_file_beats_variable_beats_default(
    make_app: MakeApp, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of precedence is that of Enterprise Gateway."""
    for name in ("EG_MAX_AGE", "EG_ALLOW_ORIGIN", "EG_ALLOW_METHODS"):
        monkeypatch.setenv(name, "variable")
    config_file.write_text(
        "c.EnterpriseGatewayApp.allow_origin = 'file'\nc.EnterpriseGatewayApp.max_age = 'file'\n"
    )
    access = make_app("--EnterpriseGatewayApp.max_age=line").read_settings().access
    found = (access.max_age, access.allow_origin, access.allow_methods, access.allow_headers)
    assert found == ("line", "file", "variable", "")


def test_file_under_a_parent_class_beats_a_variable(
    make_app: MakeApp, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may name any class in the line of inheritance."""
    monkeypatch.setenv("EG_CULL_IDLE_TIMEOUT", "1")
    config_file.write_text("c.MappingKernelManager.cull_idle_timeout = 2\n")
    assert make_app().read_settings().kernels.culling.cull_idle_timeout == 2


def test_aliases_of_enterprise_gateway_work(make_app: MakeApp) -> None:
    """The short options of Enterprise Gateway are taken."""
    server = make_app(
        "--ip=1.2.3.4", "--port=1", "--port_retries=2", "--keyfile=k", "--certfile=c",
        "--client-ca=a", "--ssl_version=5",
    ).read_settings().server  # fmt: skip
    assert (server.ip, server.port, server.port_retries) == ("1.2.3.4", 1, 2)
    assert (server.keyfile, server.certfile, server.client_ca) == ("k", "c", "a")
    assert server.ssl_version == 5


@pytest.mark.parametrize("text", ["", "/", "//"])
def test_base_url_of_nothing_is_a_slash(make_app: MakeApp, text: str) -> None:
    """The root is the root, however it is written."""
    assert (
        make_app(f"--EnterpriseGatewayApp.base_url={text}").read_settings().server.base_url == "/"
    )


@pytest.mark.parametrize("text", ["a/b", "/a/b", "a/b/", "/a/b/"])
def test_base_url_slashes_do_not_matter(make_app: MakeApp, text: str) -> None:
    """With and without slashes is the same."""
    server = make_app(f"--EnterpriseGatewayApp.base_url={text}").read_settings().server
    assert server.base_url == "/a/b/"


def test_token_is_derived_when_there_is_none(make_app: MakeApp) -> None:
    """A gateway is never open by accident, and all replicas have the same token."""
    secret = "--EnterpriseGatewayApp.cluster_secret=a-secret-of-all-replicas"
    settings = make_app(secret).read_settings()
    token = settings.access.auth_token
    assert len(token) >= 32
    assert make_app(secret).read_settings().access.auth_token == token
    assert make_app(secret).read_settings(settings).access.auth_token == token
    other = make_app("--EnterpriseGatewayApp.cluster_secret=a-secret-of-another-gateway")
    assert other.read_settings().access.auth_token != token
    assert settings.cluster_secret.hex() not in token


def test_token_may_be_in_a_file(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Docker secret, which is read again with the rest; a token that is set beats it."""
    path = tmp_path / "token"
    path.write_text("of-the-file\n")
    monkeypatch.setenv("EG_AUTH_TOKEN_FILE", str(path))
    settings = make_app().read_settings()
    assert settings.access.auth_token == "of-the-file"
    path.write_text("a-new-one")
    assert make_app().read_settings(settings).access.auth_token == "a-new-one"
    monkeypatch.setenv("EG_AUTH_TOKEN", "")
    assert make_app().read_settings().access.auth_token == "a-new-one"
    monkeypatch.setenv("EG_AUTH_TOKEN", "of-the-variable")
    assert make_app().read_settings().access.auth_token == "of-the-variable"


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_token_file_without_a_token_ends_the_start(
    make_app: MakeApp, tmp_path: Path, text: str | None
) -> None:
    """An operator's slip does not open the gateway."""
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    app = make_app(f"--EnterpriseGatewayApp.auth_token_file={path}")
    with pytest.raises(ConfigurationError, match=str(path)):
        app.read_settings()


def test_balancer_secret_is_that_of_its_file(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default no load balancer has one; a file without one ends the start."""
    assert make_app().read_settings().balancer_secret == ""
    path = tmp_path / "secret"
    monkeypatch.setenv("EG_BALANCER_SECRET_FILE", str(path))
    path.write_text("of-the-file\n")
    settings = make_app().read_settings()
    assert settings.balancer_secret == "of-the-file"
    assert "of-the-file" not in repr(settings)
    path.write_text("\n")
    with pytest.raises(ConfigurationError, match="balancer secret"):
        make_app().read_settings()


def test_webhook_needs_a_url_and_a_secret(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that a receiver cannot tell from a forged one is worth nothing: no start then."""
    path = tmp_path / "secret"
    monkeypatch.setenv("EG_EVENT_WEBHOOK_URL", "https://hooks.example/kernels")
    with pytest.raises(ConfigurationError, match="event_webhook_secret_file"):
        make_app().read_settings()
    monkeypatch.setenv("EG_EVENT_WEBHOOK_SECRET_FILE", str(path))
    for text in ("too short", "c2hvcnQ=", "%" * 40):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=str(path)) as failure:
            make_app().read_settings()
        assert text not in str(failure.value)
    secret = base64.b64encode(bytes(range(32))).decode()
    for prefix in ("", "whsec_"):
        path.write_text(f"{prefix}{secret}\n")
        settings = make_app().read_settings()
        assert settings.event_webhook_key == bytes(range(32))
        assert secret not in repr(settings)
    for url in ("hooks.example", "ftp://hooks.example/", "https:///kernels", "http://[::1/"):
        monkeypatch.setenv("EG_EVENT_WEBHOOK_URL", url)
        with pytest.raises(ConfigurationError, match="event_webhook_url"):
            make_app().read_settings()


def test_requests_without_user_name_get_one_that_may_start_kernels(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that runs as root still serves clients that send no KERNEL_USERNAME."""
    assert make_app().read_settings().kernels.default_username == "ann"
    monkeypatch.setenv("LOGNAME", "root")
    assert make_app().read_settings().kernels.default_username == "jovyan"


@pytest.mark.parametrize("variable", ["EG_INHERITED_ENVS", "EG_ENV_PROCESS_WHITELIST"])
def test_inherited_variables_bring_their_values(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The settings hold the values, so that nothing else reads the environment."""
    monkeypatch.setenv(variable, "HERE, NOT_THERE")
    monkeypatch.setenv("HERE", "value")
    assert make_app().read_settings().kernels.inherited_env == {"HERE": "value"}


def test_local_kernels_get_the_environment_of_the_account_without_secrets(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jupyter servers pass on the same, besides the gateway's variables and secrets."""
    handed_on = {"HOME": "/home/ann", "LANG": "de", "LD_LIBRARY_PATH": "/l", "JAVA_HOME": "/j"}
    handed_on |= {
        "PWD": "/home/ann",
        "OLDPWD": "/",
        "COMPASS": "n",
        "PGPASSFILE": "/home/ann/.pgpass",
    }
    secrets = (
        "EG_AUTH_TOKEN", "KG_AUTH_TOKEN", "EG_REMOTE_PWD", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD",
        "GITHUB_TOKEN", "OPENAI_API_KEY", "DOCKER_HOST", "KERNEL_USERNAME", "JPY_PARENT_PID",
        "MYSQL_PWD", "GPG_PASSPHRASE", "SMTP_PASS", "PASS",
    )  # fmt: skip
    for name, value in handed_on.items():
        monkeypatch.setenv(name, value)
    for name in secrets:
        monkeypatch.setenv(name, "1")
    account = make_app().read_settings().kernels.account_env
    assert handed_on.items() <= account.items()
    assert not account.keys() & set(secrets)


def test_clusters_keep_their_local_kernels_apart(make_app: MakeApp) -> None:
    """Gateways of one user with different secrets do not see each other's."""
    one, same, other = (
        make_app(f"--EnterpriseGatewayApp.cluster_secret={secret}").read_settings().runtime_dir
        for secret in ("the-secret-of-one", "the-secret-of-one", "the-secret-of-another")
    )
    assert one == same != other
    assert one.parent.stat().st_mode & 0o777 == 0o700


def test_launch_scripts_get_the_engine_they_must_use(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options reach launch scripts under the variables that they read, wherever they were set."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
    monkeypatch.setenv("DOCKER_NETWORK", "other")
    docker = make_app("--EnterpriseGatewayApp.remove_container=False").read_settings().docker
    assert docker.launch_env == {
        "DOCKER_HOST": "unix:///x.sock",
        "DOCKER_NETWORK": "other",
        "EG_DOCKER_NETWORK": "bridge",
        "EG_REMOVE_CONTAINER": "False",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [("EG_PORT", "x"), ("EG_LIST_KERNELS", "maybe"), ("EG_PROHIBITED_UIDS", "root")],
)
def test_malformed_variable_ends_the_start_with_its_name(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    text: str,
) -> None:
    """The operator reads which variable is wrong, and no traceback."""
    monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit):
        make_app()
    message = capfd.readouterr().err
    assert name in message
    assert repr(text) in message
    assert "Traceback" not in message


def test_unknown_pull_policy_is_refused(make_app: MakeApp) -> None:
    """The message has those that there are."""
    with pytest.raises(ConfigurationError, match="IfNotPresent, Always, Never"):
        make_app("--EnterpriseGatewayApp.pull_policy=Sometimes").read_settings()


def test_malformed_port_range_is_refused(make_app: MakeApp) -> None:
    """A port range that is none is a configuration error."""
    with pytest.raises(ConfigurationError, match="port_range"):
        make_app("--EnterpriseGatewayApp.port_range=8").read_settings()


def test_settings_without_meaning_are_answered_by_one_line(
    make_app: MakeApp,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A configuration of Enterprise Gateway works, and the log names options without effect."""
    monkeypatch.setenv("EG_YARN_ENDPOINT", "http://yarn")
    monkeypatch.setenv("EG_SSH_PORT", "22")
    config_file.write_text(
        "c.EnterpriseGatewayApp.remote_hosts = ['a']\n"
        "c.FileKernelSessionManager.enable_persistence = True\n"
        "c.MappingKernelManager.buffer_offline_messages = False\n"
    )
    make_app("--EnterpriseGatewayApp.availability_mode=replication").read_settings()
    lines = [line for line in capfd.readouterr().err.splitlines() if "ignored" in line]
    assert len(lines) == 1
    for name in (
        "EG_YARN_ENDPOINT", "EG_SSH_PORT", "EnterpriseGatewayApp.remote_hosts",
        "FileKernelSessionManager.enable_persistence", "EnterpriseGatewayApp.availability_mode",
        "MappingKernelManager.buffer_offline_messages",
    ):  # fmt: skip
        assert name in lines[0]


@pytest.mark.parametrize(
    ("option", "new"),
    [
        ("EnterpriseGatewayApp.env_whitelist=['A']", "EnterpriseGatewayApp.client_envs"),
        ("EnterpriseGatewayApp.env_process_whitelist=['A']", "EnterpriseGatewayApp.inherited_envs"),
        ("KernelSpecManager.whitelist=['A']", "KernelSpecManager.allowed_kernelspecs"),
    ],
)
def test_old_option_is_taken_with_a_warning(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], option: str, new: str
) -> None:
    """Deprecated names work, and the log names the new ones."""
    make_app(f"--{option}")
    assert f"is deprecated, use {new}" in capfd.readouterr().err


@takes_literals
def test_old_option_does_not_beat_the_new_one(make_app: MakeApp) -> None:
    """Where both names are set, the new one counts."""
    app = make_app(
        "--EnterpriseGatewayApp.env_whitelist=['OLD']", "--EnterpriseGatewayApp.client_envs=['NEW']"
    )
    assert app.read_settings().kernels.client_envs == {"NEW"}


def test_options_of_jupyter_client_and_jupyter_server_are_known() -> None:
    """The gateway starts with a configuration for their managers."""
    theirs = (AsyncMappingKernelManager, AsyncIOLoopKernelManager, JupyterKernelSpecManager)
    ours = find_sections(CLASSES)
    for section, options in find_sections(theirs).items():
        assert set(options) <= set(ours[section])


def test_generated_configuration_loads_and_changes_nothing(
    make_app: MakeApp, tmp_path: Path
) -> None:
    """`--generate-config` writes a file that names every option and is valid."""
    path = tmp_path / "generated.py"
    app = EnterpriseGatewayApp(config_file=str(path), generate_config=True, answer_yes=True)
    app.write_default_config()
    text = path.read_text()
    assert "# c.EnterpriseGatewayApp.auth_token" in text
    assert "# c.MappingKernelManager.cull_idle_timeout" in text
    plain = make_app().read_settings()
    loaded = make_app(f"--config={path}").read_settings()
    assert (loaded.server, loaded.kernels) == (plain.server, plain.kernels)


def test_shown_configuration_hides_secrets(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--show-config-json` tells which options are set, but not the token."""
    monkeypatch.setenv("EG_AUTH_TOKEN", "do-not-show")
    app = make_app("--show-config-json", "--port=1234")
    app.start()
    shown = json.loads(capsys.readouterr().out)
    assert shown["EnterpriseGatewayApp"] == {"auth_token": "<hidden>", "port": 1234}


def test_bad_option_does_not_log_the_configuration(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even at DEBUG the token is not written down when another option is wrong."""
    monkeypatch.setenv("EG_AUTH_TOKEN", "do-not-show")
    with pytest.raises(SystemExit):
        make_app("--debug", "--EnterpriseGatewayApp.auth_token=do-not-show", "--port=x")
    printed = capfd.readouterr().err
    assert "port" in printed
    assert "do-not-show" not in printed


def test_settings_hide_secrets_in_their_text(make_app: MakeApp) -> None:
    """A settings object that ends up in a log or traceback tells no secret."""
    settings = make_app("--EnterpriseGatewayApp.auth_token=do-not-show").read_settings()
    assert "do-not-show" not in repr(settings)
    assert settings.cluster_secret.hex() not in repr(settings)
    assert repr(settings.cluster_secret) not in repr(settings)


def test_runtime_folder_is_private(make_app: MakeApp) -> None:
    """Only the gateway's user may reach the sockets of local kernels."""
    settings = make_app().read_settings()
    assert settings.runtime_dir.stat().st_mode & 0o777 == 0o700


def test_every_option_has_help() -> None:
    """`--help-all` explains every option."""
    for cls in OPTION_CLASSES:
        for name, trait in cls.class_own_traits(config=True).items():
            assert trait.help, f"{cls.__name__}.{name}"


@pytest.mark.parametrize(("text", "level"), [("DEBUG", 10), ("warning", 30), ("40", 40)])
def test_log_level_is_that_of_the_variable(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, text: str, level: int
) -> None:
    """`EG_LOG_LEVEL` sets the level, as in the image of Enterprise Gateway."""
    monkeypatch.setenv("EG_LOG_LEVEL", text)
    assert make_app().log_level == level
    assert make_app("--log-level=CRITICAL").log_level == logging.CRITICAL


@pytest.mark.parametrize("level", ["DEBUG", "WARN"])
def test_log_level_is_that_asked_for(make_app: MakeApp, level: str) -> None:
    """`--log-level` sets the level of the printed messages."""
    app = make_app(f"--log-level={level}")
    [handler] = logging.getLogger("enterprise_gateway").handlers
    assert handler.level == getattr(logging, level)
    assert app.log.handlers == [handler]
