#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Keeps the console as large as the host's window. The PV console has no message for that, but Paravane writes the size to
# console/size in xenstore; this watches it through /dev/xen/xenbus (messages: four 32-bit words type, request, transaction,
# length, then the text; public/io/xs_wire.h).

exec 3<>/dev/xen/xenbus || exit 0
# XS_WATCH console/size with the token "s": 15 bytes. Its first event comes at once.
printf '\004\0\0\0\0\0\0\0\0\0\0\0\017\0\0\0console/size\0s\0' >&3
while :; do
  # Whatever has come, one word a line. Reading waits; nothing read means that there will be nothing any more.
  words=$(dd bs=4096 count=1 2>/dev/null <&3 | tr -c 'A-Za-z0-9/' '\n')
  [ -n "$words" ] || exit 0
  for word in $words; do
    case $word in
      # An event names the path. XS_READ: 13 bytes.
      console/size) printf '\002\0\0\0\0\0\0\0\0\0\0\0\015\0\0\0console/size\0' >&3 ;;
      [1-9]*x[1-9]*) stty -F /dev/hvc0 columns "${word%x*}" rows "${word#*x}" ;;
    esac
  done
done
