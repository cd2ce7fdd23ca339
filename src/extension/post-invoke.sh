#!/bin/bash -p
# The companion: it keeps a Lambda environment awake after the response, until the function's process says that the tasks
# of the invocation have ended. -p keeps bash from running start-up files of others (BASH_ENV, ~/.bashrc).
#
# The rule of Lambda that it rests on: an invocation ends, and the environment may be frozen, when the runtime and each
# extension registered for INVOKE have asked for their next event. So to hold is not to ask, and to release is to ask.
#
# It has three roles:
#   /opt/extensions/post-invoke                 the layer's extension, started by Lambda
#   bash --norc -p -c SCRIPT NAME '"INVOKE"' …  the internal extension, started by the function's process
#   bash --norc -p -c SCRIPT NAME '' …          registered for no events: Lambda sends SIGTERM to the function's process
#                                               before it kills it if there is any extension at all
# The two that the function's process starts have SOCKET as 3, and as further arguments the file of last words, and 1 where
# lines of log are JSON.
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

# Before anything that an older bash cannot read: that one does not set it.
: "${EPOCHREALTIME:?bash 5.0 or later is needed, this is $BASH_VERSION}"

# An emulator sends SIGTERM to all processes, and this one has something to say after it. A write to a closed connection is
# an error that is looked at, not the end.
trap '' TERM PIPE
LC_ALL=C
address=$AWS_LAMBDA_RUNTIME_API
host=${address%:*} port=${address##*:}
# only in the layer: begin
pipe=${POST_INVOKE_FOLDER:-/tmp}/.middy-post-invoke-1-$port
words_file=$pipe.tasks is_json=''
[[ ${AWS_LAMBDA_LOG_FORMAT^^} = JSON ]] && is_json=1
(($#)) &&
  # only in the layer: end
  words_file=$2 is_json=$3
margin=100   # milliseconds: so long before the deadline the environment is released, or a good answer becomes a timeout
expected=' ' # the invocation whose event need not be read before the next one is asked for. A space: none
# only in the layer: begin
# Set here, for the function's environment may have variables of these names.
function_pid='' # that of the function's process, where it has started this one
body=''         # of the last answer. That of an event stands here until it is released
pending=0       # how many requests for an event have not been answered
present=''      # whether a function's process takes part
is_watching=''  # whether it cannot tell each end, and has said so
held=''         # the number of the invocation that runs tasks
last=0          # the number of the one released last
deadline=''     # when the hold ends
limit=''        # how many seconds to wait for a line. Empty: for ever
hands_off=''    # whether the function has said that it does
identifier='' making='' died='' worker='' has_complained=''
# only in the layer: end
# The log is 4. bash writes an error for each connection that is over: what matters is looked at.
exec 4>&2 2>/dev/null 1<>/dev/null
echo # the first thing that a bash prints goes out line by line, all else in one piece

# --- The role. What the function's process writes is 3 -------------------------------------------------------------------

# only in the layer: begin
if ((!$#)); then
  event_types='"INVOKE","SHUTDOWN"'
  spool=${POST_INVOKE_SPOOL:-/tmp/middy-post-invoke}
  command=$POST_INVOKE_COMMAND
  # Extensions are not given both variables everywhere. INVOKE is refused there, and nothing is ever frozen.
  [[ $AWS_LAMBDA_MAX_CONCURRENCY || $AWS_LAMBDA_INITIALIZATION_TYPE = lambda-managed-instances ]] && event_types='"SHUTDOWN"' command=''
  # Attached, but switched off: registered all the same, or Init would never end.
  case ${POST_INVOKE_COMPANION,,} in embedded | internal | off) event_types='' command='' ;; esac
  if [[ $event_types && $pipe = /* ]]; then
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
  event_types=$1 function_pid=$PPID
fi # only in the layer

# --- The log --------------------------------------------------------------------------------------------------------

say() { # LINE. In JSON it gets the time
  # shellcheck disable=SC2086 # two words: seconds, and their fraction
  case $1 in
    \{*) TZ=UTC0 printf '{"timestamp":"%(%FT%T)T.%.3sZ",%s\n' ${EPOCHREALTIME/./ } "${1#\{}" >&4 ;;
    ?*) echo "$1" >&4 ;;
  esac
}

complain() { # TEXT
  [[ ${POST_INVOKE_LOG_LEVEL^^} = SILENT || ${AWS_LAMBDA_LOG_LEVEL^^} = FATAL ]] && return # only in the layer
  set -- "middy-post-invoke: ${1//[\"\\[:cntrl:]]/}"
  [[ $is_json ]] && set -- '{"level":"ERROR","message":"'"$1"'"}'
  say "$1"
}

has_words_file() { [[ -f $words_file && -O $words_file && ! -L $words_file ]]; }

# What the function's process has written for this case. It filters by level itself.
say_last_words() { # 0: that process is gone. 1: time is up. Sets words
  words=()
  has_words_file && mapfile -t -n 2 words <"$words_file"
  say "${words[$1]}"
}

# --- The Extensions API is 1, for a redirection for each request takes longer than to send it -------------------------------

pause() { # SECONDS. Without a process for it: nobody ever writes to this socket
  read -r -t "$1" <>"/dev/udp/$host/$port"
}

connect() { # anew. Fails only before the registration
  pending=0 left=''
  for tenths in {0..9}; do
    exec 1<>"/dev/tcp/$host/$port" && return
    [[ $identifier ]] || return
    pause "0.$tenths"
  done
  exit 1 # nobody listens any more: on Lambda that never is
}

# One write for each request: a second small one would wait 40 ms for the first to be acknowledged.
ask() { # for the next event
  until printf %s "$next_request"; do connect; done
  pending=1
}

request_of() { # METHOD PATH HEADERS, of which each name begins alike. Sets next_request
  printf -v next_request '%s /2020-01-01/extension/%s HTTP/1.1\r\nHost: %s\r\nLambda-Extension-%s\r\n\r\n' "$1" "$2" "$address" "$3"
}

# It ends with a newline, or bash writes what follows the last one by itself.
send_registration() {
  request_of POST register "Name: ${0##*/}"$'\r\nContent-Length: '$((${#event_types} + 14))
  connect && echo "$next_request{\"events\":[$event_types]}"
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
    exec {both}<>"$pipe" 3<"$pipe" {both}>&-
  else
    exec 3</dev/null
    # The layer may be attached twice. Two that read one FIFO would take each other's lines.
    [[ ! $event_types || (-p $pipe && -O $pipe && ! -L $pipe) ]] || complain "no FIFO can be made at $pipe: nothing is held"
  fi
}

if ((!$#)); then
  open_fifo
  [[ $event_types = '"SHUTDOWN"' && $POST_INVOKE_COMMAND ]] &&
    complain 'POST_INVOKE_COMMAND never runs on Managed Instances, where extensions are told of no invocation'
fi
# only in the layer: end
send_registration

# What follows is done while the answer is on its way.
has_words_file && : >"$words_file" # of a process that is gone

read_line() { # Sets line, and takes it off what has been read and not been used: left
  until [[ $left = *$'\n'* ]]; do
    IFS= read -r -t 2 -u 1 line || return
    left+=$line$'\n'
  done
  line=${left%%$'\r\n'*} left=${left#*$'\n'}
}

# An answer: sets status and body. It may be hours away, but the rest comes within seconds. Fails where nothing more comes on
# the connection; without a status where that was lost.
read_answer() {
  status='' body='' closes='' length=1000000 block=2
  until [[ $left ]]; do
    read -r ${function_pid:+-t2} -N 1 -u 1 left || (($? > 128)) || return # more than 128: time is up
    [[ ! $function_pid ]] || # only in the layer
      kill -0 "$function_pid" || pass
  done
  while ((block < 65536)) && read_line && [[ $line ]]; do
    status=${status:-${line#* }} # the first line's, without the protocol
    ((block += ${#line} + 2))
    case ${line,,} in
      content-length:*) length=${line//[!0-9]/} length=$((10#0${length:0:6})) ;; # 10#: zeros in front mean octal numbers
      transfer-encoding:*chunked*) length='' ;;
      connection:*close*) closes=1 ;;
      lambda-extension-identifier:*) # that of the registration, all else of which can wait
        [[ $status = 200* ]] || return
        identifier=${line##*[: ]}
        request_of GET event/next "Identifier: $identifier"
        [[ $command ]] || # only in the layer
          ask
        [[ ! $function_pid ]] || # only in the layer
          echo ready >&3 ;;
    esac
  done
  if [[ $length ]]; then
    ((${#left} < length)) && read -r -t 2 -N $((length - ${#left})) -u 1 line
    left+=$line body=${left:0:length} left=${left:length}
    ((${#body} == length || (closes = length == 1000000))) # without a length it ends with its connection
  else
    # In chunks. An event is one line of JSON, so each chunk is one too, and its length tells nothing more.
    while read_line && [[ $line != 0 ]]; do [[ $line ]] && read_line && body+=$line; done # it may end with a newline
    [[ $line = 0 ]] && read_line
  fi || { status=''; return 1; }
  [[ ! $closes ]]
}

read_answer || connect
# Once more, for the connection may have been lost.
[[ $identifier ]] || (($#)) || { send_registration; read_answer || connect; } # only in the layer
if [[ ! $identifier ]]; then
  (($#)) || complain "the companion cannot register as an extension: ${status:-no reply}" # only in the layer
  (($#)) &&                                                                               # only in the layer
    echo "failed ${status:-no reply}" >&3
  exit 1
fi

# --- Events -----------------------------------------------------------------------------------------------------------

is_number() { # before any arithmetic: bash evaluates what it finds there, a[$(command)] for instance
  [[ $1 = [1-9]*([0-9]) && ${#1} -lt 16 ]]
}

hold_by_event() { # until its deadline
  held='' deadline=${body#*'"deadlineMs":'} deadline=${deadline%%[!0-9]*}
  is_number "$deadline" || deadline=$((EPOCHSECONDS + 900))000 # no invocation is longer
}

# Sets body, however long that takes: an extension that exits is a crash, and one that stops asking stops the environment.
next_event() {
  local failures=0 has_said=0
  expected=' '
  while
    { read_answer && ((pending -= 1, 1)); } || connect
    [[ $status$body != 200*'"INVOKE"'* ]] # in quotes: as a whole value
  do
    [[ $status$body = 200*'"SHUTDOWN"'* ]] && shut_down # only in the layer
    ((pending)) && continue
    # A connection that is lost once, in a freeze for instance, is worth no word.
    [[ $status ]] && ((!has_said++)) && complain "The next event cannot be had ($status), asking again"
    pause "0.$failures"
    ((failures += failures < 9))
    ask
  done
  hold_by_event
}

# --- Hold and release -------------------------------------------------------------------------------------------------

# As an interval: the clock may be set while the invocation runs, and deadlines are on the function's. With a digit in front
# there are always as many as are taken.
set_limit() {
  limit=$((deadline - margin - ${EPOCHREALTIME/./} / 1000)) limit=$((10 ** 9 + (limit > 900000 ? 900000 : limit > 1 ? limit : 1))) limit=${limit:1:6}.${limit:7}
}

# To ask for the next event is to release, where that has not been done yet.
wait_for_line() {
  ((pending)) || ask
  body='' held='' deadline='' limit=0.2 next_limit=5 SECONDS=0
  [[ ! $is_watching ]] || next_event
}

release() { # [late]: the invocation whose request id begins with start
  # only in the layer: begin
  local busy=''
  if [[ $command ]] || { [[ $hands_off && ! $1 ]] && is_due; }; then busy=1; fi
  # only in the layer: end
  [[ $body ]] || next_event
  if [[ $body = *"\"$start"* ]]; then
    [[ $busy ]] && work "${1:-settled}"  # only in the layer
    [[ ! $hands_off && ! $command ]] && # only in the layer
      [[ ! $1$closes$left ]] && expected=$((last + 1)) # on a connection that the server ends it would be asked in vain
  elif ((!pending)); then
    hold_by_event # that of the next invocation: this one's was lost, with a connection perhaps
    return
  fi
  wait_for_line
}

# Nobody takes part in this invocation, or does any longer.
pass() {
  [[ ! $present ]] || # only in the layer
    say_last_words 0
  [[ ! $function_pid ]] || # only in the layer
    exit 0                 # nobody is left to hold for
  # only in the layer: begin
  if [[ $present ]]; then
    [[ ${words[0]} ]] && : >"$words_file"
    [[ ${words[0]} || $held ]] && died=1
    present='' is_watching='' held='' last=0
  fi
  if [[ ! $body ]]; then
    next_event
    return # to listen once more: the process may have been started meanwhile
  fi
  if [[ $died ]]; then
    pause 0.05 # in which Lambda notices, and sends nothing more to a process that is gone
    died=''
  fi
  [[ $command ]] && work gone
  wait_for_line
  # only in the layer: end
}

# Time is up, or the process gone.
without_line() { # STATUS of read
  [[ $first ]] && return # bash keeps a character that comes just as time is up
  if (($1 <= 128)); then
    pass
  elif [[ ! $deadline ]]; then
    # A request that Lambda has refused is one that nobody waits for: an invocation would not end, and no line would ever come.
    # It is refused within moments, so this is looked at twice, and no more 10 s after the request: an environment that was
    # frozen for so long has asked with success, and nothing shall be read while the function answers.
    if ((SECONDS < 10)) && read -t 0 -u 1; then
      next_event
    else
      limit=$next_limit next_limit=''
    fi
  elif ! read -t 0 -u 3; then # what has just been written counts, or that the process is gone: it may have timed out
    # Of a handler that has not answered by now Lambda says that it has timed out, and its process names its tasks or is named.
    [[ $held ]] && say_last_words 1
    # What is told of this invocation from now on is too late. Where the function watches, not every one is counted.
    last=${held:-$((last + !is_watching))} start=''
    release late
  fi
  return 1
}

is_new() { is_number "$number" && ((number > last)); } # what is not, comes too late or twice

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
    unset NODE_OPTIONS # these are the function's: a tracer would be loaded here too
    POST_INVOKE_EXTENSION_IDENTIFIER=$identifier \
      exec "$node" "${BASH_SOURCE[0]%/*}/../post-invoke/worker.cjs" 3>&1 >&4 2>&1 4>&-
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
  deadline=$(($1 + margin + worker_grace))
  set_limit
  while [[ $number != "$worker_number" ]]; do
    if ! read -r -t "$limit" -u "$from_worker" number; then
      end_worker
      break
    fi
  done
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
  local is_over=0 end
  hold_by_event
  end=$((deadline - margin))
  if [[ $1 = settled ]]; then
    is_over=1
    if [[ $hands_off ]] && is_due && tell_worker "run $end"; then wait_for_worker "$end"; fi
  fi
  if [[ $command ]] && tell_worker "after $end $is_over ${body//[$'\r\n']/ }"; then
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
  local kind name end
  say_last_words 0
  while read -r -t 0.01 -u 3 kind _; do [[ $kind = work ]] && hands_off=1; done
  hold_by_event
  end=$((deadline - margin))
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
  request_of POST init/error "Identifier: $identifier"$'\r\nLambda-Extension-Function-Error-Type: Extension.NoNode\r\nContent-Type: application/json\r\nContent-Length: '${#error}
  printf %s "$next_request$error"
  read_answer
  exit 1
}

# only in the layer: end
# --- The lines of the function's process --------------------------------------------------------------------------------

[[ $command ]] && start_command # only in the layer
wait_for_line
# The usual course stands here as a whole, and what is rare in functions: bash copies the text of a function each time that it is
# called, and until the request for the next event each command counts.
while :; do
  [[ $deadline ]] && set_limit
  # The first character alone, for with -t bash makes three system calls for each one. A line comes as a whole, with one write.
  read -r ${limit:+-t$limit} -n 1 -u 3 first || without_line $? || continue
  [[ $first ]] || continue # an empty line
  read -r -u 3 kind number start || continue # the process is gone
  case $first$kind in
    settled)
      if [[ $number = "$expected" ]] && read -t 0 -u 1 && printf %s "$next_request"; then
        # To read an event takes bash longer than to ask for the next one. So that has come first. What is here is the event of
        # this invocation, in two pieces as long as those of the last one, or else what release() sorts out.
        last=$number
        if read -r -N "$block" -u 1 left && [[ $left = 'HTTP/1.1 200 OK'*ength:\ "$length"$'\r'*$'\n\r\n' ]] &&
          read -r -N "$length" -u 1 body && [[ $body = *'"INVOKE"'*"\"$start"* ]]; then
          left='' expected=$((number + 1))
          wait_for_line
        else
          left+=$body body='' pending=2
          release
        fi
      elif is_new; then
        last=$number
        release
      fi ;;
    hold)
      is_new && is_number "$start" && held=$number deadline=$start ;;
    open | watch) present=1 last=0 held='' is_watching='' expected=' ' ;;& # only in the layer
    work) hands_off=1 expected=' ' ;;                                      # only in the layer
    watch)
      is_watching=1
      [[ $body ]] || next_event ;;
  esac
done
