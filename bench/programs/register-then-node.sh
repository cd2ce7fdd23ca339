#!/bin/bash -p
# As the layer of version 0.1.0 started: bash registers, then a process of Node.js takes over and asks for the first event.
line='' body='{"events":["INVOKE","SHUTDOWN"]}'
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}"
printf 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: %s\r\nLambda-Extension-Name: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
  "$AWS_LAMBDA_RUNTIME_API" "${0##*/}" "${#body}" "$body" >&3
while read -r -t 5 line <&3; do
  [[ $line = $'\r' ]] && break
done
exec 3>&-
exec node "${BASH_SOURCE[0]%/*}/bare-node.cjs"
