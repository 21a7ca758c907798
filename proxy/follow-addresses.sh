#!/bin/sh
# nginx looks names up only when it starts: make it look again when containers were added (--scale),
# removed or replaced. While a name is missing nginx would refuse to reload, so wait for all of them.
set -eu
look_up() {
    found=$(getent ahostsv4 "${BACKEND_ADDRESS%:*}" "${FLOWER_ADDRESS%:*}" "${RABBITMQ_ADDRESS%:*}") &&
        echo "$found" | sort -u
}
known=$(look_up) || known=""
while sleep 3; do
    if now=$(look_up) && [ "$now" != "$known" ] && nginx -s reload; then known=$now; fi
done &
