"""Permissions: whether the daemon's user may write to the database, and nobody else."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from ggend.database.files import companion
from ggend.doctor.conversation import Answer
from ggend.doctor.diagnosis import Diagnosis, failed, ok, warning
from ggend.doctor.rights import (
    Account,
    closed_directory,
    nearest_directory,
    status_of,
    this_user,
    user_name,
)

__all__ = ["look_at_permissions"]

_SUBJECT = "permissions"

#: What the daemon opens to write, beside the database.
_COMPANIONS = ("", "-wal", "-shm", ".lock", ".wal-record")


def look_at_permissions(answer: Answer, path: Path) -> Diagnosis:
    """Say who may write to the database, its companions and its directory."""
    directory = companion(path, "").parent
    place = status_of(directory)
    if place is None:
        return _no_directory(path, directory)
    files = {one: found for end in _COMPANIONS if (found := status_of(one := companion(path, end)))}
    account = answer.account or _likely_account(files.get(companion(path, "")), place)
    who = f"the daemon's user ({account.name})" if answer.account else account.name
    closed = [one for one, found in files.items() if not account.may_write(found)]
    if not account.may_write(place):
        owner = user_name(place.st_uid)
        return failed(
            _SUBJECT,
            f"{who} may not write to the directory {directory} (owner {owner}, mode "
            f"{_mode(place)}); SQLite makes files in it",
            f"sudo chown {account.name} {shlex.quote(str(directory))}",
            os.EX_NOPERM,
        )
    if closed:
        names = " ".join(shlex.quote(str(one)) for one in closed)
        found = files[closed[0]]
        return failed(
            _SUBJECT,
            f"{who} may not write to {closed[0]} (owner {user_name(found.st_uid)}, mode "
            f"{_mode(found)})",
            f"sudo chown {account.name} {names}; sudo chmod u+rw {names}",
            os.EX_NOPERM,
        )
    is_open = place.st_mode & stat.S_IWOTH and not place.st_mode & stat.S_ISVTX
    wide = [directory] * bool(is_open)
    wide += [one for one, found in files.items() if found.st_mode & stat.S_IWOTH]
    if wide:
        names = " ".join(shlex.quote(str(one)) for one in wide)
        detail = f"every user may write to {wide[0]} (mode {_mode(wide[0].stat())})"
        return warning(_SUBJECT, detail, f"chmod o-w {names}")
    return ok(
        _SUBJECT,
        f"{account.name} may write to the database and its directory (modes "
        f"{_mode(files[companion(path, '')]) if companion(path, '') in files else '-'} and "
        f"{_mode(place)})",
    )


def _no_directory(path: Path, directory: Path) -> Diagnosis:
    closed = closed_directory(path)
    if closed is not None:
        hint = "run `ggend doctor` as the daemon's user to look at them"
        return warning(_SUBJECT, f"cannot be seen: this user may not enter {closed}", hint)
    nearest = nearest_directory(path)
    if os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        return ok(_SUBJECT, f"{directory} does not exist yet; this user may create it")
    return failed(
        _SUBJECT,
        f"{directory} does not exist, and this user may not create it in {nearest}",
        "create it for the daemon's user, or choose another place with GGEND_DATABASE",
        os.EX_NOPERM,
    )


def _likely_account(database: os.stat_result | None, place: os.stat_result) -> Account:
    """Return the user that would run the daemon: the owner of the database, or of its directory.

    An ordinary user runs it as nobody else.
    """
    user = this_user()
    owner = (database or place).st_uid
    if user.uid in (owner, 0) and owner != user.uid:
        return _account(owner)
    return user if database is None or owner == user.uid else _account(owner)


def _account(uid: int) -> Account:
    import pwd  # late: only for another user's file

    try:
        entry = pwd.getpwuid(uid)
        return Account(uid, os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (KeyError, OSError):
        return Account(uid, ())


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"
