#!/usr/bin/env bash
# Print what one event costs a script, in milliseconds, by each way to send it: median of 50.
# GGEND_SOCKET says where the daemon is that stores them.
set -euo pipefail
export LC_ALL=C
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/ggend.sh"
export GGEND_AGENT=measure

median_of() { # name, command…
    local name=$1 began ended times=()
    for _ in {1..50}; do
        began=${EPOCHREALTIME//./}
        "${@:2}" >/dev/null
        ended=${EPOCHREALTIME//./}
        times+=($((ended - began)))
    done
    printf '%s\n' "${times[@]}" | sort -n | awk -v name="$name" 'NR == 25 { printf "%-12s %6.1f\n", name, $1 / 1000 }'
}

event=(audit operation=measure status=completed duration_ms=3)
for _ggend_way in socat nc python3; do
    if command -v "$_ggend_way" >/dev/null; then
        median_of "$_ggend_way" ggend_emit "${event[@]}"
    fi
done
if command -v ggend >/dev/null; then
    median_of 'ggend emit' ggend emit "${event[@]}"
fi
