#!/bin/sh
# Keep nginx's list of backends current as containers come and go (--scale, restarts): nginx looks the
# names of an upstream up only once (`resolve` came with 1.27.3). While none is found the last list stays; none yet is no error.
set -eu
list=/run/backends.conf
look_up() { getent ahostsv4 "${BACKEND_ADDRESS%:*}" | sed "s/ .*/:${BACKEND_ADDRESS##*:};/; s/^/server /" | sort -u; }

known=$(look_up)
echo "${known:-server 127.0.0.1:1 down;}" >$list
while sleep 2; do
    now=$(look_up)
    if [ -n "$now" ] && [ "$now" != "$known" ] && echo "$now" >$list && nginx -s reload; then known=$now; fi
done &
