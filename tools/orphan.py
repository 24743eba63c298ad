"""Run a program that dies with its parent: `python orphan.py SIGNAL PARENT USER PROGRAM ...`.

A program of its own, because a `preexec_fn` is not safe in a process that has threads.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def main(signal_number: int, parent: int, user: str, program: list[str]) -> None:
    """Become the program, as `user` if one is named, and end with `parent`."""
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    # After the change of user, which would clear it; only Linux has it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:
            sys.exit("the parent is gone")
    os.execvp(program[0], program)  # noqa: S606 - becomes the program it was asked for


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
