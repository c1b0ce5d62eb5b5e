#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# First program of the welcome guest: prepares the system, then runs /script or a shell, then powers off.

bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /root /sbin /usr/bin /usr/sbin
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev 2>/dev/null
$bb mkdir -p /dev/pts
$bb mount -t devpts devpts /dev/pts 2>/dev/null
$bb --install -s

# The signals by which poweroff, reboot and halt speak to the first program. The kernel runs /sbin/poweroff or
# /sbin/reboot itself when the host asks for a shutdown. `wait` below is there because it lets traps run at once.
trap '$bb poweroff -f' USR2
trap '$bb reboot -f' TERM
trap '$bb halt -f' USR1

export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=linux ENV=/etc/profile
hostname welcome
cd /root || exit 1

# Terminal size, given by the host as paravane.size=COLUMNSxROWS.
size=$(sed -n 's/.*paravane\.size=\([0-9]*x[0-9]*\).*/\1/p' /proc/cmdline)
[ -n "$size" ] && stty columns "${size%x*}" rows "${size#*x}" 2>/dev/null

script=$(sed -n 's/.*paravane\.script=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -z "$script" ] && [ -f /script ] && script=/script
if [ -n "$script" ]; then
  sh "$script" <&0 &
  wait $!
  echo "paravane: script ended with status $?"
else
  cat /etc/motd
  # cttyhack opens the real console as controlling terminal, without which Ctrl-C and job control do not work.
  setsid cttyhack sh <&0 &
  wait $!
  echo 'The shell has ended: powering off.'
fi
$bb poweroff -f
