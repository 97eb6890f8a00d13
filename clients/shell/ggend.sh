# shellcheck shell=bash
# ggend.sh: functions that emit events to ggend, for bash scripts. Source it:
#
#     . ggend.sh
#     ggend_execution_begin generation
#     ggend_stage_begin extract
#     …
#     ggend_stage_end passed output_size_bytes=4096
#     ggend_execution_end passed files_generated=3
#
# It needs bash and one of socat, nc with -U and -N, python3. No function fails, prints or changes
# what belongs to the script; each event waits for its answer, at most GGEND_TIMEOUT seconds. An
# event that no daemon takes is handed to `ggend emit`, which keeps it on disk, or else counted in
# GGEND_DROPPED. Names that begin with ggend_, _ggend_ or GGEND_ are taken.
#
#   GGEND_SOCKET     where the daemon listens; else the user's own daemon, then the host's
#   GGEND_AGENT      agent_id of events that have one and were not given one
#   GGEND_EXECUTION  execution_id, likewise; set by ggend_execution_begin
#   GGEND_SESSION    session_id, likewise; set by ggend_session_begin
#   GGEND_TIMEOUT    seconds, 1 by default
#   GGEND_STRICT=1   functions return 1 when the event is not stored
#   GGEND_DEBUG=1    say on standard error why
#   GGEND_DISABLED=1 do nothing

GGEND_DROPPED=${GGEND_DROPPED:-0}
_ggend_stage_names=()
_ggend_stage_begins=()

# ggend_emit TYPE [key=value | key:=json]…: emit one event.
ggend_emit() {
    [[ -z ${GGEND_DISABLED-} ]] || return 0
    _ggend_emit "$@" || [[ -z ${GGEND_STRICT-} ]]
}

# ggend_stage_begin NAME: begin to measure a stage of the execution.
ggend_stage_begin() {
    local REPLY
    _ggend_now
    _ggend_stage_names+=("${1-}")
    _ggend_stage_begins+=("$REPLY")
}

# ggend_stage_end [passed|failed] [key=value]…: emit stage_completed for the stage begun last.
ggend_stage_end() {
    local depth=${#_ggend_stage_names[@]} REPLY name
    if ((depth == 0)); then
        _ggend_complain "ggend_stage_end without ggend_stage_begin"
        return 0
    fi
    name=${_ggend_stage_names[depth - 1]}
    _ggend_since "${_ggend_stage_begins[depth - 1]}"
    unset "_ggend_stage_names[depth - 1]" "_ggend_stage_begins[depth - 1]"
    ggend_emit stage_completed "stage=$name" "status=${1:-passed}" "duration_ms=$REPLY" "${@:2}"
}

# ggend_execution_begin OPERATION: make an id, and export it as GGEND_EXECUTION.
ggend_execution_begin() {
    local REPLY
    _ggend_now
    _ggend_execution_began=$REPLY
    _ggend_operation=${1-}
    _ggend_id
    export GGEND_EXECUTION=$REPLY
}

# ggend_execution_end [passed|failed|partial|cancelled] [key=value]…: emit its receipt.
ggend_execution_end() {
    local REPLY result=0
    _ggend_since "${_ggend_execution_began-}"
    ggend_emit receipt_emitted "operation=${_ggend_operation-}" "status=${1:-passed}" \
        "duration_ms=$REPLY" "${@:2}" || result=1
    unset GGEND_EXECUTION _ggend_operation _ggend_execution_began
    return "$result"
}

# ggend_session_begin AGENT_COUNT [key=value]…: make an id, export it as GGEND_SESSION, say so.
ggend_session_begin() {
    local REPLY
    _ggend_now
    _ggend_session_began=$REPLY
    _ggend_id
    export GGEND_SESSION=$REPLY
    ggend_emit session_started "agent_count=${1:-1}" "${@:2}"
}

# ggend_session_end [completed|failed|cancelled] [key=value]…: emit its end.
ggend_session_end() {
    local REPLY result=0
    _ggend_since "${_ggend_session_began-}"
    ggend_emit session_ended "status=${1:-completed}" "total_duration_ms=$REPLY" "${@:2}" || result=1
    unset GGEND_SESSION _ggend_session_began
    return "$result"
}

# ---- Everything below may return 1; ggend_emit is what makes that harmless.

_ggend_emit() {
    local REPLY line socket sockets=("${GGEND_SOCKET-}")
    if [[ -z ${GGEND_SOCKET-} ]]; then
        sockets=("${XDG_RUNTIME_DIR:-${XDG_DATA_HOME:-${HOME-}/.local/share}}/ggend/ggend.sock"
            /run/ggend/ggend.sock)
    fi
    _ggend_line "$@" || return 1
    line=$REPLY
    for socket in "${sockets[@]}"; do
        if [[ -S $socket ]] && _ggend_send "$socket" "$line"; then
            return 0
        fi
    done
    if command -v ggend >/dev/null 2>&1 &&
        ggend emit --stdin --timeout "${GGEND_TIMEOUT:-1}" <<<"$line" >/dev/null 2>&1; then
        _ggend_complain "no daemon took it; handed to ggend emit"
        return 1
    fi
    GGEND_DROPPED=$((GGEND_DROPPED + 1))
    _ggend_complain "no daemon took it, and there is no ggend command: dropped"
    return 1
}

# Set REPLY to the event as one line of JSON.
_ggend_line() {
    local type=${1-} line given=' ' part key value field variable
    _ggend_quote "$type"
    line="{\"type\":$REPLY"
    for part in "${@:2}"; do
        case $part in
        [a-z]*:=*) key=${part%%:=*} value=${part#*:=} ;;
        [a-z]*=*)
            key=${part%%=*} value=${part#*=}
            if ! [[ $_ggend_numbers == *" $key "* && $value =~ ^[0-9]+$ ]]; then
                _ggend_quote "$value"
                value=$REPLY
            fi
            ;;
        *)
            _ggend_complain "'$part' is neither key=value nor key:=json"
            return 1
            ;;
        esac
        _ggend_quote "$key"
        line+=",$REPLY:$value"
        given+="$key "
    done
    for field in agent execution session; do
        variable=GGEND_${field^^}
        if [[ $_ggend_fields == *" $type.$field "* && -n ${!variable-} &&
            $given != *" ${field}_id "* ]]; then
            _ggend_quote "${!variable}"
            line+=",\"${field}_id\":$REPLY"
        fi
    done
    # A line break that was not quoted stands between two JSON values, where it means nothing.
    REPLY=${line//$'\n'/ }'}'
}

# Which keys are numbers, and which types have which ids.
_ggend_numbers=' duration_ms files_generated files_modified input_size_bytes output_size_bytes agent_count retry_count total_duration_ms successful_operations failed_operations '
_ggend_fields=' audit.agent audit.execution audit.session receipt_emitted.agent receipt_emitted.execution receipt_emitted.session stage_completed.execution collision.session session_started.session session_ended.session memory_saved.agent '

# Set REPLY to a text as a JSON string.
_ggend_quote() {
    local LC_ALL=C text=$1 character escape code
    if [[ $text == *[$'\x80'-$'\xff']* ]] && command -v iconv >/dev/null 2>&1; then
        text=$(printf '%s' "$text" | iconv -c -f UTF-8 -t UTF-8 2>/dev/null) || :
    fi
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    text=${text//$'\r'/\\r}
    if [[ $text == *[$'\x01'-$'\x1f']* ]]; then
        for ((code = 1; code < 32; code++)); do
            printf -v escape '\\u%04x' "$code"
            printf -v character '%b' "\\x${escape: -2}"
            text=${text//"$character"/"$escape"}
        done
    fi
    REPLY="\"$text\""
}

# Send one line; succeed when the daemon has answered that it is stored.
_ggend_send() {
    local socket=$1 line=$2 answer='' seconds=${GGEND_TIMEOUT:-1}
    if [[ -z ${_ggend_way-} ]]; then
        _ggend_way=none
        if command -v socat >/dev/null 2>&1; then
            _ggend_way=socat
        elif command -v nc >/dev/null 2>&1 && [[ $(nc -h 2>&1) == *-N*-U* ]]; then
            _ggend_way=nc
        elif command -v python3 >/dev/null 2>&1; then
            _ggend_way=python3
        fi
    fi
    case $_ggend_way in
    socat) answer=$(socat -t "$seconds" - "UNIX-CONNECT:$socket" <<<"$line" 2>/dev/null) ;;
    nc) answer=$(nc -N -U -w "${seconds%%.*}" "$socket" <<<"$line" 2>/dev/null) ;;
    python3) answer=$(python3 -S -c "$_ggend_python" "$socket" "$seconds" "$line" 2>/dev/null) ;;
    esac
    # What the daemon has rejected it keeps; handing it in again would change nothing.
    if [[ $answer == *'"rejected":1'* ]]; then
        _ggend_complain "$answer"
        return 0
    fi
    [[ $answer == '{"lines":1,'*'"refused":0'* ]]
}

_ggend_python='
import socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.settimeout(float(sys.argv[2]))
stream.connect(sys.argv[1])
stream.sendall(sys.argv[3].encode("utf-8", "surrogateescape") + b"\n")
stream.shutdown(socket.SHUT_WR)
print(stream.makefile().read())
'

# Set REPLY to microseconds since 1970.
_ggend_now() {
    REPLY=${EPOCHREALTIME-$(date +%s%6N)}
    REPLY=${REPLY//[!0-9]/}
}

# Set REPLY to the milliseconds since then; 0 where it is not known, or the clock was put back.
_ggend_since() {
    local began=${1:-0}
    _ggend_now
    REPLY=$((began && REPLY > began ? (REPLY - began) / 1000 : 0))
}

# Set REPLY to a random id.
_ggend_id() {
    read -r REPLY </proc/sys/kernel/random/uuid
    REPLY=${REPLY//-/}
}

_ggend_complain() {
    [[ -z ${GGEND_DEBUG-} ]] || printf 'ggend.sh: %s\n' "$1" >&2
}
