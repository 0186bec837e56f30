"""The `__main__` of the bundle's archive: runs the agent, or has the prelude try another Python.

The prelude executes it with any Python it finds, so it is written for all of them, from 2.7 on.
"""

import os
import sys

MISSING = ""
if sys.version_info < (3, 9):
    MISSING = "Python %d.%d" % sys.version_info[:2]
else:
    from importlib.machinery import PathFinder

    # The kernel's own Python searches these folders, too. They come last, so that no file of the
    # user's can shadow a module of the agent.
    if PathFinder.find_spec("zmq") is None:
        import site

        sys.path += [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
        sys.path += [site.getusersitepackages()]
    # A Python with pyzmq is probably the kernel's own. If the image has none, any will do.
    if PathFinder.find_spec("zmq") is None and not os.environ.get("EG_AGENT_ANY_PYTHON"):
        MISSING = "no pyzmq"

if MISSING:
    tried = os.environ.get("EG_AGENT_TRIED") or sys.executable
    os.environ["EG_AGENT_TRIED"] = "%s (%s)" % (tried, MISSING)
    sys.argv.insert(0, "/bin/sh")
    os.execv("/bin/sh", sys.argv)  # noqa: S606  # with a list
else:
    from kernel_agent.__main__ import main

    sys.exit(main())
