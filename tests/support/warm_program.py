"""What ``warm_python()`` gives: it has itself forked, passes signals on, and ends as the fork does.

Run as ``python -I -S`` from a folder with the socket of the process that forks.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
TORCHRUN = ("-m", "torch.distributed.run")


def main() -> None:
    here = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 (quick to import)
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = os.umask(0o022)
    os.umask(mask)
    request = {
        "program": os.path.join(here, "python"),  # noqa: PTH118
        "arguments": [*(TORCHRUN if sys.argv[0].endswith("torchrun") else ()), *sys.argv[1:]],
        "variables": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "mask": mask,
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }
    places = [
        os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/user", "/proc/self/ns/mnt", "/")
    ]
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        line.connect(os.path.join(here, "socket"))  # noqa: PTH118
        socket.send_fds(line, [json.dumps(request).encode()], [0, 1, 2, *places])
        pid = int(line.recv(16))
    except (OSError, ValueError) as error:
        sys.exit(f"no process forks for {sys.argv}: {error!r}")
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = int(line.recv(16) or b"1")
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL,) else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
