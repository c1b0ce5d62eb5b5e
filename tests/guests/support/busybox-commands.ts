// SPDX-License-Identifier: MIT
// What a Debian kernel with busybox has to get right: commands whose output is known beforehand.
import type { ScriptedCommand } from './sections.ts';

/** Facts about the machine as the kernel sees it. */
const machine: ScriptedCommand[] = [
  { name: 'uname', run: 'uname -s -m; uname -r', expect: /^Linux x86_64\n6\.\d+\.\d+-\d+(-cloud)?-amd64$/ },
  {
    name: 'cpuinfo',
    run: "grep -c ^processor /proc/cpuinfo; sed -n 's/^flags.*: //p' /proc/cpuinfo | tr ' ' '\\n' | grep -xE 'fpu|cx8|cmov|mmx|fxsr|sse|sse2|syscall|nx|lm|pni|ssse3|cx16|sse4_1|sse4_2|popcnt|hypervisor|lahf_lm|rdrand|rdseed|pse|mtrr|avx|smep' | sort | xargs",
    expect:
      '1\ncmov cx16 cx8 fpu fxsr hypervisor lahf_lm lm mmx nx pni popcnt rdrand rdseed sse sse2 sse4_1 sse4_2 ssse3 syscall',
  },
  { name: 'hypervisor type', run: 'cat /sys/hypervisor/type /sys/hypervisor/guest_type', expect: 'xen\nPV' },
  {
    name: 'hypervisor version',
    run: 'echo $(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor)',
    expect: /^4\.\d+$/,
  },
  {
    name: 'interrupts',
    run: "awk '/timer0|xenbus|hvc_console/ {print $3, $NF, ($2 > 0)}' /proc/interrupts",
    expect: /^xen-percpu timer0 1\nxen-dyn xenbus 1\nxen-dyn\S* hvc_console [01]$/,
  },
  {
    name: 'dmesg',
    run: "dmesg | grep -E 'Booting kernel on Xen|Hypervisor detected|installing Xen timer' | sed 's/^[^]]*] //'",
    expect: 'Hypervisor detected: Xen PV\nBooting kernel on Xen\ninstalling Xen timer for CPU 0',
  },
  {
    name: 'random numbers are there before the first program',
    run: "dmesg | grep -oE 'crng init done|Run /init as init process'",
    expect: 'crng init done\nRun /init as init process',
  },
  { name: 'no complaint', run: "dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|unchecked MSR'; true", expect: '' },
  { name: 'clock source', run: 'cat /sys/devices/system/clocksource/clocksource0/current_clocksource', expect: 'xen' },
  { name: 'memory', run: "awk '/MemTotal/ {print ($2 > 150000 && $2 < 262144)}' /proc/meminfo", expect: '1' },
  {
    name: 'xenstore devices',
    run: 'ls /sys/bus/xen/devices | wc -l; ls -d /sys/bus/xen-backend',
    expect: '0\n/sys/bus/xen-backend',
  },
];

/** Time. */
const time: ScriptedCommand[] = [
  {
    name: 'sleep',
    run: 'read a b < /proc/uptime; sleep 1; read c d < /proc/uptime; echo $a $c | awk \'{t = $2 - $1; print (t > 0.97 && t < 2.5) ? "ok" : t}\'',
    expect: 'ok',
  },
  {
    name: 'usleep',
    run: 'read a b < /proc/uptime; for i in 1 2 3 4 5 6 7 8 9 10; do usleep 50000; done; read c d < /proc/uptime; echo $a $c | awk \'{t = $2 - $1; print (t > 0.47 && t < 2.5) ? "ok" : t}\'',
    expect: 'ok',
  },
  {
    name: 'date',
    run: 'date -u -d @1700000000 "+%F %T %A"; date -u -d "2024-02-29 12:00" +%s',
    expect: '2023-11-14 22:13:20 Tuesday\n1709208000',
  },
  {
    name: 'date arithmetic',
    run: 'echo $(( ($(date -u -d 2025-01-01 +%s) - $(date -u -d 2024-01-01 +%s)) / 86400 ))',
    expect: '366',
  },
];

/** Digests, archives and encodings: much integer work with a known result. */
const data: ScriptedCommand[] = [
  {
    name: 'sha256sum',
    run: 'dd if=/dev/zero bs=1024 count=1000 2>/dev/null | sha256sum',
    expect: '7b331c02e313c7599d5a90212e17e6d3cb729bd2e1c9b873c302a63c95a2f9bf  -',
  },
  { name: 'sha512sum', run: 'printf abc | sha512sum | cut -c1-32', expect: 'ddaf35a193617abacc417349ae204131' },
  { name: 'md5sum', run: 'seq 1 10000 | md5sum', expect: '72d4ff27a28afbc066d5804999d5a504  -' },
  { name: 'crc32', run: 'printf 123456789 | crc32', expect: 'cbf43926' },
  {
    name: 'base64',
    run: "printf 'any carnal pleas' | base64; echo YW55IGNhcm5hbCBwbGVhcw== | base64 -d",
    expect: 'YW55IGNhcm5hbCBwbGVhcw==\nany carnal pleas',
  },
  {
    name: 'gzip',
    run: 'seq 1 20000 > /tmp/z; gzip -c /tmp/z | gunzip -c | cmp - /tmp/z && gzip -c /tmp/z | wc -c',
    expect: /^4[0-9]{4}$/,
  },
  { name: 'bzip2', run: 'seq 1 3000 | bzip2 -c | bunzip2 -c | md5sum', expect: 'ee9762749fc5338b6c9b0948d14219c7  -' },
  {
    name: 'tar',
    run: 'mkdir -p /tmp/t/a/b; seq 5 > /tmp/t/a/b/f; ln -s f /tmp/t/a/b/l; cd /tmp/t; tar czf ../t.tgz a; mkdir ../u; tar xzf ../t.tgz -C ../u; cat ../u/a/b/l | tr "\\n" " "; tar tzf ../t.tgz | wc -l',
    expect: '1 2 3 4 5 4',
  },
  {
    name: 'xxd',
    run: 'printf "\\000\\177\\200\\377Xen" | xxd',
    expect: '00000000: 007f 80ff 5865 6e                        ....Xen',
  },
  {
    name: 'od',
    run: 'printf "\\001\\002\\003\\004\\005\\006\\007\\010" | od -A d -t x2',
    expect: '0000000 0201 0403 0605 0807\n0000008',
  },
  {
    name: 'hexdump',
    run: "printf 'Paravane' | hexdump -C | head -1",
    expect: /^00000000 {2}50 61 72 61 76 61 6e 65 .*\|Paravane\|$/,
  },
];

/** Text tools. */
const text: ScriptedCommand[] = [
  {
    name: 'sort',
    run: "printf '10\\n9\\n2\\n1\\n33\\n' | sort -n | xargs; printf 'b\\na\\nb\\n' | sort -u | xargs",
    expect: '1 2 9 10 33\na b',
  },
  {
    name: 'awk floating point',
    run: 'awk \'BEGIN { x = 0; for (i = 1; i <= 1000; i++) x += 1 / (i * i); printf "%.16g %.6e %g\\n", x, -1 / 3, 1e308 * 10 }\'',
    expect: '1.643934566681561 -3.333333e-01 inf',
  },
  {
    name: 'awk text',
    run: 'printf \'a:1\\nb:2\\na:3\\n\' | awk -F: \'{s[$1] += $2} END {print s["a"], s["b"]}\'',
    expect: '4 2',
  },
  {
    name: 'sed',
    run: "printf 'one two\\n' | sed -E 's/(\\w+) (\\w+)/\\2 \\1/; y/abcdefgno/ABCDEFGNO/'",
    expect: 'twO ONE',
  },
  { name: 'grep', run: 'seq 100 | grep -cE "^[1-4]?7$"; seq 100 | grep -v 1 | head -3 | xargs', expect: '5\n2 3 4' },
  {
    name: 'cut, tr, uniq',
    run: "printf 'x,1\\ny,2\\ny,2\\n' | uniq -c | tr -s ' ' | cut -d, -f1",
    expect: ' 1 x\n 2 y',
  },
  { name: 'wc', run: 'seq 1 1000 | wc', expect: '     1000      1000      3893' },
  {
    name: 'diff',
    run: "printf 'a\\nb\\n' > /tmp/d1; printf 'a\\nc\\n' > /tmp/d2; diff /tmp/d1 /tmp/d2 | tail -2",
    expect: '-b\n+c',
  },
  {
    name: 'cmp',
    run: 'printf abc > /tmp/c1; printf abd > /tmp/c2; cmp /tmp/c1 /tmp/c2',
    expect: '/tmp/c1 /tmp/c2 differ: char 3, line 1',
    status: 1,
  },
  {
    name: 'dc',
    run: 'echo "20 k 2 v p" | dc; echo "2^100" | bc',
    expect: '1.41421356237309504880\n1267650600228229401496703205376',
  },
  { name: 'factor', run: 'factor 1234567891011', expect: '1234567891011: 3 7 13 67 107 630803' },
];

/** The shell. */
const shell: ScriptedCommand[] = [
  {
    name: 'integer arithmetic',
    run: 'echo $(( 123456789 * 987654321 % 1000000007 )) $(( -7 / 2 )) $(( -7 % 3 )) $(( 1 << 62 )) $(( 0x7fffffffffffffff + 1 ))',
    expect: '259106859 -3 -1 4611686018427387904 -9223372036854775808',
  },
  { name: 'environment', run: 'A=1 B="two words" env | grep -E "^(A|B)=" | sort', expect: 'A=1\nB=two words' },
  { name: 'here-document', run: 'x=5\ncat <<END\nvalue $x $(( x * x ))\nEND', expect: 'value 5 25' },
  {
    name: 'functions',
    run: 'f() { local n=$1; [ $n -le 1 ] && echo 1 || echo $(( n * $(f $((n - 1))) )); }; f 8',
    expect: '40320',
  },
  {
    name: 'pipeline',
    run: 'seq 1 200000 | sed s/1/x/ | tr x 1 | tail -n +100000 | head -n 2 | xargs',
    expect: '100000 100001',
  },
  { name: 'exit status', run: 'false | true; echo $?; sh -c "exit 42"', expect: '0', status: 42 },
  {
    name: 'background jobs',
    run: 'for i in 3 1 2; do (usleep ${i}00000; echo job $i) & done; wait; echo all',
    expect: 'job 1\njob 2\njob 3\nall',
  },
  { name: 'kill', run: 'sleep 100 & p=$!; kill -TERM $p; wait $p; echo $?', expect: /^(Terminated\n)?143$/ },
  {
    name: 'trap',
    run: "trap 'echo caught' USR1; kill -USR1 $(exec sh -c 'echo $PPID'); echo on",
    expect: 'caught\non',
  },
  {
    name: 'fork storm',
    run: 'i=0; while [ $i -lt 50 ]; do (echo $i > /tmp/s$i) & i=$((i + 1)); done; wait; cat /tmp/s* | sort -n | tail -1; ls /tmp/s* | wc -l',
    expect: '49\n50',
  },
  { name: 'segmentation fault', run: 'sh -c "kill -SEGV \\$\\$"; echo $?', expect: /^(Segmentation fault\n)?139$/ },
];

/** Files and the kernel's file systems. */
const files: ScriptedCommand[] = [
  {
    name: 'permissions',
    run: 'touch /tmp/p; chmod 4751 /tmp/p; ls -l /tmp/p | cut -c1-10; stat -c "%a %s %F" /tmp/p',
    expect: '-rwsr-x--x\n4751 0 regular empty file',
  },
  {
    name: 'links',
    run: 'cd /tmp; echo hi > l0; ln l0 l1; ln -s l0 l2; readlink l2; cat l2; stat -c %h l0',
    expect: 'l0\nhi\n2',
  },
  {
    name: 'mknod',
    run: 'mknod /tmp/null c 1 3 && echo x > /tmp/null && stat -c "%t %T %F" /tmp/null; mkfifo /tmp/ff; (echo through > /tmp/ff &); cat /tmp/ff',
    expect: '1 3 character special file\nthrough',
  },
  {
    name: 'find',
    run: 'mkdir -p /tmp/g/x/y; touch /tmp/g/1.c /tmp/g/x/2.c /tmp/g/x/y/3.h; find /tmp/g -name "*.c" | sort; find /tmp/g -type d | xargs -n 1 basename | sort | xargs',
    expect: '/tmp/g/1.c\n/tmp/g/x/2.c\ng x y',
  },
  {
    name: 'tmpfs',
    run: 'mkdir /tmp/m; mount -t tmpfs -o size=1m tmpfs /tmp/m; dd if=/dev/zero of=/tmp/m/f bs=1k count=2000 2>/dev/null; echo $?; stat -c %s /tmp/m/f; umount /tmp/m; ls /tmp/m | wc -l',
    expect: '1\n1048576\n0',
  },
  {
    name: 'large file',
    run: 'dd if=/dev/zero of=/tmp/big bs=1M count=24 2>/dev/null; md5sum < /tmp/big; rm /tmp/big',
    expect: '77377273b0a4b61febdbf7bbf52b9db9  -',
  },
  {
    name: 'random',
    run: "dd if=/dev/urandom bs=1k count=64 2>/dev/null | gzip -c | wc -c | awk '{print ($1 > 65000)}'",
    expect: '1',
  },
  {
    name: 'cpio',
    run: 'cd /tmp; mkdir -p cp/s; echo deep > cp/s/f; find cp | cpio -o -H newc 2>/dev/null > a.cpio; rm -r cp; cpio -i < a.cpio 2>/dev/null; cat cp/s/f',
    expect: 'deep',
  },
  {
    name: 'loopback network',
    run: 'ifconfig lo 127.0.0.1 up; ping -c 2 -i 0.2 127.0.0.1 | grep -o "0% packet loss"; (echo over tcp | nc -l -p 7 > /tmp/nc & echo $! > /tmp/pid); usleep 300000; echo hello | nc -w 2 127.0.0.1 7; for i in 1 2 3 4 5 6 7 8 9 10; do [ -s /tmp/nc ] && break; usleep 200000; done; cat /tmp/nc',
    expect: '0% packet loss\nover tcp\nhello',
  },
];

/** All of them: more than thirty, run in one boot. */
export const busyboxCommands: readonly ScriptedCommand[] = [...machine, ...time, ...data, ...text, ...shell, ...files];
