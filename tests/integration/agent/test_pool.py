"""A kernel that waits in a pool, and the user who takes it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from harness.agents.agent import Agent
from harness.agents.messages import texts
from harness.waiting import eventually

pytestmark = pytest.mark.kernel

POOLED = {"pool_ttl": 3600}
VARIABLES = {"KERNEL_USERNAME": "bob", "GREETING": 'it\'s "fine" \\ ☃ 😀\n$HOME', "UNWANTED": None}
SHOW = """
import json, os
print(json.dumps([os.environ.get("KERNEL_USERNAME"), os.environ.get("GREETING"),
                  os.environ.get("UNWANTED"), os.getcwd()]))
"""


async def test_kernel_of_a_pool_is_its_takers(tmp_path: Path) -> None:
    """Its environment and folder are those of the user from the first cell on, and later ones."""
    async with Agent(settings=POOLED, env={"UNWANTED": "of the pool"}) as agent:
        await agent.until_state("idle")
        before = await agent.state()
        assert before["pooled"]
        taking = {"username": "bob", "env": VARIABLES, "cwd": str(tmp_path), "ping_interval": 7}
        status, state = await agent.request("POST", "/v1/take", taking)
        assert (status, state["username"], state["pooled"]) == (200, "bob", False)
        expected = ["bob", VARIABLES["GREETING"], None, str(tmp_path)]
        client = await agent.connect("s")
        assert json.loads(texts(await client.execute(SHOW))) == expected
        await agent.request("POST", "/v1/restart")
        assert json.loads(texts(await client.execute(SHOW))) == expected
        _, taken = await agent.request("GET", "/v1/taken")
        assert taken == {"is_taken": True, "env": VARIABLES}


INTROSPECT = """
import json
shell = get_ipython()
print(json.dumps([sorted(dir()), In, list(Out), list(shell.history_manager.get_range()),
                  shell.execution_count, repr(shell.user_ns["_"])]))
"""


async def test_taking_leaves_no_trace_in_the_kernel(agent: Agent) -> None:
    """No variable, no history, no execution count, and no message that a client sees."""
    ordinary = await agent.connect("s")
    expected = await ordinary.execute(INTROSPECT)
    async with Agent(settings=POOLED) as pooled:
        await pooled.until_state("idle")
        await pooled.request("POST", "/v1/take", {"username": "bob", "env": {"A": "1"}})
        client = await pooled.connect("s")
        seen = await client.execute(INTROSPECT)
    assert texts(seen) == texts(expected)
    types = [sorted(message.type for message in messages) for messages in (seen, expected)]
    assert types[0] == types[1]


async def test_one_of_many_takes_a_kernel() -> None:
    """However many gateways ask at once; and it cannot be ended as one of a pool any more."""
    async with Agent(settings=POOLED) as agent:
        await agent.until_state("idle")
        answers = await asyncio.gather(
            *(agent.request("POST", "/v1/take", {"username": str(n)}) for n in range(20))
        )
        assert sorted(status for status, _ in answers) == [200] + [409] * 19
        status, refusal = await agent.request("POST", "/v1/shutdown", {"only_pooled": True})
        assert (status, refusal["message"]) == (409, "the kernel is in no pool")
        assert (await agent.state())["execution_state"] == "idle"


async def test_kernel_of_a_pool_is_ended_in_order() -> None:
    """By the gateway that finds one too many."""
    async with Agent(settings=POOLED) as agent:
        await agent.until_state("idle")
        assert (await agent.request("POST", "/v1/shutdown", {"only_pooled": True}))[0] == 204
        assert await agent.wait() == 0


@pytest.mark.parametrize(
    "limits",
    [
        {"cull_idle_timeout": 0.2, "cull_interval": 0.1},
        {"max_kernel_age": 0.5, "max_kernel_age_warning": 0},
    ],
)
async def test_kernel_of_a_pool_is_neither_idle_nor_old(limits: dict[str, Any]) -> None:
    """Both begin when a user has taken it."""
    async with Agent(settings={**POOLED, **limits}) as agent:
        await agent.until_state("idle")
        with pytest.raises(TimeoutError):
            await agent.wait(deadline=1.0)
        assert (await agent.request("POST", "/v1/take", {"username": "bob"}))[0] == 200
        assert await agent.wait() == 0


async def test_kernel_of_no_pool_is_not_taken(agent: Agent) -> None:
    """Ordinary kernels are their users' from the beginning."""
    status, refusal = await agent.request("POST", "/v1/take", {"username": "bob"})
    assert (status, refusal["message"]) == (409, "the kernel is in no pool")
    assert (await agent.state())["username"] == "ann"


@pytest.mark.parametrize(
    "body",
    [
        {"username": 5},
        {"env": []},
        {"env": {"A": 5}},
        {"env": {"A=B": "c"}},
        {"env": {"": "c"}},
        {"env": {"A": "b\0c"}},
        {"env": {str(n): "" for n in range(4097)}},
        {"cwd": None},
        {"ping_interval": -1},
        {"ping_interval": "soon"},
    ],
)
async def test_malformed_takeover_takes_nothing(body: dict[str, Any]) -> None:
    """400, and the kernel is still in its pool."""
    async with Agent(settings=POOLED) as agent:
        await agent.until_state("idle")
        assert (await agent.request("POST", "/v1/take", body))[0] == 400
        assert (await agent.state())["pooled"]


async def test_kernel_of_a_pool_that_died_is_started_again() -> None:
    """And can be taken then."""
    async with Agent(settings=POOLED) as agent:
        await agent.until_state("idle")
        await agent.request("POST", "/v1/signal", {"signum": 9})

        async def is_taken() -> bool:
            return (await agent.request("POST", "/v1/take", {"username": "bob"}))[0] == 200

        await eventually(is_taken)

        async def is_restarted() -> bool:
            state = await agent.state()
            return bool(state["restarts"] == 1 and state["execution_state"] == "idle")

        await eventually(is_restarted)


async def test_spare_is_the_takers(tmp_path: Path) -> None:
    """None is kept in the pool; that for the user's restart has the user's environment."""
    async with Agent(settings={**POOLED, "restart_spare": True}) as agent:
        await agent.until_state("idle")
        taking = {"username": "bob", "env": VARIABLES, "cwd": str(tmp_path)}
        _, state = await agent.request("POST", "/v1/take", taking)
        assert not state["spare"]

        async def has_spare() -> bool:
            return bool((await agent.state())["spare"])

        await eventually(has_spare)
        _, restarted = await agent.request("POST", "/v1/restart")
        assert list(restarted["start"]["steps"]) == ["end", "spare"]
        client = await agent.connect("s")
        shown = json.loads(texts(await client.execute(SHOW)))
        assert shown == ["bob", VARIABLES["GREETING"], None, str(tmp_path)]


async def until_spare(agent: Agent) -> None:
    """Wait until the kernel has a spare."""
    await agent.until_state("idle")

    async def has_spare() -> bool:
        return bool((await agent.state())["spare"])

    await eventually(has_spare, deadline=60)


WITH_SPARE = {**POOLED, "restart_spare": True}
OF_THE_START = """
import json, os, sys, time
names = ["MPLBACKEND", "TZ", "UNWANTED"]
print(json.dumps([*map(os.environ.get, names), time.tzname[0], os.getcwd(), len(In)]))
"""


@pytest.mark.parametrize(
    ("process", "steps"), [("spare", {"end", "spare"}), ("new", {"end", "kernel"})]
)
async def test_kernel_of_a_pool_begins_anew_for_its_taker(
    process: str, steps: set[str], tmp_path: Path
) -> None:
    """With variables that a process reads when it begins; it counts as no restart."""
    variables = {"KERNEL_USERNAME": "bob", "MPLBACKEND": "agg", "TZ": "EST5", "UNWANTED": None}
    async with Agent(settings=WITH_SPARE, env={"UNWANTED": "of the pool"}) as agent:
        await until_spare(agent)
        taking = {
            "username": "bob",
            "env": variables,
            "cwd": str(tmp_path),
            "process": process,
        }
        status, state = await agent.request("POST", "/v1/take", taking)
        assert (status, state["execution_state"], state["restarts"]) == (200, "idle", 0)
        assert set(state["start"]["steps"]) == steps
        client = await agent.connect("s")
        expected = ["agg", "EST5", None, "EST", str(tmp_path), 2]
        assert json.loads(texts(await client.execute(OF_THE_START))) == expected
        await agent.request("POST", "/v1/restart")
        assert json.loads(texts(await client.execute(OF_THE_START)))[:3] == expected[:3]
        assert (await agent.state())["restarts"] == 1


async def test_process_of_the_pool_is_gone_when_its_kernel_begins_anew() -> None:
    """With all that its startup files have begun; many gateways may ask at once."""
    async with Agent(settings=WITH_SPARE) as agent:
        await until_spare(agent)
        before = set(processes_of(agent))
        taking = {"username": "bob", "env": {"OMP_NUM_THREADS": "1"}, "process": "spare"}
        answers = await asyncio.gather(
            *(agent.request("POST", "/v1/take", taking) for _ in range(20))
        )
        assert sorted(status for status, _ in answers) == [200] + [409] * 19
        (left,) = processes_of(agent)
        assert left in before


async def test_process_that_cannot_begin_is_told() -> None:
    """The gateway starts the kernel as if there were no pool, and ends this one."""
    async with Agent(settings=POOLED) as agent:
        await agent.until_state("idle")
        taking = {"username": "bob", "env": {"PYTHONHOME": "/nowhere"}, "process": "new"}
        status, refusal = await agent.request("POST", "/v1/take", taking)
        assert status == 500, refusal
        assert (await agent.request("POST", "/v1/shutdown"))[0] == 204
        assert await agent.wait() == 0


async def test_spare_of_a_pooled_kernel_is_its_takers() -> None:
    """It waits for a restart with the environment that was set in the running kernel."""
    async with Agent(settings=WITH_SPARE) as agent:
        await until_spare(agent)
        status, state = await agent.request(
            "POST", "/v1/take", {"username": "bob", "env": {"GREETING": "hello"}, "cwd": "/usr"}
        )
        assert (status, state["spare"]) == (200, True)
        _, state = await agent.request("POST", "/v1/restart")
        assert set(state["start"]["steps"]) == {"end", "spare"}
        client = await agent.connect("s")
        expected = ["ann", "hello", None, "/usr"]
        assert json.loads(texts(await client.execute(SHOW))) == expected


READ = "import sys; known = 'reads' in sys.modules; import reads; print(known, reads.greeting)"


@pytest.mark.parametrize(
    ("process", "first"),
    [("running", "True None\n"), ("spare", "False hello\n"), ("new", "False hello\n")],
)
async def test_preloaded_module_has_read_the_users_variables(
    process: str, first: str, tmp_path: Path
) -> None:
    """Except in the process that has waited: it is imported there before there is a user.

    The spare of the pool has not imported it, and is replaced by one for the user's restarts.
    """
    (tmp_path / "reads.py").write_text("import os\ngreeting = os.environ.get('GREETING')")
    settings = {**WITH_SPARE, "preload": ["reads"]}
    async with Agent(settings=settings, env={"PYTHONPATH": str(tmp_path)}) as agent:
        await until_spare(agent)
        before = set(processes_of(agent))
        taking = {"username": "bob", "env": {"GREETING": "hello"}, "process": process}
        status, state = await agent.request("POST", "/v1/take", taking)
        assert status == 200
        if process == "spare":
            assert set(state["start"]["steps"]) == {"end", "spare"}
        client = await agent.connect("s")
        assert texts(await client.execute(READ)) == first
        before.add(int(texts(await client.execute("import os; print(os.getpid())"))))
        await eventually(lambda: set(processes_of(agent)) - before)
        await until_spare(agent)
        _, state = await agent.request("POST", "/v1/restart")
        assert set(state["start"]["steps"]) == {"end", "spare"}
        assert texts(await client.execute(READ)) == "True hello\n"


@pytest.mark.parametrize("process", ["running", "spare"])
async def test_restart_right_after_a_take_has_the_users_variables(
    process: str, tmp_path: Path
) -> None:
    """Also before there is a spare that has imported the modules of `preload`."""
    (tmp_path / "reads.py").write_text("import os\ngreeting = os.environ.get('GREETING')")
    settings = {**WITH_SPARE, "preload": ["reads"]}
    async with Agent(settings=settings, env={"PYTHONPATH": str(tmp_path)}) as agent:
        await until_spare(agent)
        taking = {"username": "bob", "env": {"GREETING": "hello"}, "process": process}
        assert (await agent.request("POST", "/v1/take", taking))[0] == 200
        await agent.request("POST", "/v1/restart")
        client = await agent.connect("s")
        assert texts(await client.execute(READ)).endswith(" hello\n")


@pytest.mark.parametrize("restart_spare", [True, False])
async def test_kernel_of_a_pool_has_imported_what_is_preloaded(
    restart_spare: bool,  # noqa: FBT001  # a parameter
    tmp_path: Path,
) -> None:
    """Whether it has a spare or not; the user's names are not among them.

    A module that cannot be imported, or that cells have from their folder, is a line of the log.
    """
    (tmp_path / "local.py").write_text("")
    preload = ["xml.dom.minidom", "no_such_module", "local"]
    settings = {**POOLED, "restart_spare": restart_spare, "preload": preload}
    async with Agent(settings=settings, env={"KERNEL_WORKING_DIR": str(tmp_path)}) as agent:
        await agent.until_state("idle")
        assert (await agent.request("POST", "/v1/take", {"username": "bob"}))[0] == 200
        client = await agent.connect("s")
        loaded = texts(await client.execute("import sys; print(*sys.modules)")).split()
        assert "xml.dom.minidom" in loaded
        assert "local" not in loaded
        assert texts(await client.execute("print('xml' in globals())")) == "False\n"
        _, log = await agent.request("GET", "/v1/log")
        assert "cannot preload no_such_module: ModuleNotFoundError" in log


@pytest.mark.parametrize(
    "text",
    [
        "import os; os._exit(3)",
        "import signal; signal.pause()",
        "from ipykernel.kernelapp import IPKernelApp; IPKernelApp.init_kernel = None",
    ],
    ids=["ends", "hangs", "breaks"],
)
async def test_module_that_is_preloaded_in_vain_fails_no_kernel(text: str, tmp_path: Path) -> None:
    """It is started without, within its time; no restart is counted, and it can be taken."""
    (tmp_path / "harms.py").write_text(text)
    settings = {**POOLED, "preload": ["harms"], "launch_timeout": 20}
    async with Agent(settings=settings, env={"PYTHONPATH": str(tmp_path)}) as agent:
        await agent.until_state("idle")
        status, state = await agent.request(
            "POST", "/v1/take", {"username": "bob", "env": {"A": "1"}}
        )
        assert (status, state["restarts"], state["reason"]) == (200, 0, None)
        client = await agent.connect("s")
        code = "import os, sys; print(os.environ['A'], 'harms' in sys.modules)"
        assert texts(await client.execute(code)) == "1 False\n"


async def test_unknown_process_is_refused() -> None:
    """The kernel stays in its pool."""
    async with Agent(settings=POOLED) as agent:
        await agent.until_state("idle")
        taking = {"username": "bob", "process": "forked"}
        assert (await agent.request("POST", "/v1/take", taking))[0] == 400
        assert (await agent.state())["pooled"]


def processes_of(agent: Agent) -> list[int]:
    """Return the children of an agent."""
    text = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text()
    return [int(pid) for pid in text.split()]
