"""Local kernels have the environment of the gateway's account, as those of Jupyter servers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.gateways.gateway import Gateway

MakeGateway = Callable[..., Gateway]
pytestmark = pytest.mark.kernel


def run(gateway: Gateway, kernel_id: str, code: str) -> str:
    """Return the output of code in a kernel."""
    channels = gateway.connect(kernel_id)
    try:
        return channels.execute(code).stdout.strip()
    finally:
        channels.close()


def install(gateway: Gateway, name: str, **changes: Any) -> None:
    """Install a kernelspec of a local Python kernel."""
    folder = gateway.home / "share/jupyter/kernels" / name
    folder.mkdir(parents=True)
    spec = {
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        **changes,
    }
    (folder / "kernel.json").write_text(json.dumps(spec))


def test_kernel_is_at_home(make_gateway: MakeGateway) -> None:
    """Files in `~` stay, and locale, paths and user name are those of the account."""
    gateway = make_gateway({"LANG": "C.UTF-8", "USER": "ann", "SITE_TOKEN": "hidden"})
    install(gateway, "at_home", env={"PYTHONPATH": "$HOME/modules"})
    (gateway.home / "modules").mkdir()
    (gateway.home / "modules" / "mine.py").write_text("x = 42")
    (gateway.home / "modules" / "h11.py").write_text("raise SystemExit('not for the agent')")
    gateway.start()
    # the agent imports h11, the kernel does not
    kernel_id = gateway.start_kernel("at_home")
    run(gateway, kernel_id, "import os; open(os.path.expanduser('~/saved.txt'), 'w').write('kept')")
    code = "import os, mine; e = os.environ; print(mine.x, e['LANG'], e['USER'], e['HOME'])"
    assert run(gateway, kernel_id, code) == f"42 C.UTF-8 ann {gateway.home}"
    secrets = "print([n for n in e if 'TOKEN' in n or n.startswith(('EG_AUTH', 'EG_AGENT'))])"
    assert run(gateway, kernel_id, secrets) == "[]"
    gateway.delete_kernel(kernel_id)
    assert (gateway.home / "saved.txt").read_text() == "kept"


def test_values_of_a_kernelspec_are_expanded(make_gateway: MakeGateway) -> None:
    """As in jupyter_client, names of variables stand for the values that the kernel gets."""
    gateway = make_gateway({"LD_LIBRARY_PATH": "/lib/a"})
    values = {
        "PATH": "/opt/tool/bin:${PATH}",
        "IN_HOME": "$HOME/x",
        "OWN": "${KERNEL_ID}-${KERNEL_USERNAME}",
        "LD_LIBRARY_PATH": "/lib/b:$LD_LIBRARY_PATH",
        "UNKNOWN": "${NOT_SET}",
    }
    install(gateway, "expanded", env=values)
    gateway.start()
    kernel_id = gateway.start_kernel("expanded")
    names = list(values)
    printed = run(gateway, kernel_id, f"import os; print([os.environ[n] for n in {names}])")
    path, in_home, own, libraries, unknown = json.loads(printed.replace("'", '"'))
    assert path.startswith("/opt/tool/bin:/")
    assert path.endswith(gateway.env["PATH"])
    assert in_home == f"{gateway.home}/x"
    assert own == f"{kernel_id}-{gateway.username}"
    assert libraries == "/lib/b:/lib/a"
    assert unknown == "${NOT_SET}"
    assert (
        run(gateway, kernel_id, "import subprocess; subprocess.check_call(['sh', '-c', ':'])") == ""
    )


def test_kernel_class_is_that_of_the_request(make_gateway: MakeGateway) -> None:
    """KERNEL_CLASS_NAME, as Enterprise Gateway has it."""
    gateway = make_gateway({"PYTHONPATH": ""})
    gateway.env["PYTHONPATH"] = str(gateway.home)
    source = "from ipykernel.ipkernel import IPythonKernel\nclass Mine(IPythonKernel): ...\n"
    (gateway.home / "site_kernel.py").write_text(source)
    gateway.start()
    kernel_id = gateway.start_kernel("python3", {"KERNEL_CLASS_NAME": "site_kernel.Mine"})
    assert run(gateway, kernel_id, "print(type(get_ipython().kernel).__name__)") == "Mine"


def test_python_starts_the_native_kernel(make_gateway: MakeGateway) -> None:
    """Old notebooks use this name, and the answer has the real one."""
    gateway = make_gateway()
    gateway.start()
    body = {"name": "python", "env": {"KERNEL_USERNAME": gateway.username}}
    started = gateway.request("POST", "/api/kernels", json=body)
    assert (started.status_code, started.json()["name"]) == (201, "python3")
    session = {"path": "a.ipynb", "type": "notebook", "name": "", "kernel": body}
    started = gateway.request("POST", "/api/sessions", json=session)
    assert (started.status_code, started.json()["kernel"]["name"]) == (201, "python3")


def test_kernelspec_for_a_provisioner_is_refused(make_gateway: MakeGateway) -> None:
    """The message names the alternative, and nothing runs on the gateway's machine."""
    gateway = make_gateway()
    stanza = {"provisioner_name": "kubernetes-provisioner", "config": {}}
    install(gateway, "elsewhere", metadata={"kernel_provisioner": stanza})
    gateway.start()
    answer = gateway.request("POST", "/api/kernels", json={"name": "elsewhere"})
    assert answer.status_code == 500
    assert "metadata.kernel_provisioner names 'kubernetes-provisioner'" in answer.json()["message"]
    assert "metadata.process_proxy" in answer.json()["message"]


def test_gateway_with_another_secret_does_not_see_local_kernels(make_gateway: MakeGateway) -> None:
    """Nor end them: they are another cluster's, though the account is the same."""
    one, other = make_gateway({"EG_CLUSTER_SECRET": "secret-of-the-first"}), make_gateway()
    other.env["EG_CLUSTER_SECRET"] = "secret-of-the-second"
    other.env["JUPYTER_RUNTIME_DIR"] = one.env["JUPYTER_RUNTIME_DIR"]
    one.start()
    other.start()
    kernel_id = one.start_kernel("python3")
    assert other.request("GET", f"/api/kernels/{kernel_id}").status_code == 404
    assert other.request("DELETE", f"/api/kernels/{kernel_id}").status_code == 404
    assert other.run_command("kernels", "list").stdout == "No kernels.\n"
    assert other.run_command("kernels", "stop", "--all").returncode == 0
    assert run(one, kernel_id, "print('lives')") == "lives"
