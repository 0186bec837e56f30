"""`__main__` of the bundle's archive: run the agent if this Python can, else look for another one.

It may be executed by any Python there is, so it is written for all of them, from 2.7 on.
"""

import os
import sys

MISSING = ""
if sys.version_info < (3, 9):
    MISSING = "Python %d.%d" % sys.version_info[:2]
else:
    from importlib.machinery import PathFinder

    # Where the kernel's own Python will look, too. Behind everything else, so that no file of the
    # user's passes for a module of the agent's.
    if PathFinder.find_spec("zmq") is None:
        import site

        sys.path += [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
        sys.path += [site.getusersitepackages()]
    if PathFinder.find_spec("zmq") is None:
        MISSING = "no pyzmq"

if MISSING:
    tried = os.environ.get("EG_AGENT_TRIED") or sys.executable
    os.environ["EG_AGENT_TRIED"] = "%s (%s)" % (tried, MISSING)
    sys.argv.insert(0, "/bin/sh")
    os.execv("/bin/sh", sys.argv)  # noqa: S606  # with a list
else:
    from kernel_agent.__main__ import main

    sys.exit(main())
