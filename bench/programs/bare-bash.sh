#!/bin/bash -p
# The floor for a companion in bash: it registers, asks for an event and waits. It makes no pipe and holds nothing.
line='' identifier='' body='{"events":["INVOKE","SHUTDOWN"]}'
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}"
printf -v request 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Name: %s\r\nContent-Length: %d\r\n\r\n%s' \
  "$AWS_LAMBDA_RUNTIME_API" "${0##*/}" "${#body}" "$body"
printf %s "$request" >&3 # at once: in pieces each would wait for the one before
while read -r line <&3; do
  case ${line,,} in
    lambda-extension-identifier:*) identifier=${line#*: } ;;
    content-length:*) length=${line#*: } ;;
    $'\r') break ;;
  esac
done
read -r -N "${length%$'\r'}" _ <&3
printf -v request 'GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Identifier: %s\r\n\r\n' \
  "$AWS_LAMBDA_RUNTIME_API" "${identifier%$'\r'}"
while :; do
  printf %s "$request" >&3
  while read -r line <&3; do
    case ${line,,} in
      content-length:*) length=${line#*: } ;;
      $'\r') break ;;
    esac
  done || exit
  read -r -N "${length%$'\r'}" _ <&3
done
