#!/bin/bash -p
# The companion: it keeps a Lambda environment awake after the response, until the function's process says that the tasks
# of the invocation have ended. -p keeps bash from running start-up files of others (BASH_ENV, ~/.bashrc).
#
# The rule of Lambda that it rests on: an invocation ends, and the environment may be frozen, when the runtime and each
# extension registered for INVOKE have asked for their next event. So to hold is not to ask, and to release is to ask.
#
# It has three roles:
#   /opt/extensions/post-invoke                         the layer's extension, started by Lambda
#   bash --norc -p -c SCRIPT NAME '"INVOKE"' 3<>SOCKET  the internal extension, started by the function's process
#   bash --norc -p -c SCRIPT NAME '' 3<>SOCKET          registered for no events: Lambda sends SIGTERM to the function's
#                                                       process before it kills it if there is any extension at all
#
# The function's process writes short lines: to the layer through a FIFO, .middy-post-invoke-1-PORT in /tmp (or in
# POST_INVOKE_FOLDER), where 1 is the number of this protocol and PORT that of the Runtime API; to the others through SOCKET.
#   open                    its first line: it takes part, and counts its invocations from 1 on
#   watch                   instead of open: it cannot tell the end of each invocation. So each event is read as
#                           it comes, and an invocation of which nothing is told is held until its deadline
#   work                    it hands work off: from now on the layer looks into the spool
#   hold NUMBER DEADLINE    invocation NUMBER runs tasks after its response, until DEADLINE (milliseconds since the epoch)
#   settled NUMBER START    nothing is left to do for invocation NUMBER, whose request id begins with START
# End-of-file means that the process is gone, or takes no part. Until one of these has come nothing is read from the Extensions
# API: an event that stays unread in its connection wakes nobody while the function answers. Only in the first seconds after
# a request does a timer look whether Lambda has refused it.
# Over SOCKET one line goes back at the start: `ready`, or `failed REASON`.
#
# What a killed process can tell no more stands in the file beside the FIFO, .middy-post-invoke-1-PORT.tasks, as two
# finished lines of log: the first for when that process is gone, the second for when time is up. In JSON they lack only
# the time.
#
# bash runs each command as soon as it has read it, and Init waits for what stands first: the registration, and then the
# request for the first event. So the functions that are needed later stand later.
#
# For bundles of functions scripts/companion-text.ts drops what is marked `only in the layer`, and shortens names: its rules
# hold here.

if ((BASH_VERSINFO[0] < 5)); then # before anything that an older bash cannot read
  message="bash 5.0 or later is needed, this is $BASH_VERSION"
  (($#)) || echo "middy-post-invoke: $message" >&2 # only in the layer
  (($#)) &&                                        # only in the layer
    echo "failed $message" >&3
  exit 1
fi

# An emulator sends SIGTERM to all processes, and this one has something to say after it. A write to a closed connection is
# an error that is looked at, not the end.
trap '' TERM PIPE
LC_ALL=C
address=$AWS_LAMBDA_RUNTIME_API
host=${address%:*} port=${address##*:}
pipe=${POST_INVOKE_FOLDER:-/tmp}/.middy-post-invoke-1-$port
tasks=$pipe.tasks
margin=100 # milliseconds: so long before the deadline the environment is released, or a good answer becomes a timeout
expected=' ' # at `settled` with this number the next event is asked for before this one is read. A space: none
# only in the layer: begin
# Set here, for the function's environment may have variables of these names.
function_pid='' # that of the function's process, where it has started this one
event=''        # what was read and not yet released
pending=0       # how many requests for an event have not been answered
block=''        # how many bytes of the last event's head followed its first line. Empty after any other answer
body_length=''  # and how long its body was
present=''      # whether a function's process takes part
watch=''        # whether it has said so
held=''         # the number of the invocation that runs tasks
last=0          # the number of the one released last
limit=()        # the options by which `read` ends in time
limit_end=''    # when the hold ends. Empty: they are there to look for a refusal of the request made at second asked
hands_off=''    # whether the function has said that it does
identifier='' making='' never='' died='' worker='' has_complained=''
# only in the layer: end
# bash writes an error for each connection that is over: what matters is looked at.
exec {log}>&2 2>/dev/null 1<>/dev/null
echo # the first thing that a bash prints goes out line by line, all else in one piece

# --- The role ---------------------------------------------------------------------------------------------------------

# only in the layer: begin
if ((!$#)); then
  events='"INVOKE","SHUTDOWN"'
  spool=${POST_INVOKE_SPOOL:-/tmp/middy-post-invoke}
  command=$POST_INVOKE_COMMAND
  # Extensions are not given both variables everywhere. INVOKE is refused there, and nothing is ever frozen.
  [[ $AWS_LAMBDA_MAX_CONCURRENCY || $AWS_LAMBDA_INITIALIZATION_TYPE = lambda-managed-instances ]] && events='"SHUTDOWN"' command=''
  # Attached, but switched off: registered all the same, or Init would never end.
  case ${POST_INVOKE_COMPANION,,} in embedded | internal | off) events='' command='' ;; esac
  if [[ $events && $pipe = /* ]]; then
    # It runs while this process goes on, and prints nothing if it succeeds. As a job of bash it would cost half a megabyte.
    exec {making}< <(
      PATH=/usr/bin:/bin
      # Always a new one: whatever has the old one open, of an environment that is gone, shall not read these lines.
      [[ -e $pipe || -L $pipe ]] && rm -f "$pipe"
      exec mkfifo -m 600 "$pipe" 2>&1
    )
  fi
else
# only in the layer: end
  events=$1 function_pid=$PPID
  exec {lines}<&3 3<&-
fi # only in the layer

# --- The log --------------------------------------------------------------------------------------------------------

say() { # LINE
  local now=$EPOCHREALTIME
  if [[ $1 = \{* ]]; then
    TZ=UTC0 printf '{"timestamp":"%(%FT%T)T.%.3sZ",%s\n' "${now%.*}" "${now#*.}" "${1#\{}" >&"$log"
  elif [[ $1 ]]; then
    printf '%s\n' "$1" >&"$log"
  fi
}

complain() { # TEXT
  [[ ${POST_INVOKE_LOG_LEVEL^^} = SILENT || ${AWS_LAMBDA_LOG_LEVEL^^} = FATAL ]] && return # only in the layer
  if [[ ${AWS_LAMBDA_LOG_FORMAT^^} = JSON ]]; then
    say "{\"level\":\"ERROR\",\"message\":\"middy-post-invoke: ${1//[\"\\[:cntrl:]]/}\"}"
  else
    say "middy-post-invoke: $1"
  fi
}

# What the function's process has written for this case, `gone` or `late`. It filters by level itself.
say_last_words() { # gone | late. Sets words
  local text=''
  words=''
  [[ -f $tasks && -O $tasks && ! -L $tasks ]] || return
  IFS= read -r -N 65536 text <"$tasks"
  [[ $1 = late ]] && text=${text#*$'\n'}
  words=${text%%$'\n'*}
  say "$words"
}

# --- The Extensions API: file descriptor 1, for a redirection for each request takes longer than to send it ----------------

pause() { # SECONDS. Without a process for it: nobody ever writes to this socket
  [[ $never ]] || exec {never}<>"/dev/udp/$host/$port"
  if [[ $never ]]; then read -r -t "$1" -u "$never"; else sleep "$1"; fi
}

connect() { # anew. Fails where nobody listens any more: on Lambda that never is
  local wait
  pending=0
  for wait in 0.02 0.1 0.5 1 2 2 ''; do
    exec 1<>"/dev/tcp/$host/$port" && return
    [[ $wait && $identifier ]] || return
    pause "$wait"
  done
}

# One write for each request: a second small one would wait 40 ms for the first to be acknowledged.
ask() { # for the next event
  until printf '%s' "$next_request"; do connect || exit 1; done
  ((pending += 1))
}

# It ends with a newline, or bash writes what follows the last one by itself.
send_registration() {
  local body="{\"events\":[$events]}"$'\n' request
  printf -v request 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Name: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    "$address" "${0##*/}" "${#body}" "$body"
  printf '%s' "$request"
}

# only in the layer: begin
# It has to be there before the runtime is started, which is when every extension has registered.
open_fifo() {
  local both error=1
  if [[ $making ]]; then
    read -r -u "$making" error
    exec {making}<&-
  fi
  if [[ ! $error && -p $pipe ]]; then
    # To open one end waits for the other, but to open both does not.
    # shellcheck disable=SC2094
    exec {both}<>"$pipe" {lines}<"$pipe" {both}>&-
  else
    exec {lines}</dev/null
    # The layer may be attached twice. Two that read one FIFO would take each other's lines.
    [[ ! $events || (-p $pipe && -O $pipe && ! -L $pipe) ]] || complain "no FIFO can be made at $pipe: nothing is held"
  fi
  [[ $events && -f $tasks && -O $tasks && ! -L $tasks ]] && : >"$tasks" # of an environment that is gone
}

if ((!$#)); then
  open_fifo
  [[ $events = '"SHUTDOWN"' && $POST_INVOKE_COMMAND ]] &&
    complain 'POST_INVOKE_COMMAND never runs on Managed Instances, where extensions are told of no invocation'
fi
# only in the layer: end

# Reads no more of the answer than it takes to ask for the first event: what follows is parsed while the function starts.
register() { # Sets identifier
  connect && send_registration || return
  answer=''
  while IFS= read -r -u 1 more && ((${#answer} < 16384)); do
    answer+=$more$'\n'
    [[ $answer = HTTP/1.?' 200'* && $more != $'\r' ]] || return
    [[ ${more,,} = lambda-extension-identifier:* ]] || continue
    identifier=${more#*:} identifier=${identifier%%$'\r'*} identifier=${identifier# }
    break
  done
  [[ $identifier ]] || return
  printf -v next_request 'GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Identifier: %s\r\n\r\n' \
    "$address" "$identifier"
  [[ $command ]] || # only in the layer
    ask
  [[ ! $function_pid ]] || # only in the layer
    printf 'ready\n' >&"$lines"
}
register

# An answer: sets head and body. It may be hours away, but the rest comes within seconds. Fails where the connection is of no
# use any more.
read_answer() {
  answer='' head='' body='' patience=()
  wait_for_answer || return
  # Most of the head in one block, as long as the last event's: bash reads lines byte by byte.
  if [[ $answer = $'HTTP/1.1 200 OK\r\n' && $block ]]; then read_bytes "$block" || return; fi
  read_rest_of_answer
}

is_last_answer() { [[ $head = *$'\n'[Cc]onnection:\ [Cc]lose* ]]; } # of its connection

read_rest_of_answer() { # after what stands in answer
  local length
  while [[ $answer != *$'\r\n\r\n'* ]]; do read_line || return; done
  head=${answer%%$'\r\n\r\n'*} body=${answer#*$'\r\n\r\n'}
  length=$'\n'${head,,} length=${length##*$'\ncontent-length:'}
  if [[ $length = $'\n'* ]]; then
    read_other_body || return
  else
    length=${length%%$'\r'*} length=${length//[!0-9]/}
    [[ $length && ${#length} -lt 7 ]] || return
    length=$((10#$length - ${#body})) answer=$body # 10#, because zeros in front mean octal numbers
    ((length >= 0)) || return
    if ((length)); then read_bytes "$length" || return; fi
    body=$answer
  fi
  ! is_last_answer
}

read_other_body() {
  patience=(-t 2) answer=$body
  if [[ $length = *$'\ntransfer-encoding: chunked'* ]]; then
    body=''
    read_chunks
  else
    read_bytes 65536 # it ends with its connection
    body=$answer
    return 1
  fi
}

wait_for_answer() {
  until IFS= read -r ${function_pid:+-t 2} -N 1 -u 1 answer; do
    (($? > 128)) || return # more than 128: time is up
    [[ $answer ]] && break # a byte that came just then
    check_function
  done
  patience=(-t 2)
  read_bytes 16
}

read_bytes() { # COUNT: adds them to answer
  IFS= read -r "${patience[@]}" -N "$1" -u 1 more
  set -- $?
  answer+=$more
  return "$1"
}

read_line() { # adds it to answer
  IFS= read -r "${patience[@]}" -u 1 more && ((${#answer} < 16384)) && answer+=$more$'\n'
}

read_chunks() {
  local size left=$answer
  while :; do
    answer=$left
    [[ $answer = *$'\n'* ]] || read_line || return
    size=${answer%%[!0-9A-Fa-f]*} answer=${answer#*$'\n'}
    [[ $size && ${#size} -lt 6 ]] || return
    size=$((16#$size))
    if ((size + 2 > ${#answer})); then read_bytes $((size + 2 - ${#answer})) || return; fi # and the end of the line
    body+=${answer:0:size} left=${answer:size+2}
    ((size)) || return 0
  done
}

describe_answer() { # sets status
  status=${head%%$'\r'*} status=${status#HTTP/1.? }
  status=${status:-no reply}
}

# --- The function's process -------------------------------------------------------------------------------------------

function_is_gone() {
  say_last_words gone
  [[ $words ]] && : >"$tasks"
  # only in the layer: begin
  [[ $words || $held ]] && died=1
  present='' watch='' held='' last=0 limit=()
  # only in the layer: end
}

# The internal extension has nobody left to hold for.
end_with_function() {
  function_is_gone
  exit 0
}

check_function() {
  [[ ! $function_pid ]] || # only in the layer
    kill -0 "$function_pid" || end_with_function
}

# Once more, for the connection may have been lost.
[[ $identifier ]] || (($#)) || register # only in the layer
if [[ ! $identifier ]]; then
  head=$answer
  describe_answer
  (($#)) || complain "the companion cannot register as an extension: $status" # only in the layer
  (($#)) &&                                                                   # only in the layer
    printf 'failed %s\n' "$status" >&"$lines"
  exit 1
fi
patience=(-t 2)
if ! read_rest_of_answer; then # of its connection nothing more comes, nor of what was asked for on it
  connect || exit 1
  [[ $command ]] || # only in the layer
    ask
fi

# --- Events -----------------------------------------------------------------------------------------------------------

pauses=(0 0.05 0.1 0.2 0.5 1 2) # between one failure and the next question

# Sets event, however long that takes: an extension that exits is a crash, and one that stops asking stops the environment.
next_event() {
  ((pending)) || ask
  if read_answer; then ((pending -= 1)); else connect || exit 1; fi
  take_answer
}

take_answer() { # as the event
  local status failures=0 has_said=''
  expected=' '
  while :; do
    event=$body block='' body_length=''
    if [[ $head = HTTP/1.?' 200'* ]]; then
      if [[ $event = *'"INVOKE"'* ]]; then # in quotes: as a whole value
        block=$((${#head} - 13)) body_length=${#body}
        return
      fi
      [[ $event = *'"SHUTDOWN"'* ]] && shut_down # only in the layer
    fi
    event=''
    if ((!pending)); then
      # A connection that is lost once, in a freeze for instance, is worth no word.
      if [[ $head && ! $has_said ]]; then
        describe_answer
        complain "The next event cannot be had ($status), asking again"
        failures=1 has_said=1
      fi
      pause "${pauses[failures]}"
      check_function
      ((failures < 6)) && ((failures += 1))
      ask
    fi
    if read_answer; then ((pending -= 1)); else connect || exit 1; fi
  done
}

# --- What the function's process writes -------------------------------------------------------------------------------

is_number() { # before any arithmetic: bash evaluates what it finds there, a[$(command)] for instance
  [[ $1 = [1-9]* && $1 != *[!0-9]* && ${#1} -lt 16 ]]
}

# As an interval, and once: the clock may be set while the invocation runs, and deadlines are on the function's.
limit_until() { # TIME, in milliseconds since the epoch
  # No invocation is longer than 15 minutes. With a digit in front there are always as many as are taken.
  limit_end=$1 left=$(($1 - ${EPOCHREALTIME/./} / 1000)) left=$((1000000 + (left < 1 ? 1 : left > 900000 ? 900000 : left)))
  limit=(-t "${left:1:3}.${left:4}")
}

is_new() { is_number "$1" && (($1 > last)); }

# Any line that hold() does not deal with itself.
take_line() { # KIND NUMBER REST
  case $1 in
    hold)
      if is_new "$2" && is_number "$3"; then
        held=$2 limit_end=$(($3 - margin))
      fi ;;
    settled)
      # What is not above the last one released comes too late, or twice.
      if is_new "$2"; then
        last=$2 start=$3 held=''
        # An event of another invocation is that of the next one: this one's was lost, with a connection perhaps.
        if [[ ! $event || $event = *"\"$start"* ]]; then release settled; else limit_by_event; fi
        return
      fi ;;
    open) last=0 held='' watch='' expected=' ' ;;
    work) hands_off=1 expected=' ' ;; # only in the layer
    watch)
      last=0 held='' watch=1 expected=' '
      [[ $event ]] || hold_next ;;
  esac
  present=1 # only in the layer
  [[ $limit_end ]] && limit_until "$limit_end"
}

# Time is up, or the process gone. Fails where there is no line, for bash keeps a character that comes just as time is up.
without_line() { # STATUS of read
  [[ $first ]] && return
  if (($1 <= 128)); then
    pass
  elif [[ ! $limit_end ]]; then
    look_for_refusal
  elif read -t 0 -u "$lines"; then
    limit_until 1 # once more: the process may have written, or be gone, because it has timed out for instance
  else
    # Of a handler that has not answered by now Lambda says that it has timed out, and its process names its tasks or is named.
    [[ $held ]] && say_last_words late
    # What is told of this invocation from now on is too late. Where the function watches, not every one is counted.
    [[ $watch ]] && last=${held:-$last} || last=${held:-$((last + 1))}
    held='' start=''
    release late
  fi
  return 1
}

# A request that Lambda has refused is one that nobody waits for: an invocation would not end, and no line would ever come. It
# is refused within moments, so this is looked at twice, and no more 10 s after the request: an environment that was frozen for
# so long has asked with success, and nothing shall be read while the function answers.
look_for_refusal() {
  if ((SECONDS - asked < 10)) && read -t 0 -u 1; then
    hold_next
  elif [[ ${limit[1]} = 5 ]] || ((SECONDS - asked >= 10)); then
    limit=()
  else
    limit=(-t 5)
  fi
}

# Reads the next event, and holds its invocation.
hold_next() {
  next_event
  limit_by_event
}

# Until when the invocation of this event can be held.
limit_by_event() {
  end=${event#*'"deadlineMs":'} end=${end# } end=${end%%[!0-9]*}
  if is_number "$end"; then end=$((end - margin)); else end=$((${EPOCHREALTIME/./} / 1000 + 900000)); fi
  limit_until "$end"
}

# --- Hold and release -------------------------------------------------------------------------------------------------

# Reads the lines of the function's process, for ever. The usual course stands here as a whole, and what is rare in functions:
# bash copies the text of a function each time that it is called, and until the request for the next event each command counts.
hold() {
  wait_after_request
  while :; do
    # The first character alone, for with -t bash makes three system calls for each one. A line comes as a whole, with one write.
    IFS= read -r "${limit[@]}" -N 1 -u "$lines" first || without_line $? || continue
    [[ $first = $'\n' ]] && continue
    read -r -u "$lines" kind number start || { pass; continue; }
    if [[ $first$kind$number = "settled$expected" ]] && read -t 0 -u 1 && printf '%s' "$next_request"; then
      # To read an event takes bash longer than to ask for the next one. So that has come first. What is here is the event of this
      # invocation, in pieces as long as those of the last one, or else what take_unusual_answer() sorts out.
      if IFS= read -r -N 17 -u 1 answer && [[ $answer = $'HTTP/1.1 200 OK\r\n' ]] &&
        IFS= read -r -N "$block" -u 1 more && [[ $more = *ength:\ "$body_length"$'\r'*$'\n\r\n' ]] && read -t 0 -u 1 &&
        IFS= read -r -N "$body_length" -u 1 invoke && [[ $invoke = *'"INVOKE"'*"\"$start"* ]]; then
        last=$number expected=$((number + 1)) held='' limit=(-t 0.2) limit_end='' asked=$SECONDS more='' invoke=''
      else
        take_unusual_answer
      fi
    elif [[ $first$kind$number = "hold$expected" && $start = [1-9]* && $start != *[!0-9]* && ${#start} -lt 16 ]]; then
      held=$number
      limit_until $((start - margin))
    else
      take_line "$first$kind" "$number" "$start"
    fi
  done
}

# The next event has been asked for, and the answer to the request before it is not like the last one.
take_unusual_answer() {
  last=$number held='' answer+=$more$invoke head='' body='' patience=(-t 2)
  ((pending += 1))
  if read_rest_of_answer; then ((pending -= 1)); else connect || exit 1; fi
  take_answer
  # That of another invocation is held from here on, unless it has been let go by the request.
  [[ $event = *"\"$start"* ]] || ((pending)) || { limit_by_event; return; }
  ask_after_event
}

ask_after_event() {
  ((pending)) || ask
  wait_after_request
}

# Once the next event has been asked for.
wait_after_request() {
  event='' limit=(-t 0.2) limit_end='' asked=$SECONDS more='' invoke=''
  [[ ! $watch ]] || hold_next
}

release() { # settled | late
  # only in the layer: begin
  local busy=''
  if [[ $command ]] || { [[ $hands_off && $1 = settled ]] && is_due; }; then busy=1; fi
  # only in the layer: end
  [[ $event ]] || next_event
  # That of another invocation is held from here on.
  [[ $event = *"\"$start"* ]] || { limit_by_event; return; }
  [[ $busy ]] && work "$1" # only in the layer
  ask_after_event
  # On a connection that the server ends, the request would be sent in vain.
  [[ $1 = settled && ! $watch ]] &&
    [[ ! $hands_off && ! $command ]] && # only in the layer
    ! is_last_answer && expected=$((last + 1))
}

# Nobody takes part in this invocation, or does any longer.
pass() {
  [[ $function_pid ]] && # only in the layer
    end_with_function
  # only in the layer: begin
  [[ $present ]] && function_is_gone
  if [[ ! $event ]]; then
    hold_next
    return # to listen once more: the process may have been started meanwhile
  fi
  if [[ $died ]]; then
    pause 0.05 # in which Lambda notices, and sends nothing more to a process that is gone
    died=''
  fi
  [[ $command ]] && work gone
  ask_after_event
  # only in the layer: end
}

# only in the layer: begin
# --- The worker: Node.js, for handed-off work and POST_INVOKE_COMMAND --------------------------------------------------
# It is started when first needed. Each line to it is answered with its number, once it is done:
#   NUMBER start            at Init, where there is a command
#   NUMBER run UNTIL        run what waits in the spool, no longer than UNTIL (milliseconds since the epoch)
#   NUMBER after UNTIL IS-OVER EVENT   run the command. IS-OVER: 1 where the invocation is known to have ended, else 0
#   NUMBER last UNTIL       the environment ends: run both for the last time

worker_grace=50   # milliseconds between the end that it is told and the one that it has
worker_starts=4   # how many are left: one that ends again and again is of no use
worker_number=0

start_worker() {
  local node=/var/lang/bin/node
  ((worker_starts > 0)) || return
  ((worker_starts -= 1))
  hash node && node=${BASH_CMDS[node]} # bash looks it up by itself
  if [[ ! -x $node ]]; then
    complain "handed-off work waits: it needs Node.js, and there is none on PATH nor at $node"
    worker_starts=0
    return 1
  fi
  # Its lines are on file descriptor 3, so that what a job or a command prints goes to the log. It gets neither the
  # connection nor the FIFO: an end that it kept open would hide that the other is closed.
  coproc WORKER {
    [[ $never ]] && exec {never}>&-
    unset NODE_OPTIONS # these are the function's: a tracer would be loaded here too
    POST_INVOKE_EXTENSION_IDENTIFIER=$identifier \
      exec "$node" "${BASH_SOURCE[0]%/*}/../post-invoke/worker.cjs" 3>&1 >&"$log" 2>&1 {log}>&- {lines}<&-
  }
  worker=$WORKER_PID
  exec {to_worker}>&"${WORKER[1]}"- {from_worker}<&"${WORKER[0]}"-
}

tell_worker() { # TEXT. One that has ended meanwhile, when it had nothing to do, is replaced.
  for _ in 1 2; do
    [[ $worker ]] || start_worker || return
    ((worker_number += 1))
    printf '%s %s\n' "$worker_number" "$1" >&"$to_worker" && return
    end_worker
  done
  return 1
}

wait_for_worker() { # UNTIL. One that is late or gone is replaced by another when it is needed again.
  local number=''
  limit_until $(($1 + worker_grace))
  while [[ $number != "$worker_number" ]]; do
    if ! read -r "${limit[@]}" -u "$from_worker" number; then
      end_worker
      break
    fi
  done
  limit=()
}

end_worker() {
  kill -KILL "$worker"
  wait "$worker"
  exec {to_worker}>&- {from_worker}<&-
  worker=''
  [[ $has_complained ]] || complain 'the worker has ended or was late: handed-off work that it had waits in the spool'
  has_complained=1
}

work() { # settled | late | gone: after an invocation that ended so
  local is_over=0
  limit_by_event
  if [[ $1 = settled ]]; then
    is_over=1
    if [[ $hands_off ]] && is_due && tell_worker "run $end"; then wait_for_worker "$end"; fi
  fi
  if [[ $command ]] && tell_worker "after $end $is_over ${event//[$'\r\n']/ }"; then
    [[ $1 = late ]] || wait_for_worker "$end" # its time is up: the worker only takes note
  fi
}

# Whether something in the spool is due. Names that are to be looked at begin with the time for it, in 13 digits.
is_due() {
  local name now=$EPOCHREALTIME
  next_in_spool || return
  name=${name:0:13}
  [[ ${#name} = 13 && $name != *[!0-9]* ]] && ((10#$name <= ${now/./} / 1000))
}

next_in_spool() { # sets name
  local entries
  [[ -d $spool ]] || return
  entries=("$spool"/[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-*) # sorted
  name=${entries[0]##*/}
  [[ $name = [0-9]* && $name != *'*' ]]
}

shut_down() {
  local kind name
  function_is_gone
  while read -r -t 0.01 -u "$lines" kind _; do [[ $kind = work ]] && hands_off=1; done
  limit_by_event
  if [[ $command ]] || { [[ $hands_off ]] && next_in_spool; }; then tell_worker "last $end" && wait_for_worker "$end"; fi
  exit 0
}

start_command() { # before the first event is asked for, which ends Init
  local now=$EPOCHREALTIME error
  if tell_worker start; then
    wait_for_worker $((${now/./} / 1000 + 5000))
    return
  fi
  # Asked for, and impossible: better no environment than one in which it is missing without a word.
  error='{"errorMessage":"POST_INVOKE_COMMAND needs Node.js, and there is none on PATH nor at /var/lang/bin/node","errorType":"Extension.NoNode","stackTrace":[]}'
  printf 'POST /2020-01-01/extension/init/error HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Identifier: %s\r\nLambda-Extension-Function-Error-Type: Extension.NoNode\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    "$address" "$identifier" "${#error}" "$error"
  read_answer
  exit 1
}

# only in the layer: end
# --- After the start --------------------------------------------------------------------------------------------------

# only in the layer: begin
if [[ $command ]]; then
  start_command
  ask
fi
# only in the layer: end
if
  [[ $function_pid ]] && # only in the layer
    [[ ! $events ]]
then
  while read -r -u "$lines"; do :; done # until the end of the process
  end_with_function
fi
hold
