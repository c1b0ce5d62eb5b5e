// SPDX-License-Identifier: MIT
// General-purpose instructions: arithmetic, shifts, bits, moves, conditions (SDM vol. 2; x86-64-v2).

import { parseForms } from './form.ts';
import type { Form } from './form.ts';

/** The eight two-operand operations in their ten encodings. */
export const ARITHMETIC: Form[] = parseForms(
  'integer',
  `
add | 00 /r | Eb Gb | b | lock
add | 01 /r | Ev Gv | wdq | lock
add | 02 /r | Gb Eb | b
add | 03 /r | Gv Ev | wdq
add | 04 ib | | b
add | 05 iz | | wdq
add | 80 /0 ib | Eb | b | lock
add | 81 /0 iz | Ev | wdq | lock
add | 82 /0 ib | Eb | b | only32
add | 83 /0 ib | Ev | wdq | lock
or | 08 /r | Eb Gb | b | lock
or | 09 /r | Ev Gv | wdq | lock
or | 0A /r | Gb Eb | b
or | 0B /r | Gv Ev | wdq
or | 0C ib | | b
or | 0D iz | | wdq
or | 80 /1 ib | Eb | b | lock
or | 81 /1 iz | Ev | wdq | lock
or | 82 /1 ib | Eb | b | only32
or | 83 /1 ib | Ev | wdq | lock
adc | 10 /r | Eb Gb | b | lock
adc | 11 /r | Ev Gv | wdq | lock
adc | 12 /r | Gb Eb | b
adc | 13 /r | Gv Ev | wdq
adc | 14 ib | | b
adc | 15 iz | | wdq
adc | 80 /2 ib | Eb | b | lock
adc | 81 /2 iz | Ev | wdq | lock
adc | 82 /2 ib | Eb | b | only32
adc | 83 /2 ib | Ev | wdq | lock
sbb | 18 /r | Eb Gb | b | lock
sbb | 19 /r | Ev Gv | wdq | lock
sbb | 1A /r | Gb Eb | b
sbb | 1B /r | Gv Ev | wdq
sbb | 1C ib | | b
sbb | 1D iz | | wdq
sbb | 80 /3 ib | Eb | b | lock
sbb | 81 /3 iz | Ev | wdq | lock
sbb | 82 /3 ib | Eb | b | only32
sbb | 83 /3 ib | Ev | wdq | lock
and | 20 /r | Eb Gb | b | lock
and | 21 /r | Ev Gv | wdq | lock
and | 22 /r | Gb Eb | b
and | 23 /r | Gv Ev | wdq
and | 24 ib | | b
and | 25 iz | | wdq
and | 80 /4 ib | Eb | b | lock
and | 81 /4 iz | Ev | wdq | lock
and | 82 /4 ib | Eb | b | only32
and | 83 /4 ib | Ev | wdq | lock
sub | 28 /r | Eb Gb | b | lock
sub | 29 /r | Ev Gv | wdq | lock
sub | 2A /r | Gb Eb | b
sub | 2B /r | Gv Ev | wdq
sub | 2C ib | | b
sub | 2D iz | | wdq
sub | 80 /5 ib | Eb | b | lock
sub | 81 /5 iz | Ev | wdq | lock
sub | 82 /5 ib | Eb | b | only32
sub | 83 /5 ib | Ev | wdq | lock
xor | 30 /r | Eb Gb | b | lock
xor | 31 /r | Ev Gv | wdq | lock
xor | 32 /r | Gb Eb | b
xor | 33 /r | Gv Ev | wdq
xor | 34 ib | | b
xor | 35 iz | | wdq
xor | 80 /6 ib | Eb | b | lock
xor | 81 /6 iz | Ev | wdq | lock
xor | 82 /6 ib | Eb | b | only32
xor | 83 /6 ib | Ev | wdq | lock
cmp | 38 /r | Eb Gb | b
cmp | 39 /r | Ev Gv | wdq
cmp | 3A /r | Gb Eb | b
cmp | 3B /r | Gv Ev | wdq
cmp | 3C ib | | b
cmp | 3D iz | | wdq
cmp | 80 /7 ib | Eb | b
cmp | 81 /7 iz | Ev | wdq
cmp | 82 /7 ib | Eb | b | only32
cmp | 83 /7 ib | Ev | wdq
`,
);

/** Shifts and rotates by one, by an immediate and by CL; double shifts. */
export const SHIFTS: Form[] = parseForms(
  'integer',
  `
rol | C0 /0 ib | Eb | b
rol | C1 /0 ib | Ev | wdq
rol | D0 /0 | Eb | b
rol | D1 /0 | Ev | wdq
rol | D2 /0 | Eb | b | countcl
rol | D3 /0 | Ev | wdq | countcl
ror | C0 /1 ib | Eb | b
ror | C1 /1 ib | Ev | wdq
ror | D0 /1 | Eb | b
ror | D1 /1 | Ev | wdq
ror | D2 /1 | Eb | b | countcl
ror | D3 /1 | Ev | wdq | countcl
rcl | C0 /2 ib | Eb | b
rcl | C1 /2 ib | Ev | wdq
rcl | D0 /2 | Eb | b
rcl | D1 /2 | Ev | wdq
rcl | D2 /2 | Eb | b | countcl
rcl | D3 /2 | Ev | wdq | countcl
rcr | C0 /3 ib | Eb | b
rcr | C1 /3 ib | Ev | wdq
rcr | D0 /3 | Eb | b
rcr | D1 /3 | Ev | wdq
rcr | D2 /3 | Eb | b | countcl
rcr | D3 /3 | Ev | wdq | countcl
shl | C0 /4 ib | Eb | b
shl | C1 /4 ib | Ev | wdq
shl | D0 /4 | Eb | b
shl | D1 /4 | Ev | wdq
shl | D2 /4 | Eb | b | countcl
shl | D3 /4 | Ev | wdq | countcl
shr | C0 /5 ib | Eb | b
shr | C1 /5 ib | Ev | wdq
shr | D0 /5 | Eb | b
shr | D1 /5 | Ev | wdq
shr | D2 /5 | Eb | b | countcl
shr | D3 /5 | Ev | wdq | countcl
sal | C0 /6 ib | Eb | b
sal | C1 /6 ib | Ev | wdq
sal | D0 /6 | Eb | b
sal | D1 /6 | Ev | wdq
sal | D2 /6 | Eb | b | countcl
sal | D3 /6 | Ev | wdq | countcl
sar | C0 /7 ib | Eb | b
sar | C1 /7 ib | Ev | wdq
sar | D0 /7 | Eb | b
sar | D1 /7 | Ev | wdq
sar | D2 /7 | Eb | b | countcl
sar | D3 /7 | Ev | wdq | countcl
shld | 0F A4 /r ib | Ev Gv | wdq
shld | 0F A5 /r | Ev Gv | wdq | countcl
shrd | 0F AC /r ib | Ev Gv | wdq
shrd | 0F AD /r | Ev Gv | wdq | countcl
`,
);

/** Test, unary group, multiply and divide, decimal adjustment, flags, hints. */
export const UNARY: Form[] = parseForms(
  'integer',
  `
test | 84 /r | Eb Gb | b
test | 85 /r | Ev Gv | wdq
test | A8 ib | | b
test | A9 iz | | wdq
test | F6 /0 ib | Eb | b
test | F7 /0 iz | Ev | wdq
test | F6 /1 ib | Eb | b
test | F7 /1 iz | Ev | wdq
not | F6 /2 | Eb | b | lock
not | F7 /2 | Ev | wdq | lock
neg | F6 /3 | Eb | b | lock
neg | F7 /3 | Ev | wdq | lock
mul | F6 /4 | Eb | b | axdx
mul | F7 /4 | Ev | wdq | axdx
imul | F6 /5 | Eb | b | axdx
imul | F7 /5 | Ev | wdq | axdx
div | F6 /6 | Eb | b | axdx divide
div | F7 /6 | Ev | wdq | axdx divide
idiv | F6 /7 | Eb | b | axdx divide
idiv | F7 /7 | Ev | wdq | axdx divide
imul | 0F AF /r | Gv Ev | wdq
imul | 69 /r iz | Gv Ev | wdq
imul | 6B /r ib | Gv Ev | wdq
inc | FE /0 | Eb | b | lock
inc | FF /0 | Ev | wdq | lock
dec | FE /1 | Eb | b | lock
dec | FF /1 | Ev | wdq | lock
inc | 40+r | Zv | wd | only32
dec | 48+r | Zv | wd | only32
daa | 27 | | | only32
das | 2F | | | only32
aaa | 37 | | | only32
aas | 3F | | | only32
aam | D4 ib | | | only32
aad | D5 ib | | | only32
salc | D6 | | | only32
cbw | 98 | | wdq | axdx
cwd | 99 | | wdq | axdx
clc | F8
stc | F9
cmc | F5
cld | FC
std | FD
lahf | 9F | | | axdx
sahf | 9E
nop | 90
pause | F3 90
nop | 0F 1F /0 | Ev | wdq | nofetch
nop | 0F 19 /0 | Ev | wd | nofetch
nop | 0F 1A /0 | Ed | d | nofetch
nop | 0F 1B /0 | Rd | d
nop | 0F 1C /1 | Ev | wd | nofetch
nop | 0F 1D /2 | Ev | wd | nofetch
nop | 0F 1E /0 | Ev | wdq | nofetch
prefetch | 0F 0D /0 | Mb | | nofetch
prefetcht1 | 0F 18 /2 | Mb | | nofetch
prefetcht2 | 0F 18 /3 | Mb | | nofetch
prefetchw | 0F 0D /1 | Mb | | nofetch
prefetchnta | 0F 18 /0 | Mb | | nofetch
prefetcht0 | 0F 18 /1 | Mb | | nofetch
lfence | 0F AE E8
mfence | 0F AE F0
sfence | 0F AE F8
`,
);

/** Bit tests, scans and counts. */
export const BITS: Form[] = parseForms(
  'integer',
  `
bt | 0F A3 /r | Ev Gv | wdq | bitoffset
bts | 0F AB /r | Ev Gv | wdq | bitoffset lock
btr | 0F B3 /r | Ev Gv | wdq | bitoffset lock
btc | 0F BB /r | Ev Gv | wdq | bitoffset lock
bt | 0F BA /4 ib | Ev | wdq
bts | 0F BA /5 ib | Ev | wdq | lock
btr | 0F BA /6 ib | Ev | wdq | lock
btc | 0F BA /7 ib | Ev | wdq | lock
bsf | 0F BC /r | Gv Ev | wdq
bsr | 0F BD /r | Gv Ev | wdq
popcnt | F3 0F B8 /r | Gv Ev | wdq
bswap | 0F C8+r | Zv | dq
crc32 | F2 0F 38 F0 /r | Gd Eb | dq | srcbyte
crc32 | F2 0F 38 F1 /r | Gd Ev | wdq
`,
);

/** Moves, extensions, exchanges. */
export const MOVES: Form[] = parseForms(
  'integer',
  `
mov | 88 /r | Eb Gb | b
mov | 89 /r | Ev Gv | wdq
mov | 8A /r | Gb Eb | b
mov | 8B /r | Gv Ev | wdq
mov | B0+r ib | Zb | b
mov | B8+r iv | Zv | wdq
mov | C6 /0 ib | Eb | b
mov | C7 /0 iz | Ev | wdq
mov | A0 moffs | | b | axdx
mov | A1 moffs | | wdq | axdx
mov | A2 moffs | | b
mov | A3 moffs | | wdq
mov | 8C /0 | Ew | wdq | sreg
mov | 8C /1 | Ew | wdq | sreg
mov | 8C /2 | Ew | wdq | sreg
mov | 8C /3 | Ew | wdq | sreg
movzx | 0F B6 /r | Gv Eb | wdq | srcbyte
movzx | 0F B7 /r | Gv Ew | wdq
movsx | 0F BE /r | Gv Eb | wdq | srcbyte
movsx | 0F BF /r | Gv Ew | wdq
movsxd | 63 /r | Gv Ed | wdq | only64
arpl | 63 /r | Ew Gw | | only32
lea | 8D /r | Gv Mv | wdq | nofetch
xchg | 86 /r | Eb Gb | b | lock
xchg | 87 /r | Ev Gv | wdq | lock
xchg | 90+r | Zv | wdq | axdx notnop
cmpxchg | 0F B0 /r | Eb Gb | b | lock axdx compare
cmpxchg | 0F B1 /r | Ev Gv | wdq | lock axdx compare
xadd | 0F C0 /r | Eb Gb | b | lock
xadd | 0F C1 /r | Ev Gv | wdq | lock
cmpxchg8b | 0F C7 /1 | Mq | d | lock axdx compare
cmpxchg16b | 0F C7 /1 | Mo | q | lock axdx compare only64 aligned
xlat | D7 | | | axdx xlat
movnti | 0F C3 /r | Mv Gv | dq
bound | 62 /r | Gv Mq | wd | only32
`,
);

/** Conditional moves and sets. */
export const CONDITIONALS: Form[] = parseForms(
  'integer',
  `
cmovo | 0F 40 /r | Gv Ev | wdq
cmovno | 0F 41 /r | Gv Ev | wdq
cmovb | 0F 42 /r | Gv Ev | wdq
cmovae | 0F 43 /r | Gv Ev | wdq
cmove | 0F 44 /r | Gv Ev | wdq
cmovne | 0F 45 /r | Gv Ev | wdq
cmovbe | 0F 46 /r | Gv Ev | wdq
cmova | 0F 47 /r | Gv Ev | wdq
cmovs | 0F 48 /r | Gv Ev | wdq
cmovns | 0F 49 /r | Gv Ev | wdq
cmovp | 0F 4A /r | Gv Ev | wdq
cmovnp | 0F 4B /r | Gv Ev | wdq
cmovl | 0F 4C /r | Gv Ev | wdq
cmovge | 0F 4D /r | Gv Ev | wdq
cmovle | 0F 4E /r | Gv Ev | wdq
cmovg | 0F 4F /r | Gv Ev | wdq
seto | 0F 90 /0 | Eb | b
setno | 0F 91 /0 | Eb | b
setb | 0F 92 /0 | Eb | b
setae | 0F 93 /0 | Eb | b
sete | 0F 94 /0 | Eb | b
setne | 0F 95 /0 | Eb | b
setbe | 0F 96 /0 | Eb | b
seta | 0F 97 /0 | Eb | b
sets | 0F 98 /0 | Eb | b
setns | 0F 99 /0 | Eb | b
setp | 0F 9A /0 | Eb | b
setnp | 0F 9B /0 | Eb | b
setl | 0F 9C /0 | Eb | b
setge | 0F 9D /0 | Eb | b
setle | 0F 9E /0 | Eb | b
setg | 0F 9F /0 | Eb | b
`,
);
