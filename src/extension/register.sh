#!/bin/bash -p
# Registers an extension with Lambda before a Node.js process could: in about 5 ms where Node needs 50. Lambda starts the
# function's runtime only when every extension in /opt/extensions has registered, so this is time off each cold start.
#
#   /opt/extensions/post-invoke         started by Lambda: registers, then becomes the companion (a Node.js process).
#   bash … register.sh NAME EVENTS      prints the identifier of an extension registered under NAME, for the function's
#                                       own process, which has to have it before its runtime asks for an invocation.
#
# -p keeps bash from running start-up files of others (BASH_ENV, ~/.bashrc) on our account.

register() { # NAME EVENTS, for instance: post-invoke '"INVOKE","SHUTDOWN"'. Sets identifier, or status and fails.
  local LC_ALL=C line body="{\"events\":[$2]}"
  identifier='' status=''
  { exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}"; } 2>/dev/null || return
  printf 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Name: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
    "$AWS_LAMBDA_RUNTIME_API" "$1" "${#body}" "$body" >&3
  while read -r -t 5 line <&3; do
    line=${line%$'\r'}
    case ${line,,} in
      http/*) status=${line#* } ;;
      lambda-extension-identifier:*) identifier=${line#*:} identifier=${identifier# } ;;
      '') break ;;
    esac
  done
  exec 3>&-
  [[ $status == 200* && $identifier ]]
}

if (($#)); then
  if register "$1" "$2"; then echo "$identifier"; else echo "${status:-no answer}" >&2; exit 1; fi
  exit
fi

name=${0##*/}
companion=${BASH_SOURCE[0]%/*}/../post-invoke/companion.cjs
node=$(type -P node) || node=/var/lang/bin/node

case ${POST_INVOKE_COMPANION,,} in
  embedded | internal | off) events='' ;; # attached, but switched off: registered all the same, or Init would never end
  *) events='"INVOKE","SHUTDOWN"' ;;
esac
# Managed Instances are never frozen, and refuse a subscription to INVOKE.
[[ -v AWS_LAMBDA_MAX_CONCURRENCY && $events ]] && events='"SHUTDOWN"'
[[ -x $node ]] || events=''

if register "$name" "$events"; then
  export POST_INVOKE_EXTENSION_IDENTIFIER=$identifier
fi
if [[ -x $node ]]; then
  # NODE_OPTIONS is the function's: a tracer preloaded there would load here too.
  unset NODE_OPTIONS
  exec "$node" "$companion"
fi

message="middy-post-invoke: the layer needs Node.js, and there is none on PATH nor at $node: detach it from this function"
if [[ ${AWS_LAMBDA_LOG_FORMAT^^} == JSON ]]; then
  TZ=UTC0 printf '{"timestamp":"%(%FT%TZ)T","level":"ERROR","message":"%s"}\n' -1 "$message"
else
  echo "$message" >&2
fi
if [[ $POST_INVOKE_COMMAND ]]; then
  # Asked for, and impossible: better no environment than one in which it is missing without a word.
  body="{\"errorMessage\":\"POST_INVOKE_COMMAND needs Node.js, and there is none on PATH nor at $node\",\"errorType\":\"Extension.NoNode\",\"stackTrace\":[]}"
  exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}"
  printf 'POST /2020-01-01/extension/init/error HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Identifier: %s\r\nLambda-Extension-Function-Error-Type: Extension.NoNode\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
    "$AWS_LAMBDA_RUNTIME_API" "$identifier" "${#body}" "$body" >&3
  read -r -t 5 _ <&3
  exit 1
fi
# Init waits for the first event/next of each extension. Subscribed to nothing, this one is answered never.
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}"
printf 'GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Identifier: %s\r\n\r\n' \
  "$AWS_LAMBDA_RUNTIME_API" "$identifier" >&3
read -r _ <&3
exec 4<> <(:) && read -r _ <&4 # an end to neither: an extension that exits is a crash
