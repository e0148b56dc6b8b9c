"""Jobs that begin with the libraries imported: a process that holds them, and forks for every job.

Importing torch takes longer than many a job. Jobs that a workflow runs on its own machine ask one process, which has
imported libraries and nothing of ours, for a fork of itself. It runs its script as `python script.py ...` would: with
its own memory, arguments, environment, folder and streams, and its own exit status. Everything of ours is imported by
the job, from the files that its spec names.

    python warm.py script.py arguments ...      run a script in a fork; alone where ATTRIFLOW_WARM names no process
    python warm.py --serve SOCKET PLACE < PIPE  be that process until the pipe closes, and the jobs that run then end
"""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path

WARM = "ATTRIFLOW_WARM"  # the folder of the Python that the process runs, and where it listens

_LIBRARIES = ("torch", "scipy.linalg", "scipy.stats", "pandas", "matplotlib.figure", "threadpoolctl")
_STREAMS = 3  # standard input, output and error
_PR_SET_PDEATHSIG = 1  # SOURCE: linux/prctl.h
_KILLED = 128 + signal.SIGKILL  # an exit status
_NUMBER = struct.Struct("i")  # the size of a request; a signal; an exit status


def start() -> str:
    """Start the process, which ends when this one does; what ATTRIFLOW_WARM must be for jobs to find it."""
    import subprocess
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="attriflow-"), "jobs")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(64)  # from here on jobs may ask, and wait until it has imported
        command = [sys.executable, "-P", __file__, "--serve", str(listening.fileno()), str(place)]
        pipe = subprocess.PIPE  # its other end closes with this process, however that ends
        # libraries come from the environment alone, as those of jobs that start alone do
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.Popen(command, stdin=pipe, pass_fds=[listening.fileno()], start_new_session=True, env=environment)
    return os.pathsep.join([str(Path(sys.executable).parent), str(place)])


# --- who asks ------------------------------------------------------------------------------------------------


def run(arguments: list[str]) -> int:
    """Run a script in a fork; its exit status, as a shell has it. Replaces this process where there is none to ask."""
    python, _, place = os.getenv(WARM, "").partition(os.pathsep)
    connection = socket.socket(socket.AF_UNIX)
    try:
        if python != str(Path(sys.executable).parent):  # such as that of a conda environment
            raise ConnectionRefusedError
        connection.connect(place)
    except OSError:
        os.execv(sys.executable, [sys.executable, *arguments])
    request = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: connection.sendall(_NUMBER.pack(number)))
    socket.send_fds(connection, [_NUMBER.pack(len(request))], range(_STREAMS))
    connection.sendall(request)
    answer = connection.recv(_NUMBER.size)
    status = _NUMBER.unpack(answer)[0] if answer else _KILLED
    if status == _KILLED:
        along = "" if answer else " along with the process that it was forked from"
        print(
            f"{' '.join(arguments)}: killed{along}; unless somebody did that, memory ran out: give it more, or let "
            "fewer jobs run at once; then run again, finished jobs are kept",
            file=sys.stderr,
        )
    return status


# --- the process ---------------------------------------------------------------------------------------------


class _Server:
    """Forks for who asks, passes their signals on, and tells them how it ended."""

    def __init__(self, listening: socket.socket, place: Path):
        import selectors

        self._listening, self._place = listening, place
        self._jobs: dict[int, socket.socket] = {}  # by process
        self._events = selectors.DefaultSelector()
        self._path = [entry for entry in sys.path if entry not in os.getenv("PYTHONPATH", "").split(os.pathsep)]
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each, handle in ((listening, self._accept), (self._woken, self._wake), (sys.stdin, self._close)):
            self._events.register(each, selectors.EVENT_READ, handle)
        self._read = selectors.EVENT_READ

    def serve(self):
        """Until the pipe closes, and all jobs have ended."""
        while self._listening.fileno() >= 0 or self._jobs:
            for key, _ in self._events.select():
                key.data(key.fileobj)
            for process in list(self._jobs):
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    self._answer(self._jobs.pop(process), os.waitstatus_to_exitcode(status))

    def _wake(self, pipe: int):
        os.read(pipe, 4096)

    def _close(self, pipe):
        self._events.unregister(pipe)
        self._events.unregister(self._listening)
        self._listening.close()
        self._place.unlink()
        self._place.parent.rmdir()

    def _accept(self, listening: socket.socket):
        connection, _ = listening.accept()
        with contextlib.suppress(OSError, struct.error, ValueError):  # who asked is gone
            size, streams, *_ = socket.recv_fds(connection, _NUMBER.size, _STREAMS)
            with connection.makefile("rb") as file:
                request = json.loads(file.read(_NUMBER.unpack(size)[0]))
            parent, process = os.getpid(), os.fork()
            if not process:
                _killed_with(parent)
                self._become(request, streams)
            for stream in streams:
                os.close(stream)
            self._jobs[process] = connection
            self._events.register(connection, self._read, lambda asked: self._pass_on(asked, process))
            return
        connection.close()

    def _pass_on(self, connection: socket.socket, process: int):
        """A signal; or who asked is gone, and takes the job along."""
        try:
            number = connection.recv(_NUMBER.size)
        except OSError:
            number = b""
        if not number:
            self._events.unregister(connection)
        if process in self._jobs:  # not waited for yet, so the number is of no other process
            os.kill(process, _NUMBER.unpack(number)[0] if number else signal.SIGKILL)

    def _answer(self, connection: socket.socket, code: int):
        with contextlib.suppress(KeyError):
            self._events.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(_NUMBER.pack(code if code >= 0 else 128 - code))
        connection.close()

    def _become(self, request: dict, streams: list[int]):
        """In the fork: run the script, and end."""
        import runpy
        import traceback

        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._events.close()
            self._listening.close()
            for connection in self._jobs.values():
                connection.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.argv = request["arguments"]
            ours = [entry for entry in os.getenv("PYTHONPATH", "").split(os.pathsep) if entry]
            sys.path[:] = [str(Path(sys.argv[0]).parent), *ours, *self._path]
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _killed_with(parent: int | None):
    """Be killed when the parent ends, however that ends; with None, not any more."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if parent else 0)
    if parent and os.getppid() != parent:  # it ended before that
        os._exit(1)


def main():
    """As the module says."""
    if sys.argv[1] != "--serve":
        sys.exit(run(sys.argv[1:]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the jobs: who asked passes it on
    _killed_with(os.getppid())  # where memory is short, some imports never end
    for name in _LIBRARIES:
        __import__(name)
    _killed_with(None)  # from here on it ends when its pipe closes, and its jobs have
    _Server(socket.socket(fileno=int(sys.argv[2])), Path(sys.argv[3])).serve()


if __name__ == "__main__":
    main()
