"""The agent in an image that was not made for it: as one file, with the image's own kernel."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.agents import bundle
from harness.agents.agent import Agent
from harness.agents.messages import texts
from harness.waiting import eventually

pytestmark = pytest.mark.kernel

PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundle."""
    path = tmp_path_factory.mktemp("bundle") / "agent"
    path.write_bytes(bundle.build())
    return str(path)


def in_image(agent_file: str, *, env: dict[str, str], **settings: Any) -> Agent:
    """Start the bundle as a container does that has this Python on its PATH."""
    path = {"PATH": f"{PYTHON.parent}:/usr/bin:/bin"}
    return Agent(command=("/bin/sh", agent_file), settings=settings, env={**path, **env})


def add_kernelspec(data: Path, name: str, **document: object) -> dict[str, str]:
    """Make a kernelspec; return the environment in which it is found."""
    folder = data / "kernels" / name
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": command, **document}))
    return {"JUPYTER_PATH": str(data)}


@pytest.mark.parametrize("language", ["Python", ""])
async def test_kernel_of_the_image_is_run(agent_file: str, language: str) -> None:
    """Its Python by the kernelspec that ipykernel brings, and nothing of the agent's in it."""
    async with in_image(agent_file, env={"KERNEL_LANGUAGE": language}) as agent:
        client = await agent.connect("s")
        code = (
            "import os, sys; print(sys.prefix, os.getppid())\n"
            "print([n for n in os.environ if n.startswith('EG_')], sys.flags.isolated)"
        )
        seen = texts(await client.execute(code))
        assert seen == f"{sys.prefix} {agent.pid}\n[] 0\n"
        assert (await agent.request("POST", "/v1/restart"))[0] == 200
        assert texts(await client.execute("print('again')")) == "again\n"


async def test_kernel_of_the_image_restarts_from_a_spare(agent_file: str) -> None:
    """What the spare runs comes out of the archive."""
    async with in_image(agent_file, env={}, restart_spare=True) as agent:
        client = await agent.connect("s")
        await client.execute("1")

        async def has_spare() -> bool:
            return bool((await agent.state())["spare"])

        await eventually(has_spare)
        status, state = await agent.request("POST", "/v1/restart")
        assert (status, set(state["start"]["steps"])) == (200, {"end", "spare"})
        assert texts(await client.execute("print('again')")) == "again\n"


async def test_kernelspec_of_a_language_is_run_with_its_settings(
    agent_file: str, tmp_path: Path
) -> None:
    """KERNEL_LANGUAGE picks it whatever the case; `env` and `interrupt_mode` are honoured."""
    env = add_kernelspec(
        tmp_path,
        "Some.Kernel",
        language="SomeThing",
        env={"GREETING": "hello ${KERNEL_USERNAME}"},
        interrupt_mode="message",
    )
    env["KERNEL_LANGUAGE"] = "something"
    # a kernel that gets this signal dies
    async with in_image(agent_file, env=env, interrupt_signal="SIGUSR1") as agent:
        client = await agent.connect("s")
        assert texts(await client.execute("import os; print(os.environ['GREETING'])")) == (
            "hello ann\n"
        )
        msg_id = await client.run("print('on')\nwhile True: pass")
        await client.until(lambda m: m.type == "stream")
        assert (await agent.request("POST", "/v1/interrupt"))[0] == 204
        (error,) = (m for m in await client.finish(msg_id) if m.type == "error")
        assert error.content["ename"] == "KeyboardInterrupt"


async def test_command_of_the_gateways_kernelspec_counts_most(
    agent_file: str, tmp_path: Path
) -> None:
    """`kernel_argv` needs no kernelspec in the image, and no language."""
    argv = [sys.executable, "-Xutf8", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    env = {"KERNEL_LANGUAGE": "cobol", "JUPYTER_PATH": str(tmp_path)}
    async with in_image(agent_file, env=env, kernel_argv=argv) as agent:
        client = await agent.connect("s")
        assert texts(await client.execute("import sys; print(sys.orig_argv[1])")) == "-Xutf8\n"


async def test_image_without_the_language_is_told_in_one_sentence(
    agent_file: str, tmp_path: Path
) -> None:
    """The agent ends at once; what it says names the kernels that there are."""
    env = add_kernelspec(tmp_path, "some", language="SomeThing")
    async with in_image(agent_file, env={**env, "KERNEL_LANGUAGE": "cobol"}) as agent:
        assert await agent.wait() == 1
        assert "the image has no kernel for the language 'cobol': it has " in agent.log()
        assert "some (SomeThing)" in agent.log()


async def test_kernel_without_a_home_gets_one_that_goes_with_it(
    agent_file: str, tmp_path: Path
) -> None:
    """HOME and TMPDIR that are not there: the kernel can write to others, and nothing stays."""
    folder = tmp_path / "folder"
    folder.mkdir()
    nowhere = "/nonexistent"
    env = {"HOME": nowhere, "TMPDIR": nowhere, "IPYTHONDIR": f"{nowhere}/.ipython"}
    async with in_image(agent_file, env={**env, "EG_AGENT_FOLDER": str(folder)}) as agent:
        client = await agent.connect("s")
        code = (
            "import pathlib, tempfile\n"
            "home = pathlib.Path.home()\n"
            "home.joinpath('notes').write_text('x')\n"
            "print(home, tempfile.mkdtemp(), oct(home.stat().st_mode))"
        )
        home, temporary, mode = texts(await client.execute(code)).split()
        assert mode == "0o40700"
        for path in (home, temporary):
            assert Path(path).is_relative_to(folder)
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0
    assert not any(folder.iterdir())


async def test_agent_without_any_folder_says_so(agent_file: str) -> None:
    """A read-only root without a tmpfs: one line, exit code 2."""
    async with in_image(agent_file, env={"EG_AGENT_FOLDER": "/nonexistent"}) as agent:
        assert await agent.wait() == 2
        assert "none of the folders /nonexistent is writable" in agent.log()
        assert agent.log().count("\n") == 1
