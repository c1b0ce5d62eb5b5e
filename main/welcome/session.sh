#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The session of the welcome guest on its console: /script or a shell, then the end of the machine.

exec </dev/console >/dev/console 2>&1
cd /root || exit 1

# Terminal size, given by the host as paravane.size=COLUMNSxROWS.
size=$(sed -n 's/.*paravane\.size=\([0-9]*x[0-9]*\).*/\1/p' /proc/cmdline)
[ -n "$size" ] && stty columns "${size%x*}" rows "${size#*x}" 2>/dev/null

script=$(sed -n 's/.*paravane\.script=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -z "$script" ] && [ -f /script ] && script=/script
if [ -n "$script" ]; then
  sh "$script"
  echo "paravane: script ended with status $?"
else
  # Later sizes come by way of xenstore. Not with "&", see /init.
  start-stop-daemon -S -b -n follow-size -a /sbin/follow-size
  cat /etc/motd
  # cttyhack opens the real console as controlling terminal, without which Ctrl-C and job control do not work.
  setsid cttyhack sh
  echo 'The shell has ended: powering off.'
fi
exec /bin/busybox poweroff -f
