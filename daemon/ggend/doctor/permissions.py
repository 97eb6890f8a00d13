"""Permissions: whether the daemon's user may write to the database, and nobody else."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from ggend.database.files import companion
from ggend.doctor.conversation import Answer
from ggend.doctor.diagnosis import Diagnosis, failed, ok, warning
from ggend.doctor.rights import (
    Account,
    closed_directory,
    kind_of,
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
    file = companion(path, "")
    directory = file.parent
    place = status_of(directory)
    if place is None or closed_directory(file) is not None:
        return _unseen(file)
    files = {one: found for end in _COMPANIONS if (found := status_of(one := companion(path, end)))}
    odd = next((one for one, found in files.items() if not stat.S_ISREG(found.st_mode)), None)
    if odd is not None:
        hint = "name another database with GGEND_DATABASE, or put the right file there"
        return warning(_SUBJECT, f"{odd} is {kind_of(files[odd])}, not a file", hint)
    account = answer.account or _likely_account(files.get(file), place)
    who = f"the daemon's user ({account.name})" if answer.account else f"user {account.name}"
    if not account.may_write(place):
        return failed(
            _SUBJECT,
            f"{who} may not write to {directory} ({_shown(place)}); SQLite makes files in it",
            f"if that directory is only for ggend: sudo chown {account.argument} "
            f"{shlex.quote(str(directory))}; else name another database with GGEND_DATABASE",
            os.EX_NOPERM,
        )
    closed = [one for one, found in files.items() if not account.may_write(found)]
    if closed:
        names = " ".join(shlex.quote(str(one)) for one in closed)
        return failed(
            _SUBJECT,
            f"{who} may not write to {closed[0]} ({_shown(files[closed[0]])})",
            f"sudo chown {account.argument} {names} && sudo chmod u+rw {names}",
            os.EX_NOPERM,
        )
    return _open_to_all(directory, place, files) or ok(
        _SUBJECT,
        f"{account.name} may write to {'the database and its' if file in files else 'the'} "
        f"directory ({_shown(place)})",
    )


def _open_to_all(
    directory: Path, place: os.stat_result, files: Mapping[Path, os.stat_result]
) -> Diagnosis | None:
    """Return what every user of the host may write to or replace."""
    wide = {one: found for one, found in files.items() if found.st_mode & stat.S_IWOTH}
    if place.st_mode & stat.S_IWOTH and not place.st_mode & stat.S_ISVTX:
        wide[directory] = place
    if not wide:
        return None
    first, found = next(iter(wide.items()))
    names = " ".join(shlex.quote(str(one)) for one in wide)
    return warning(
        _SUBJECT, f"every user may write to {first} ({_shown(found)})", f"chmod o-w {names}"
    )


def _unseen(file: Path) -> Diagnosis:
    closed = closed_directory(file)
    if closed is not None:
        hint = "run `ggend doctor` as the daemon's user to check them"
        return warning(_SUBJECT, f"not known: this user may not enter {closed}", hint)
    nearest = nearest_directory(file)
    if os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        return ok(_SUBJECT, f"{file.parent} does not exist yet; this user may create it")
    return failed(
        _SUBJECT,
        f"{file.parent} does not exist, and this user may not create it in {nearest}",
        "create it for the daemon's user, or name another database with GGEND_DATABASE",
        os.EX_NOPERM,
    )


def _likely_account(database: os.stat_result | None, place: os.stat_result) -> Account:
    """Return the user that would run the daemon: the owner of the database, or of its directory.

    An ordinary user makes a new database as nobody else.
    """
    user = this_user()
    if database is None and user.uid != 0:
        return user
    owner = (database or place).st_uid
    return user if owner == user.uid else _account(owner)


def _account(uid: int) -> Account:
    import pwd  # late: only for another user's file

    try:
        entry = pwd.getpwuid(uid)
        return Account(uid, os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (KeyError, OSError):
        return Account(uid, ())


def _shown(found: os.stat_result) -> str:
    return f"owner {user_name(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}"
