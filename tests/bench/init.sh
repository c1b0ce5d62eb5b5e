#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The bench guest's first process: announces user space, runs the plan's workloads in order, powers off.
echo "BENCH userspace"
/bin/busybox sleep 0.3
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
# Kernel messages would break the markers' lines.
/bin/busybox dmesg -n 1
while read -r name amount; do
    /bin/work "$name" "$amount" /bin/busybox </dev/null || echo "BENCH failed $name"
done </plan
echo "BENCH done"
/bin/busybox poweroff -f
