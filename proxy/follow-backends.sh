#!/bin/sh
# Keep nginx's list of backends up to date while containers come and go (--scale, restarts). nginx itself resolves the
# names of an upstream only once, at its start. (Its parameter `resolve` needs nginx 1.27.3, and local mode must run on
# 1.22.) If no backend is found, the last list stays. nginx also starts without a backend, and then answers 503.
set -eu
list=/run/backends.conf
look_up() { getent ahostsv4 "${BACKEND_ADDRESS%:*}" | sed "s/ .*/:${BACKEND_ADDRESS##*:};/; s/^/server /" | sort -u; }

known=$(look_up)
echo "${known:-server 127.0.0.1:1 down;}" >$list
while sleep 2; do
    now=$(look_up)
    if [ -n "$now" ] && [ "$now" != "$known" ] && echo "$now" >$list && nginx -s reload; then known=$now; fi
done &
