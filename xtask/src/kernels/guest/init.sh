#!/bin/busybox sh
# The first process of a guest: sets up what tests need, runs them, brings the results out.
# Lines that begin with "@@ " are for xtask, which reads the console.
/bin/busybox --install /bin
export PATH=/bin HOME=/root TMPDIR=/tmp LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /root /out
chmod 1777 /tmp /var/tmp
mount -t tmpfs -o size=50% shm /dev/shm
mount -t tmpfs out /out
mkdir /out/kept
ip link set lo up
echo 1 >/proc/sys/vm/overcommit_memory
ulimit -c unlimited

for module in /modules/*.ko; do
    [ -e "$module" ] && insmod "$module"
done
. /settings
echo "$HUGE_PAGES" >/proc/sys/vm/nr_hugepages
if [ -e /sys/block/zram0 ]; then
    echo 256M >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0
fi

dmesg -c >/dev/null
# suite NAME LIMIT COMMAND...: runs a test program, and tells how it ended and what it skipped.
suite() {
    name=$1 limit=$2
    shift 2
    echo "@@ suite $name"
    rm -f "$ONIONSKIN_SKIPS"
    timeout -s KILL "$limit" "$@" 2>&1
    status=$?
    [ -e "$ONIONSKIN_SKIPS" ] && sed 's/^/@@ skip /' "$ONIONSKIN_SKIPS"
    dmesg -c >/tmp/kernel-log
    if grep -E "$COMPLAINTS" /tmp/kernel-log >/dev/null; then
        echo "@@ complaint"
        cat /tmp/kernel-log
    fi
    echo "@@ status $status $(cut -d' ' -f1 /proc/uptime)"
}
# What the firmware left on the line is no part of what follows.
echo
. /suites

[ -e /dev/vda ] && tar -C /out -cf /dev/vda .
sync
echo "@@ end"
poweroff -f
