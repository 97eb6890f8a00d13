#!/usr/bin/env bash
# A build script that reports its stages. Works, and costs nothing, where no daemon runs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../clients/shell/ggend.sh"
export GGEND_AGENT=builder

ggend_execution_begin generation
ggend_stage_begin extract
wc -l <"${BASH_SOURCE[0]}" >/dev/null # the work
ggend_stage_end passed
ggend_execution_end passed files_generated=1
