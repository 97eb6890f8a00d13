"""Bare: what a command is started without: open streams, an entry for its user, the host's places.

Imported, `prepare(descriptor)` does it to a process that was forked; as a script it does it and
becomes the command that follows the descriptor. The descriptor is a pipe with JSON.
"""

import ctypes
import json
import os
import pwd
import sys
from pathlib import Path

#: capability.h: with these, root reads what nobody may read.
_CAPABILITIES = (1 << 1) | (1 << 2)
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24

#: Where modules keep the places of the host, and the file that is never there.
_PLACES = (
    ("ggend_schema.places", "SYSTEM_DATABASE"),
    ("ggend_schema.places", "SYSTEM_SOCKET"),
    ("ggend.cli.common.chosen", "SYSTEM_DATABASE"),
    ("ggend.config", "SYSTEM_CONFIG"),
)


def prepare(descriptor: int) -> None:
    """Be as the pipe says."""
    with open(descriptor, encoding="utf-8") as file:
        wanted = json.load(file)
    if os.geteuid() == 0:
        _obey_permissions()
    for module, name in _PLACES:
        if module in sys.modules:
            setattr(sys.modules[module], name, Path(wanted["place"]) / "system" / "none")
    if wanted["is_nobody"]:
        pwd.getpwuid = _unknown
    for number in wanted["closed"]:
        os.close(number)
        setattr(sys, ("stdin", "stdout")[number], None)


def _unknown(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


def _obey_permissions() -> None:
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for number in range(3):
        sets[number] &= ~_CAPABILITIES
    libc.prctl(_PR_CAPBSET_DROP, 1, 0, 0, 0)  # before: it takes a capability
    libc.prctl(_PR_CAPBSET_DROP, 2, 0, 0, 0)
    libc.capset(header, sets)


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command that is tested
