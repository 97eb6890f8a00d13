"""Rights: who owns a file, and who may use it. Looks at names and modes, never into a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

__all__ = [
    "Account",
    "closed_directory",
    "group_name",
    "kind_of",
    "nearest_directory",
    "status_of",
    "this_user",
    "user_name",
]

#: What stat(2) calls a file, for people.
_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


class Account:
    """A user and the groups that a process of it is in."""

    __slots__ = ("_groups", "uid")

    def __init__(self, uid: int, groups: Collection[int]) -> None:
        self.uid = uid
        self._groups = frozenset(groups)

    @property
    def name(self) -> str:
        """The name of the user."""
        return user_name(self.uid)

    @property
    def argument(self) -> str:
        """The user as chown(1) and usermod(8) take it."""
        return self.name.removeprefix("uid ")

    def may_write(self, found: os.stat_result) -> bool:
        """Whether the mode of a file lets this user write to it."""
        if self.uid == 0:
            return True
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IWUSR)
        if found.st_gid in self._groups:
            return bool(found.st_mode & stat.S_IWGRP)
        return bool(found.st_mode & stat.S_IWOTH)


def this_user() -> Account:
    """Return the user that runs this program."""
    return Account(os.geteuid(), {os.getegid(), *os.getgroups()})


def user_name(uid: int) -> str:
    """Return the name of a user, or `uid 1000` where it has none."""
    import pwd  # late: only some findings name a user

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"


def group_name(gid: int) -> str:
    """Return the name of a group, or `gid 1000` where it has none."""
    import grp  # late: only some findings name a group

    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return f"gid {gid}"


def status_of(path: Path) -> os.stat_result | None:
    """Return what stat(2) says; None: there is nothing, or nothing that this user may see."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def kind_of(found: os.stat_result) -> str:
    """Return what a file is, such as `a directory`."""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "an unknown file")


def closed_directory(path: Path) -> Path | None:
    """Return the first directory on the way to a path that this user may not enter."""
    for directory in reversed(path.absolute().parents):
        found = status_of(directory)
        if found is None:
            return None  # it does not exist: those before it are open
        if stat.S_ISDIR(found.st_mode) and not os.access(directory, os.X_OK, effective_ids=True):
            return directory
    return None


def nearest_directory(path: Path) -> Path:
    """Return the lowest directory on the way to a path that exists."""
    for directory in path.absolute().parents:
        found = status_of(directory)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return directory
    return Path("/")
