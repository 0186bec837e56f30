"""What builds get from the machine that they run on."""

from pathlib import Path

from devtools.machine import apt_conf, certificate_file, mirrors, pip_conf, proxies, sources_list

ONE_LINE = """\
# deb http://old.invalid/debian bookworm main
deb [signed-by=/x.gpg] http://mirror.invalid/debian bookworm main contrib
deb http://mirror.invalid/security bookworm-security main
deb http://vendor.invalid/apt stable main
"""
STANZAS = """\
Types: deb
# a comment
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://vendor.invalid/apt
Suites: nodistro
Components: main
"""


def test_mirrors_are_found_in_both_forms() -> None:
    """Comments, other suites and other vendors do not count."""
    assert mirrors(ONE_LINE, "bookworm") == ["http://mirror.invalid/debian"]
    assert mirrors(STANZAS, "bookworm") == ["http://mirror.invalid/debian"]
    assert mirrors(STANZAS, "trixie") == []


def test_sources_list_is_for_the_suite_of_the_image() -> None:
    """A machine with another release uses the same mirrors for the image's."""
    assert sources_list(ONE_LINE, "bookworm", "trixie").splitlines() == [
        "deb http://mirror.invalid/debian trixie main",
        "deb http://mirror.invalid/security trixie-security main",
    ]


def test_pip_conf_leaves_out_what_is_only_on_this_machine() -> None:
    """Folders and files stay out, options that pip does not need in a build too."""
    conf = pip_conf(
        [
            "global.cert='/etc/ssl/own.crt'",
            "global.extra-index-url='file:///opt/index https://index.invalid/simple'",
            "global.find-links='/opt/wheels'",
            "install.user='true'",
        ]
    )
    assert conf.split() == ["[global]", "extra-index-url", "=", "https://index.invalid/simple"]


def test_pip_conf_variables_win_over_files() -> None:
    """As they do for pip itself, wherever they stand in its list."""
    conf = pip_conf([":env:.index-url='https://b.invalid'", "global.index-url='https://a.invalid'"])
    assert "https://b.invalid" in conf
    assert "https://a.invalid" not in conf


def test_pip_conf_without_options_is_empty() -> None:
    """The file of a machine that needs nothing is that of the repository."""
    assert pip_conf([":env:.disable-pip-version-check='1'"]) == ""


def test_apt_conf_keeps_how_to_fetch_and_replaces_the_authorities() -> None:
    """Folders of this machine's apt do not get into the image's."""
    conf = apt_conf(
        [
            'Dir::State "/var/lib/apt";',
            'Acquire::http::Proxy "http://proxy.invalid:3128";',
            'Acquire::https::CaInfo "/etc/own.crt";',
        ],
        has_certificates=True,
    )
    assert conf.splitlines() == [
        'Acquire::http::Proxy "http://proxy.invalid:3128";',
        'Acquire::https::CaInfo "/machine/ca-certificates.crt";',
    ]


def test_proxies_are_passed_in_both_spellings() -> None:
    """Only those that are set."""
    environ = {"https_proxy": "http://p.invalid", "HTTP_PROXY": "http://q.invalid", "no_proxy": ""}
    assert proxies(environ) == {
        "https_proxy": "http://p.invalid",
        "HTTP_PROXY": "http://q.invalid",
    }


def test_certificate_file_named_by_a_variable_comes_first(tmp_path: Path) -> None:
    """A variable that names no file is passed over."""
    bundle = tmp_path / "bundle.crt"
    bundle.touch()
    environ = {"PIP_CERT": str(tmp_path / "missing"), "SSL_CERT_FILE": str(bundle)}
    assert certificate_file(environ) == bundle
