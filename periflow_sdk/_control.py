"""Progress and control: two pages of 64-bit words shared with the agent, memory-mapped."""

from __future__ import annotations

import mmap
import os

SIZE = 4096
MAGIC = 0x50464C4F57000001

# Words of `progress`, written by the rank only.
STARTED, FINISHED, TOTAL, ACKNOWLEDGED, STATE, PID, STOP_SEEN, FIRST, NOTICE, WAITING = range(1, 11)
SAVED_AT, EARLY = range(11, 13)
# Words of `control`, written by the agent only.
EMERGENCY, COMMITTED, STOP, DEADLINE, ABORTS, HEARTBEAT = range(1, 7)
# Values of the word STATE.
NEW, RUNNING, DONE = range(3)


def shared_words(path: str) -> memoryview:
    """Map a file of words, made and touched in full if it is not there.

    Blocks are reserved before the mapping: storing to a mapped page that a full disk cannot
    back would kill the process. An existing file is never truncated, and its words are kept.

    Raises:
        OSError: The file cannot be made, or the disk is full.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(fd, 0, SIZE)
        words = memoryview(mmap.mmap(fd, SIZE)).cast("q")
    finally:
        os.close(fd)
    words[0] = MAGIC
    return words


def private_words() -> memoryview:
    """The same words with nobody at the other end."""
    words = memoryview(bytearray(SIZE)).cast("q")
    words[0] = MAGIC
    return words


def begin(progress: memoryview, *, total_steps: int, first_step: int) -> None:
    """Set every word of progress for a process that starts, the state last."""
    progress[STATE] = NEW
    progress[PID] = os.getpid()
    progress[TOTAL] = total_steps
    progress[STARTED] = progress[FINISHED] = progress[FIRST] = first_step
    progress[ACKNOWLEDGED] = progress[STOP_SEEN] = progress[NOTICE] = progress[WAITING] = 0
    progress[SAVED_AT] = progress[EARLY] = 0
    progress[STATE] = RUNNING
