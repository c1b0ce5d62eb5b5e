#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# First program of the welcome guest: prepares the system, starts the session, and ends the machine when asked to.

bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /root /sbin /usr/bin /usr/sbin
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev 2>/dev/null
$bb mkdir -p /dev/pts
$bb mount -t devpts devpts /dev/pts 2>/dev/null
$bb --install -s

# The signals by which poweroff, reboot and halt speak to the first program. The kernel runs /sbin/poweroff or
# /sbin/reboot itself when the host asks for a shutdown.
trap '$bb poweroff -f' USR2
trap '$bb reboot -f' TERM
trap '$bb halt -f' USR1

export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=linux ENV=/etc/profile
hostname welcome

# As a daemon and not with "&": what a shell starts in the background ignores Ctrl-C, and so does everything started by it.
start-stop-daemon -S -b -n session -a /bin/sh -- /etc/session

# `wait` lets the traps above run at once; it also buries orphans.
while :; do
  sleep 86400 &
  wait
done
