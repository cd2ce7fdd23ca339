#!/bin/bash -p
# The floor for a companion in bash that is told by a FIFO when to ask for the next event: it looks at nothing that it reads,
# takes all events to be as long as the first, knows no deadline, and survives nothing.
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}"
LC_ALL=C
fifo=${POST_INVOKE_FOLDER:-/tmp}/.middy-post-invoke-1-${AWS_LAMBDA_RUNTIME_API##*:}
rm -f "$fifo"
mkfifo -m 600 "$fifo"
# shellcheck disable=SC2094
exec 5<>"$fifo" 4<"$fifo" # both ends, so that there is no end-of-file
echo >/dev/null # the first thing that a bash prints goes out line by line, all else in one piece
exec >&3
identifier='' body='{"events":["INVOKE"]}'

read_answer() { # sets length, of head and body
  local line count=0
  length=0
  while IFS= read -r line <&3; do
    ((length += ${#line} + 1))
    case ${line,,} in
      lambda-extension-identifier:*) identifier=${line#*: } ;;
      content-length:*) count=${line#*: } ;;
      $'\r') break ;;
    esac
  done
  count=${count%$'\r'}
  IFS= read -r -N "$count" line <&3
  ((length += count))
}

printf -v request 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Name: %s\r\nContent-Length: %d\r\n\r\n%s' \
  "$AWS_LAMBDA_RUNTIME_API" "${0##*/}" "${#body}" "$body"
printf %s "$request"
read_answer
printf -v request 'GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Identifier: %s\r\n\r\n' \
  "$AWS_LAMBDA_RUNTIME_API" "${identifier%$'\r'}"
printf %s "$request"
length=''
while read -r line <&4; do
  [[ $line = settled* ]] || continue
  printf %s "$request"
  if [[ $length ]]; then
    IFS= read -r -N "$length" event <&3
    [[ $event = *'}' ]] || exit 1
  else
    read_answer
  fi
done
