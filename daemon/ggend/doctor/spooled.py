"""Spooled: the events of this user that wait on disk for a daemon, and the files set aside."""

from __future__ import annotations

import os
import shlex
import stat

from ggend.doctor.diagnosis import Diagnosis, failed, ok, warning
from ggend.doctor.installation import Installation
from ggend.doctor.rights import closed_directory, kind_of, nearest_directory, status_of, user_name
from ggend_client.spool.counting import waiting_events
from ggend_client.spool.directory import list_spools
from ggend_client.spool.lock import destination_of

__all__ = ["look_at_spool"]

_SUBJECT = "spool"


def look_at_spool(installation: Installation) -> Diagnosis:
    """Say what waits in the spool of this user, and whether it can be used."""
    directory = installation.spool
    if directory is None:
        hint = "unset GGEND_SPOOL_DIR to keep on disk what no daemon takes"
        return warning(_SUBJECT, "spooling is off: GGEND_SPOOL_DIR is empty", hint)
    found = status_of(directory)
    if found is None:
        return _absent(installation)
    if not stat.S_ISDIR(found.st_mode):
        detail = f"{directory} is {kind_of(found)}, not a directory"
        hint = "name a directory with GGEND_SPOOL_DIR, or unset it"
        return failed(_SUBJECT, detail, hint, os.EX_NOPERM)
    quoted = shlex.quote(str(directory))
    if found.st_uid != os.geteuid():
        return failed(
            _SUBJECT,
            f"{directory} belongs to {user_name(found.st_uid)}; clients of this user refuse it",
            "name a directory of this user with GGEND_SPOOL_DIR, or correct HOME",
            os.EX_NOPERM,
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        detail = f"others may write to {directory} (mode {mode:04o}); clients refuse it"
        return failed(_SUBJECT, detail, f"chmod 700 {quoted}", os.EX_NOPERM)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        detail = f"this user may not write to {directory}"
        return failed(_SUBJECT, detail, f"chmod 700 {quoted}", os.EX_NOPERM)
    return _waiting(installation)


def _waiting(installation: Installation) -> Diagnosis:
    directory = installation.spool
    assert directory is not None  # noqa: S101 - for mypy
    spools = list_spools(directory)
    here = destination_of(installation.sockets[0])
    ended = {one.producer: waiting_events(one) for one in spools if not one.is_held}
    elsewhere = sorted(
        {
            one.destination
            for one in spools
            if ended.get(one.producer) and one.destination not in ("", here)
        }
    )
    events = sum(ended.values())
    if events:
        told = "1 event of an ended program waits" if events == 1 else ""
        told = told or f"{events:,} events of ended programs wait"
        if elsewhere:
            return warning(
                _SUBJECT,
                f"{directory}: {told}, some for the socket {', '.join(elsewhere)}",
                "`ggend spool replay --all-sockets` sends all of them to this daemon",
            )
        hint = "`ggend spool replay` sends them once a daemon answers"
        return warning(_SUBJECT, f"{directory}: {told}", hint)
    aside = [path for one in spools for path in one.set_aside]
    if aside:
        return warning(
            _SUBJECT,
            f"{directory}: files set aside, which are not sent: {len(aside):,}",
            "`ggend spool replay --expired` sends .expired files; inspect, then remove .corrupt "
            "ones",
        )
    return ok(_SUBJECT, f"{directory}: nothing waits")


def _absent(installation: Installation) -> Diagnosis:
    directory = installation.spool
    assert directory is not None  # noqa: S101 - for mypy
    closed = closed_directory(directory)
    nearest = closed or nearest_directory(directory)
    is_link = os.path.islink(directory)  # noqa: PTH114 - never raises
    if is_link or not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        return failed(
            _SUBJECT,
            f"{directory} does not exist, and this user may not create it in {nearest}",
            "name a directory of this user with GGEND_SPOOL_DIR; until then events are lost "
            "while no daemon runs",
            os.EX_NOPERM,
        )
    return ok(_SUBJECT, "nothing waits; there is no spool yet")
