// SPDX-License-Identifier: MIT
// Strings, branches, the stack, and what user mode may not do (SDM vol. 2).

import { parseForms } from './form.ts';
import type { Form } from './form.ts';

/** String instructions; the generator adds REP prefixes. */
export const STRINGS: Form[] = parseForms(
  'string',
  `
movs | A4 | | b | si di rep
movs | A5 | | wdq | si di rep
cmps | A6 | | b | si di repcc
cmps | A7 | | wdq | si di repcc
stos | AA | | b | di rep
stos | AB | | wdq | di rep
lods | AC | | b | si rep axdx
lods | AD | | wdq | si rep axdx
scas | AE | | b | di repcc
scas | AF | | wdq | di repcc
`,
);

/** Jumps, calls, returns, loops; targets lie forward. */
export const BRANCHES: Form[] = parseForms(
  'branch',
  `
jo | 70 rel8
jno | 71 rel8
jb | 72 rel8
jae | 73 rel8
je | 74 rel8
jne | 75 rel8
jbe | 76 rel8
ja | 77 rel8
js | 78 rel8
jns | 79 rel8
jp | 7A rel8
jnp | 7B rel8
jl | 7C rel8
jge | 7D rel8
jle | 7E rel8
jg | 7F rel8
jo | 0F 80 relz
jno | 0F 81 relz
jb | 0F 82 relz
jae | 0F 83 relz
je | 0F 84 relz
jne | 0F 85 relz
jbe | 0F 86 relz
ja | 0F 87 relz
js | 0F 88 relz
jns | 0F 89 relz
jp | 0F 8A relz
jnp | 0F 8B relz
jl | 0F 8C relz
jge | 0F 8D relz
jle | 0F 8E relz
jg | 0F 8F relz
jmp | EB rel8
jmp | E9 relz
call | E8 relz | | | stack
loopne | E0 rel8 | | | counter
loope | E1 rel8 | | | counter
loop | E2 rel8 | | | counter
jcxz | E3 rel8 | | | counter
jmp | FF /4 | Ev | n | target
call | FF /2 | Ev | n | target stack
ret | C3 | | | stack target
ret | C2 iw | | | stack target
int3 | CC
into | CE | | | only32
`,
);

/** Stack instructions. Size n is the mode's own: 64 bits in 64-bit mode, 32 in 32-bit mode. */
export const STACK: Form[] = parseForms(
  'stack',
  `
push | 50+r | Zv | wn | stack
push | 68 iz | | wn | stack
push | 6A ib | | wn | stack
push | FF /6 | Ev | wn | stack
push | 06 | | wn | stack sreg only32
push | 0E | | wn | stack sreg only32
push | 16 | | wn | stack sreg only32
push | 1E | | wn | stack sreg only32
push | 0F A0 | | wn | stack sreg
push | 0F A8 | | wn | stack sreg
pop | 58+r | Zv | wn | stack
pop | 8F /0 | Ev | wn | stack
pushf | 9C | | wn | stack pushf
popf | 9D | | wn | stack popf
pusha | 60 | | wd | stack only32
popa | 61 | | wd | stack only32
enter | C8 iw ib | | wn | stack enter
leave | C9 | | wn | stack leave
`,
);

/** Privileged and undefined encodings: each faults in user mode. */
export const FAULTING: Form[] = parseForms(
  'privileged',
  `
hlt | F4
cli | FA
sti | FB
in | E4 ib | | b
in | E5 ib | | wd
out | E6 ib | | b
out | E7 ib | | wd
in | EC | | b
in | ED | | wd
out | EE | | b
out | EF | | wd
ins | 6C | | b
ins | 6D | | wd
outs | 6E | | b
outs | 6F | | wd
ins | F3 6C | | b
ins | F3 6D | | wd
ins | F2 6C | | b
ins | F2 6D | | wd
outs | F3 6E | | b
outs | F3 6F | | wd
outs | F2 6E | | b
outs | F2 6F | | wd
mov | 0F 20 C0
mov | 0F 22 C0
mov | 0F 21 C0
mov | 0F 23 C0
clts | 0F 06
invd | 0F 08
wbinvd | 0F 09
rdmsr | 0F 32
wrmsr | 0F 30
lgdt | 0F 01 /2 | Me
lidt | 0F 01 /3 | Me
lmsw | 0F 01 /6 | Ew
invlpg | 0F 01 /7 | Mb
lldt | 0F 00 /2 | Ew
ltr | 0F 00 /3 | Ew
swapgs | 0F 01 F8 | | | only64
ud2 | 0F 0B
ud1 | 0F B9 /r | Gv Ev | d
daa | 27 | | | only64
das | 2F | | | only64
aaa | 37 | | | only64
aas | 3F | | | only64
aam | D4 ib | | | only64
aad | D5 ib | | | only64
salc | D6 | | | only64
into | CE | | | only64
push | 06 | | | only64
pop | 07 | | | only64
push | 0E | | | only64
push | 16 | | | only64
pop | 17 | | | only64
push | 1E | | | only64
pop | 1F | | | only64
pusha | 60 | | | only64
popa | 61 | | | only64
alias | 82 /0 ib | Eb | | only64
mov | C6 /1 ib | Eb
mov | C7 /3 id | Ed
undefined | FE /5 | Eb
undefined | FF /7 | Ed
undefined | 8F /2 | Rd
undefined | 0F C7 /0 | Mq
undefined | 0F BA /2 ib | Ed
undefined | 0F 04
undefined | 0F 0A
undefined | 0F 0C
undefined | 0F 24
undefined | 0F 36
undefined | 0F 39
undefined | 0F 3B
undefined | 0F FF /r | Gv Ev | d
`,
);
