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
# what belongs to the script; each event waits for its answer, GGEND_TIMEOUT seconds or a little more. An
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
    if ! _ggend_is_set "${GGEND_DISABLED-}"; then
        _ggend_emit "$@" || ! _ggend_is_set "${GGEND_STRICT-}"
    fi
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
    local _ggend_depth=${#_ggend_stage_names[@]} REPLY _ggend_name _ggend_elapsed
    if ((_ggend_depth == 0)); then
        _ggend_complain "ggend_stage_end without ggend_stage_begin"
        return 0
    fi
    _ggend_name=${_ggend_stage_names[_ggend_depth - 1]}
    _ggend_since "${_ggend_stage_begins[_ggend_depth - 1]}"
    unset "_ggend_stage_names[_ggend_depth - 1]" "_ggend_stage_begins[_ggend_depth - 1]"
    _ggend_elapsed=$REPLY
    _ggend_status "${1-}" passed && shift
    ggend_emit stage_completed "stage=$_ggend_name" "status=$REPLY" "duration_ms=$_ggend_elapsed" "$@"
}

# ggend_execution_begin OPERATION: make an id, and export it as GGEND_EXECUTION.
ggend_execution_begin() {
    local REPLY
    _ggend_now
    _ggend_execution_began=$REPLY
    _ggend_operation=${1-}
    _ggend_outer_execution=${GGEND_EXECUTION-}
    _ggend_id
    export GGEND_EXECUTION=$REPLY
}

# ggend_execution_end [passed|failed|partial|cancelled] [key=value]…: emit its receipt.
ggend_execution_end() {
    local REPLY _ggend_result=0 _ggend_elapsed
    _ggend_since "${_ggend_execution_began-}"
    _ggend_elapsed=$REPLY
    _ggend_status "${1-}" passed && shift
    ggend_emit receipt_emitted "operation=${_ggend_operation-}" "status=$REPLY" \
        "duration_ms=$_ggend_elapsed" "$@" || _ggend_result=1
    GGEND_EXECUTION=${_ggend_outer_execution-}
    [[ -n $GGEND_EXECUTION ]] || unset GGEND_EXECUTION
    unset _ggend_operation _ggend_execution_began _ggend_outer_execution
    return "$_ggend_result"
}

# ggend_session_begin AGENT_COUNT [key=value]…: make an id, export it as GGEND_SESSION, say so.
ggend_session_begin() {
    local REPLY
    _ggend_now
    _ggend_session_began=$REPLY
    _ggend_outer_session=${GGEND_SESSION-}
    _ggend_id
    export GGEND_SESSION=$REPLY
    ggend_emit session_started "agent_count=${1:-1}" "${@:2}"
}

# ggend_session_end [completed|failed|cancelled] [key=value]…: emit its end.
ggend_session_end() {
    local REPLY _ggend_result=0 _ggend_elapsed
    _ggend_since "${_ggend_session_began-}"
    _ggend_elapsed=$REPLY
    _ggend_status "${1-}" completed && shift
    ggend_emit session_ended "status=$REPLY" "total_duration_ms=$_ggend_elapsed" "$@" || _ggend_result=1
    GGEND_SESSION=${_ggend_outer_session-}
    [[ -n $GGEND_SESSION ]] || unset GGEND_SESSION
    unset _ggend_session_began _ggend_outer_session
    return "$_ggend_result"
}

# ---- Everything below may return 1; ggend_emit is what makes that harmless.

_ggend_emit() {
    local REPLY _ggend_line _ggend_socket _ggend_sockets=("${GGEND_SOCKET-}")
    if [[ -z ${GGEND_SOCKET-} ]]; then
        _ggend_sockets=("${XDG_RUNTIME_DIR:-${XDG_DATA_HOME:-${HOME-}/.local/share}}/ggend/ggend.sock"
            /run/ggend/ggend.sock)
    fi
    if ! _ggend_line "$@"; then
        GGEND_DROPPED=$((GGEND_DROPPED + 1))
        return 1
    fi
    _ggend_line=$REPLY
    for _ggend_socket in "${_ggend_sockets[@]}"; do
        if [[ -S $_ggend_socket ]] && _ggend_send "$_ggend_socket" "$_ggend_line"; then
            [[ $REPLY != *'"rejected":1,'* ]]
            return
        fi
    done
    if command -v ggend >/dev/null 2>&1 &&
        ggend emit --stdin --timeout "${GGEND_TIMEOUT:-1}" <<<"$_ggend_line" >/dev/null 2>&1; then
        _ggend_complain "no daemon took it; handed to ggend emit"
        return 1
    fi
    GGEND_DROPPED=$((GGEND_DROPPED + 1))
    _ggend_complain "no daemon took it, and there is no ggend command: dropped"
    return 1
}

# Set REPLY to the event as one line of JSON.
_ggend_line() {
    local _ggend_type=${1-} _ggend_line _ggend_given=' ' _ggend_part _ggend_key _ggend_value _ggend_is_json _ggend_field _ggend_variable
    _ggend_quote "$_ggend_type"
    _ggend_line="{\"type\":$REPLY"
    for _ggend_part in "${@:2}"; do
        # The key ends at the first `=`: a text may hold `:=`.
        _ggend_key=${_ggend_part%%=*} _ggend_value=${_ggend_part#*=}
        _ggend_is_json=${_ggend_key#"${_ggend_key%:}"}
        _ggend_key=${_ggend_key%:}
        if [[ $_ggend_part != *=* || $_ggend_key != [a-z]* || $_ggend_key == *[!a-z0-9_]* ]]; then
            _ggend_complain "'$_ggend_part' is neither key=value nor key:=json"
            return 1
        elif [[ -n $_ggend_is_json ]]; then
            :
        elif [[ $_ggend_numbers == *" $_ggend_key "* && $_ggend_value == [0-9]* && $_ggend_value != *[!0-9]* ]]; then
            # JSON has no leading zeros.
            _ggend_value=${_ggend_value#"${_ggend_value%%[!0]*}"}
            _ggend_value=${_ggend_value:-0}
        else
            case $_ggend_key in
            operation) _ggend_value=${_ggend_value:0:1000} ;;
            error_message | description | resolution | last_error) _ggend_value=${_ggend_value:0:10000} ;;
            esac
            _ggend_quote "$_ggend_value"
            _ggend_value=$REPLY
        fi
        _ggend_quote "$_ggend_key"
        _ggend_line+=",$REPLY:$_ggend_value"
        _ggend_given+="$_ggend_key "
    done
    for _ggend_field in agent execution session; do
        _ggend_variable=GGEND_${_ggend_field^^}
        if [[ $_ggend_fields == *" $_ggend_type.$_ggend_field "* && -n ${!_ggend_variable-} &&
            $_ggend_given != *" ${_ggend_field}_id "* ]]; then
            _ggend_quote "${!_ggend_variable}"
            _ggend_line+=",\"${_ggend_field}_id\":$REPLY"
        fi
    done
    # A line break that was not quoted stands between two JSON values, where it means nothing.
    REPLY=${_ggend_line//$'\n'/ }'}'
}

# Which keys are numbers, and which types have which ids.
_ggend_numbers=' duration_ms files_generated files_modified input_size_bytes output_size_bytes agent_count retry_count total_duration_ms successful_operations failed_operations '
_ggend_fields=' audit.agent audit.execution audit.session receipt_emitted.agent receipt_emitted.execution receipt_emitted.session stage_completed.execution collision.session session_started.session session_ended.session memory_saved.agent '

# Set REPLY to a text as a JSON string.
_ggend_quote() {
    local LC_ALL=C _ggend_text=$1 _ggend_character _ggend_escape _ggend_code
    if [[ $_ggend_text == *[$'\x80'-$'\xff']* ]] && command -v iconv >/dev/null 2>&1; then
        # The point keeps line breaks at the end.
        _ggend_text=$(printf '%s.' "$_ggend_text" | iconv -c -f UTF-8 -t UTF-8 2>/dev/null) || :
        _ggend_text=${_ggend_text%.}
    fi
    _ggend_text=${_ggend_text//\\/\\\\}
    _ggend_text=${_ggend_text//\"/\\\"}
    _ggend_text=${_ggend_text//$'\n'/\\n}
    _ggend_text=${_ggend_text//$'\t'/\\t}
    _ggend_text=${_ggend_text//$'\r'/\\r}
    if [[ $_ggend_text == *[$'\x01'-$'\x1f']* ]]; then
        for ((_ggend_code = 1; _ggend_code < 32; _ggend_code++)); do
            printf -v _ggend_escape '\\u%04x' "$_ggend_code"
            printf -v _ggend_character '%b' "\\x${_ggend_escape: -2}"
            _ggend_text=${_ggend_text//"$_ggend_character"/"$_ggend_escape"}
        done
    fi
    REPLY="\"$_ggend_text\""
}

# Send one line, and set REPLY to the answer; succeed when the daemon has settled it.
_ggend_send() {
    local _ggend_socket=$1 _ggend_line=$2 _ggend_answer='' _ggend_seconds=${GGEND_TIMEOUT:-1} _ggend_whole
    # nc takes whole seconds, and 0 for none at all.
    _ggend_whole=${_ggend_seconds%%.*}
    [[ $_ggend_seconds != *.* ]] || _ggend_whole=$((10#${_ggend_whole:-0} + 1))
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
    socat)
        _ggend_escaped "$_ggend_socket"
        _ggend_answer=$(socat -t "$_ggend_seconds" - "UNIX-CONNECT:$REPLY" <<<"$_ggend_line" 2>/dev/null)
        ;;
    nc) _ggend_answer=$(nc -N -U -w "$_ggend_whole" "$_ggend_socket" <<<"$_ggend_line" 2>/dev/null) ;;
    python3) _ggend_answer=$(python3 -S -c "$_ggend_python" "$_ggend_socket" "$_ggend_seconds" <<<"$_ggend_line" 2>/dev/null) ;;
    esac
    REPLY=$_ggend_answer
    # What the daemon has rejected it keeps; handing it in again would change nothing.
    if [[ $_ggend_answer == *'"rejected":1,'* ]]; then
        _ggend_complain "$_ggend_answer"
        return 0
    fi
    [[ $_ggend_answer == '{"lines":1,'*'"refused":0'* ]]
}

# Set REPLY to a path socat takes as it is.
_ggend_escaped() {
    local _ggend_path=$1 _ggend_character
    for _ggend_character in $'\\' ',' ':' '!' '"' "'" '[' '(' '{'; do
        _ggend_path=${_ggend_path//"$_ggend_character"/"\\$_ggend_character"}
    done
    REPLY=$_ggend_path
}

_ggend_python='
import socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.settimeout(float(sys.argv[2]))
stream.connect(sys.argv[1])
stream.sendall(sys.stdin.buffer.read())
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
    local _ggend_began=${1:-0}
    _ggend_now
    REPLY=$((_ggend_began && REPLY > _ggend_began ? (REPLY - _ggend_began) / 1000 : 0))
}

# Set REPLY to a random id.
_ggend_id() {
    read -r REPLY </proc/sys/kernel/random/uuid
    REPLY=${REPLY//-/}
}

_ggend_complain() {
    ! _ggend_is_set "${GGEND_DEBUG-}" || printf 'ggend.sh: %s\n' "$1" >&2 || :
}

# Whether a switch is on: the words for off are those of the Python client.
_ggend_is_set() {
    [[ -n $1 && ${1,,} != @(0|false|no) ]]
}

# Set REPLY to a status if that is what comes first, else to the default; fail when it is not.
_ggend_status() {
    REPLY=$2
    [[ -n $1 && $1 != *=* ]] && REPLY=$1
}
