"""Reachability: the socket that clients use, and the daemon behind it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ggend import __version__
from ggend.config import SOCKET_PATH_BYTES
from ggend.doctor.conversation import Answer
from ggend.doctor.diagnosis import Diagnosis, failed, ok, warning
from ggend.doctor.installation import Installation
from ggend.doctor.locks import lock_holder
from ggend.doctor.rights import (
    closed_directory,
    group_name,
    kind_of,
    status_of,
    this_user,
    user_name,
)

__all__ = ["look_at_daemon", "look_at_socket", "unit_of"]

#: Where the unit of the host's service is.
_UNITS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


def look_at_socket(installation: Installation, answer: Answer) -> Diagnosis:
    """Say which socket is used and why, and what keeps this user from it."""
    why = installation.socket_source
    if answer.socket is not None:
        return _accepting(answer.socket, why)
    found = [_obstacle(path, why, answer.refusals.get(path)) for path in installation.sockets]
    obstacles = [one for one in found if one is not None]
    if obstacles:
        return obstacles[0]
    first, *others = map(str, installation.sockets)
    where = f"there is none at {first} ({why})" + "".join(f", nor at {one}" for one in others)
    hint = "the daemon makes it when it starts"
    if why != "default":
        hint += f"; if it uses another path, correct {why}"
    return failed("socket", where, hint, os.EX_UNAVAILABLE)


def look_at_daemon(installation: Installation, answer: Answer, database: Path) -> Diagnosis:
    """Say whether the daemon answers, which one it is and how it is."""
    if answer.status is not None:
        return _answering(installation, answer, answer.status)
    if answer.socket is None and any(map(_is_closed, answer.refusals.values())):
        hint = "repair the socket first, or run `ggend doctor` as the daemon's user"
        detail = "not known: this user may not connect to it"
        return failed("daemon", detail, hint, os.EX_NOPERM)
    held = lock_holder(database)
    if answer.socket is not None:
        who = f" (pid {held})" if held else ""
        return failed(
            "daemon",
            f"what listens on {answer.socket}{who} does not answer: {answer.error}",
            "the daemon may hang or be stopped: read its log, then restart it; `ss -xlp` shows "
            "what listens",
            os.EX_UNAVAILABLE,
        )
    if held is not None:
        return failed(
            "daemon",
            f"no daemon answers here, but one (pid {held or 'unknown'}) uses {database}",
            "it listens on another socket, or its socket is gone: name its socket with "
            "GGEND_SOCKET, or restart it",
            os.EX_UNAVAILABLE,
        )
    return failed("daemon", "no daemon answers", _how_to_start(), os.EX_UNAVAILABLE)


def _accepting(path: Path, why: str) -> Diagnosis:
    found = status_of(path)
    if found is None:
        return ok("socket", f"{path} ({why})")
    mode = stat.S_IMODE(found.st_mode)
    owner = f"{user_name(found.st_uid)}:{group_name(found.st_gid)}"
    detail = f"{path} ({why}), {owner}, mode {mode:04o}"
    if mode & stat.S_IWOTH and _is_open_to_all(path):
        hint = 'if only some users should send events: socket_mode = "0660", and a group for them'
        return warning("socket", f"{detail}: every user of this host may connect", hint)
    return ok("socket", detail)


def _is_open_to_all(path: Path) -> bool:
    parents = map(status_of, path.absolute().parents)
    return all(one is not None and one.st_mode & stat.S_IXOTH for one in parents)


def _obstacle(path: Path, why: str, refusal: OSError | None) -> Diagnosis | None:
    """Return what is wrong with a socket that does not accept; None: it does not exist."""
    named = f"{path} ({why})"
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES:
        return failed(
            "socket",
            f"{named} has {size} bytes; a socket's path has at most {SOCKET_PATH_BYTES}",
            "choose a shorter path with GGEND_SOCKET, for the daemon and for clients",
            os.EX_CONFIG,
        )
    closed = closed_directory(path)
    if closed is not None:
        if why == "default" and closed.parts[:3] == ("/", "run", "user"):
            return None  # another user's: it is looked at only because nothing else was named
        return failed(
            "socket", f"{named}: this user may not enter {closed}", _way_in(closed), os.EX_NOPERM
        )
    found = status_of(path)
    if found is None:
        if not os.path.islink(path):  # noqa: PTH114 - never raises
            return None
        return failed(
            "socket",
            f"{named} is a symbolic link to nothing",
            "start the daemon that makes its target, or remove the link",
            os.EX_UNAVAILABLE,
        )
    if not stat.S_ISSOCK(found.st_mode):
        return failed(
            "socket",
            f"{named} is {kind_of(found)}, not a socket",
            "name another path with GGEND_SOCKET, or rename what is there and restart the daemon",
            os.EX_UNAVAILABLE,
        )
    if refusal is not None and _is_closed(refusal):
        detail = f"{named}: this user may not connect (mode {stat.S_IMODE(found.st_mode):04o})"
        return failed("socket", detail, _way_in(path), os.EX_NOPERM)
    if refusal is not None and refusal.errno == errno.ECONNREFUSED:
        return failed(
            "socket",
            f"nobody listens on {named}: a daemon ended without removing it",
            "start the daemon; it replaces the file",
            os.EX_UNAVAILABLE,
        )
    if refusal is not None and refusal.errno == errno.EAGAIN:
        return failed(
            "socket",
            f"{named} accepts no connection: too many wait already",
            "the daemon may hang or be stopped: read its log, then restart it",
            os.EX_UNAVAILABLE,
        )
    said = "" if refusal is None else str(refusal.strerror or refusal)
    return failed("socket", f"{named}: {said}", "restart the daemon", os.EX_UNAVAILABLE)


def _is_closed(refusal: OSError) -> bool:
    return refusal.errno in (errno.EACCES, errno.EPERM)


def _way_in(path: Path) -> str:
    """Say how this user gets to a file or directory of somebody else."""
    found = status_of(path)
    needed = stat.S_IXGRP if found is not None and stat.S_ISDIR(found.st_mode) else stat.S_IWGRP
    if found is not None and found.st_mode & needed and found.st_gid != 0:
        group, user = group_name(found.st_gid).removeprefix("gid "), this_user().argument
        return f"join its group and log in again: `sudo usermod -aG {group} {user}`"
    owner = user_name(found.st_uid) if found is not None else "its owner"
    return f"it is open only to {owner}; use another socket, or run your own daemon: `ggend serve`"


def _answering(installation: Installation, answer: Answer, status: Mapping[str, Any]) -> Diagnosis:
    version = status.get("version")
    detail = f"pid {status.get('pid', 'unknown')}, version {version}"
    uptime = status.get("uptime_seconds")
    if isinstance(uptime, (int, float)) and 0 <= uptime < timedelta.max.total_seconds():
        detail += f", up {timedelta(seconds=int(uptime))}"
    if answer.account is not None:
        detail += f", user {answer.account.name}"
    detail += _supervisor(answer.pid)
    trouble = status.get("trouble")
    if trouble:
        hint = "the daemon's log has more; `ggend status` shows all counters"
        return failed("daemon", f"{detail}; degraded: {trouble}", hint, os.EX_UNAVAILABLE)
    if status.get("health") != "ok":
        hint = "events are stored all the same; `ggend status` and the daemon's log have more"
        return warning("daemon", f"{detail}; degraded: {_reasons(status)}", hint)
    if version != __version__:
        hint = "restart the daemon, so that it is the version that is installed"
        return warning("daemon", f"{detail}; this ggend is {__version__}", hint)
    other = answer.database
    if (
        other is not None
        and installation.database_source != "default"
        and os.path.realpath(other) != os.path.realpath(installation.database)
    ):
        return warning(
            "daemon",
            f"{detail}; it stores events in {other}, not in {installation.database}",
            f"commands that read use the latter, from {installation.database_source}: correct it, "
            "or restart the daemon with it",
        )
    count, limit = status.get("connections"), status.get("max_connections")
    if isinstance(count, int) and isinstance(limit, int) and count >= limit:
        hint = "raise `max_connections`, and the limit of open files (`LimitNOFILE=`)"
        return warning("daemon", f"{detail}; all {limit} connections are in use", hint)
    return ok("daemon", f"{detail}, healthy")


def _reasons(status: Mapping[str, Any]) -> str:
    errors = status.get("hook_errors")
    hooks = [f"{name}: {why}" for name, why in errors.items()] if isinstance(errors, dict) else []
    objectives = status.get("objectives_error")
    return "; ".join([*hooks, *([str(objectives)] if objectives else [])]) or "no reason was given"


def _supervisor(pid: int | None) -> str:
    """Say which unit of systemd a process belongs to, or what started it, if that is known."""
    if pid is None:
        return ""
    process = Path("/proc") / str(pid)
    try:
        unit = unit_of((process / "cgroup").read_text(errors="replace"))
        if unit:
            return f", run by systemd ({unit})"
        status = (process / "status").read_text(errors="replace")
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
        name = (process.parent / parent / "comm").read_text(errors="replace").strip()
    except (OSError, StopIteration, IndexError):
        return ""
    return f", started by {name} (pid {parent})"


def unit_of(cgroup: str) -> str:
    """Return the service of systemd that `/proc/PID/cgroup` names; empty: none."""
    parts = [part for line in cgroup.splitlines() for part in line.split("/")]
    services = [part for part in parts if part.endswith(".service")]
    return services[-1] if services and not services[-1].startswith("user@") else ""


def _how_to_start() -> str:
    if any((Path(place) / "ggend.socket").exists() for place in _UNITS):
        return "start it: `sudo systemctl enable --now ggend.socket ggend.service`"
    return "start it and leave it running: `ggend serve`"
