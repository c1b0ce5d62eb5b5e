// SPDX-License-Identifier: MIT
// SSE to SSE4.2 (SDM vol. 2). Trait aligned: a memory operand must be aligned to 16 bytes.

import { parseForms } from './form.ts';
import type { Form } from './form.ts';

/** Floating-point arithmetic, comparisons, conversions and moves. */
export const SSE_FLOAT: Form[] = parseForms(
  'sse',
  `
sqrtps | 0F 51 /r | Vo Wo | | aligned
sqrtpd | 66 0F 51 /r | Vo Wo | | aligned
sqrtss | F3 0F 51 /r | Vo Wd
sqrtsd | F2 0F 51 /r | Vo Wq
addps | 0F 58 /r | Vo Wo | | aligned
addpd | 66 0F 58 /r | Vo Wo | | aligned
addss | F3 0F 58 /r | Vo Wd
addsd | F2 0F 58 /r | Vo Wq
mulps | 0F 59 /r | Vo Wo | | aligned
mulpd | 66 0F 59 /r | Vo Wo | | aligned
mulss | F3 0F 59 /r | Vo Wd
mulsd | F2 0F 59 /r | Vo Wq
subps | 0F 5C /r | Vo Wo | | aligned
subpd | 66 0F 5C /r | Vo Wo | | aligned
subss | F3 0F 5C /r | Vo Wd
subsd | F2 0F 5C /r | Vo Wq
minps | 0F 5D /r | Vo Wo | | aligned
minpd | 66 0F 5D /r | Vo Wo | | aligned
minss | F3 0F 5D /r | Vo Wd
minsd | F2 0F 5D /r | Vo Wq
divps | 0F 5E /r | Vo Wo | | aligned
divpd | 66 0F 5E /r | Vo Wo | | aligned
divss | F3 0F 5E /r | Vo Wd
divsd | F2 0F 5E /r | Vo Wq
maxps | 0F 5F /r | Vo Wo | | aligned
maxpd | 66 0F 5F /r | Vo Wo | | aligned
maxss | F3 0F 5F /r | Vo Wd
maxsd | F2 0F 5F /r | Vo Wq
cmpps | 0F C2 /r ib | Vo Wo | | aligned cmpimm
cmppd | 66 0F C2 /r ib | Vo Wo | | aligned cmpimm
cmpss | F3 0F C2 /r ib | Vo Wd | | cmpimm
cmpsd | F2 0F C2 /r ib | Vo Wq | | cmpimm
andps | 0F 54 /r | Vo Wo | | aligned
andpd | 66 0F 54 /r | Vo Wo | | aligned
andnps | 0F 55 /r | Vo Wo | | aligned
andnpd | 66 0F 55 /r | Vo Wo | | aligned
orps | 0F 56 /r | Vo Wo | | aligned
orpd | 66 0F 56 /r | Vo Wo | | aligned
xorps | 0F 57 /r | Vo Wo | | aligned
xorpd | 66 0F 57 /r | Vo Wo | | aligned
unpcklps | 0F 14 /r | Vo Wo | | aligned
unpcklpd | 66 0F 14 /r | Vo Wo | | aligned
unpckhps | 0F 15 /r | Vo Wo | | aligned
unpckhpd | 66 0F 15 /r | Vo Wo | | aligned
shufps | 0F C6 /r ib | Vo Wo | | aligned
shufpd | 66 0F C6 /r ib | Vo Wo | | aligned
rsqrtps | 0F 52 /r | Vo Wo | | aligned reciprocal
rsqrtss | F3 0F 52 /r | Vo Wd | | reciprocal
rcpps | 0F 53 /r | Vo Wo | | aligned reciprocal
rcpss | F3 0F 53 /r | Vo Wd | | reciprocal
haddpd | 66 0F 7C /r | Vo Wo | | aligned
haddps | F2 0F 7C /r | Vo Wo | | aligned
hsubpd | 66 0F 7D /r | Vo Wo | | aligned
hsubps | F2 0F 7D /r | Vo Wo | | aligned
addsubpd | 66 0F D0 /r | Vo Wo | | aligned
addsubps | F2 0F D0 /r | Vo Wo | | aligned
ucomiss | 0F 2E /r | Vo Wd
ucomisd | 66 0F 2E /r | Vo Wq
comiss | 0F 2F /r | Vo Wd
comisd | 66 0F 2F /r | Vo Wq
cvtsi2ss | F3 0F 2A /r | Vo Ey | dq
cvtsi2sd | F2 0F 2A /r | Vo Ey | dq
cvttss2si | F3 0F 2C /r | Gy Wd | dq
cvttsd2si | F2 0F 2C /r | Gy Wq | dq
cvtss2si | F3 0F 2D /r | Gy Wd | dq
cvtsd2si | F2 0F 2D /r | Gy Wq | dq
cvtps2pd | 0F 5A /r | Vo Wq
cvtpd2ps | 66 0F 5A /r | Vo Wo | | aligned
cvtss2sd | F3 0F 5A /r | Vo Wd
cvtsd2ss | F2 0F 5A /r | Vo Wq
cvtdq2ps | 0F 5B /r | Vo Wo | | aligned
cvtps2dq | 66 0F 5B /r | Vo Wo | | aligned
cvttps2dq | F3 0F 5B /r | Vo Wo | | aligned
cvttpd2dq | 66 0F E6 /r | Vo Wo | | aligned
cvtdq2pd | F3 0F E6 /r | Vo Wq
cvtpd2dq | F2 0F E6 /r | Vo Wo | | aligned
movups | 0F 10 /r | Vo Wo
movups | 0F 11 /r | Wo Vo
movupd | 66 0F 10 /r | Vo Wo
movupd | 66 0F 11 /r | Wo Vo
movss | F3 0F 10 /r | Vo Wd
movss | F3 0F 11 /r | Wd Vo
movsd | F2 0F 10 /r | Vo Wq
movsd | F2 0F 11 /r | Wq Vo
movlps | 0F 12 /r | Vo Mq
movhlps | 0F 12 /r | Vo Uo
movlps | 0F 13 /r | Mq Vo
movlpd | 66 0F 12 /r | Vo Mq
movlpd | 66 0F 13 /r | Mq Vo
movhps | 0F 16 /r | Vo Mq
movlhps | 0F 16 /r | Vo Uo
movhps | 0F 17 /r | Mq Vo
movhpd | 66 0F 16 /r | Vo Mq
movhpd | 66 0F 17 /r | Mq Vo
movsldup | F3 0F 12 /r | Vo Wo | | aligned
movddup | F2 0F 12 /r | Vo Wq
movshdup | F3 0F 16 /r | Vo Wo | | aligned
movaps | 0F 28 /r | Vo Wo | | aligned
movaps | 0F 29 /r | Wo Vo | | aligned
movapd | 66 0F 28 /r | Vo Wo | | aligned
movapd | 66 0F 29 /r | Wo Vo | | aligned
movntps | 0F 2B /r | Mo Vo | | aligned
movntpd | 66 0F 2B /r | Mo Vo | | aligned
movmskps | 0F 50 /r | Gd Uo
movmskpd | 66 0F 50 /r | Gd Uo
`,
);

/** Integer SIMD up to SSSE3. */
export const SSE_INTEGER: Form[] = parseForms(
  'sse',
  `
punpcklbw | 66 0F 60 /r | Vo Wo | | aligned
punpcklwd | 66 0F 61 /r | Vo Wo | | aligned
punpckldq | 66 0F 62 /r | Vo Wo | | aligned
packsswb | 66 0F 63 /r | Vo Wo | | aligned
pcmpgtb | 66 0F 64 /r | Vo Wo | | aligned
pcmpgtw | 66 0F 65 /r | Vo Wo | | aligned
pcmpgtd | 66 0F 66 /r | Vo Wo | | aligned
packuswb | 66 0F 67 /r | Vo Wo | | aligned
punpckhbw | 66 0F 68 /r | Vo Wo | | aligned
punpckhwd | 66 0F 69 /r | Vo Wo | | aligned
punpckhdq | 66 0F 6A /r | Vo Wo | | aligned
packssdw | 66 0F 6B /r | Vo Wo | | aligned
pcmpeqb | 66 0F 74 /r | Vo Wo | | aligned
pcmpeqw | 66 0F 75 /r | Vo Wo | | aligned
pcmpeqd | 66 0F 76 /r | Vo Wo | | aligned
psrlw | 66 0F D1 /r | Vo Wo | | shift aligned
psrld | 66 0F D2 /r | Vo Wo | | shift aligned
psrlq | 66 0F D3 /r | Vo Wo | | shift aligned
paddq | 66 0F D4 /r | Vo Wo | | aligned
pmullw | 66 0F D5 /r | Vo Wo | | aligned
psubusb | 66 0F D8 /r | Vo Wo | | aligned
psubusw | 66 0F D9 /r | Vo Wo | | aligned
pminub | 66 0F DA /r | Vo Wo | | aligned
pand | 66 0F DB /r | Vo Wo | | aligned
paddusb | 66 0F DC /r | Vo Wo | | aligned
paddusw | 66 0F DD /r | Vo Wo | | aligned
pmaxub | 66 0F DE /r | Vo Wo | | aligned
pandn | 66 0F DF /r | Vo Wo | | aligned
pavgb | 66 0F E0 /r | Vo Wo | | aligned
psraw | 66 0F E1 /r | Vo Wo | | shift aligned
psrad | 66 0F E2 /r | Vo Wo | | shift aligned
pavgw | 66 0F E3 /r | Vo Wo | | aligned
pmulhuw | 66 0F E4 /r | Vo Wo | | aligned
pmulhw | 66 0F E5 /r | Vo Wo | | aligned
psubsb | 66 0F E8 /r | Vo Wo | | aligned
psubsw | 66 0F E9 /r | Vo Wo | | aligned
pminsw | 66 0F EA /r | Vo Wo | | aligned
por | 66 0F EB /r | Vo Wo | | aligned
paddsb | 66 0F EC /r | Vo Wo | | aligned
paddsw | 66 0F ED /r | Vo Wo | | aligned
pmaxsw | 66 0F EE /r | Vo Wo | | aligned
pxor | 66 0F EF /r | Vo Wo | | aligned
psllw | 66 0F F1 /r | Vo Wo | | shift aligned
pslld | 66 0F F2 /r | Vo Wo | | shift aligned
psllq | 66 0F F3 /r | Vo Wo | | shift aligned
pmuludq | 66 0F F4 /r | Vo Wo | | aligned
pmaddwd | 66 0F F5 /r | Vo Wo | | aligned
psadbw | 66 0F F6 /r | Vo Wo | | aligned
psubb | 66 0F F8 /r | Vo Wo | | aligned
psubw | 66 0F F9 /r | Vo Wo | | aligned
psubd | 66 0F FA /r | Vo Wo | | aligned
psubq | 66 0F FB /r | Vo Wo | | aligned
paddb | 66 0F FC /r | Vo Wo | | aligned
paddw | 66 0F FD /r | Vo Wo | | aligned
paddd | 66 0F FE /r | Vo Wo | | aligned
pshufb | 66 0F 38 00 /r | Vo Wo | | aligned
phaddw | 66 0F 38 01 /r | Vo Wo | | aligned
phaddd | 66 0F 38 02 /r | Vo Wo | | aligned
phaddsw | 66 0F 38 03 /r | Vo Wo | | aligned
pmaddubsw | 66 0F 38 04 /r | Vo Wo | | aligned
phsubw | 66 0F 38 05 /r | Vo Wo | | aligned
phsubd | 66 0F 38 06 /r | Vo Wo | | aligned
phsubsw | 66 0F 38 07 /r | Vo Wo | | aligned
psignb | 66 0F 38 08 /r | Vo Wo | | aligned
psignw | 66 0F 38 09 /r | Vo Wo | | aligned
psignd | 66 0F 38 0A /r | Vo Wo | | aligned
pmulhrsw | 66 0F 38 0B /r | Vo Wo | | aligned
pabsb | 66 0F 38 1C /r | Vo Wo | | aligned
pabsw | 66 0F 38 1D /r | Vo Wo | | aligned
pabsd | 66 0F 38 1E /r | Vo Wo | | aligned
psrlw | 66 0F 71 /2 ib | Uo | | shift
psraw | 66 0F 71 /4 ib | Uo | | shift
psllw | 66 0F 71 /6 ib | Uo | | shift
psrld | 66 0F 72 /2 ib | Uo | | shift
psrad | 66 0F 72 /4 ib | Uo | | shift
pslld | 66 0F 72 /6 ib | Uo | | shift
psrlq | 66 0F 73 /2 ib | Uo | | shift
psllq | 66 0F 73 /6 ib | Uo | | shift
punpcklqdq | 66 0F 6C /r | Vo Wo | | aligned
punpckhqdq | 66 0F 6D /r | Vo Wo | | aligned
psrldq | 66 0F 73 /3 ib | Uo | | shift
pslldq | 66 0F 73 /7 ib | Uo | | shift
pshufd | 66 0F 70 /r ib | Vo Wo | | aligned
pshufhw | F3 0F 70 /r ib | Vo Wo | | aligned
pshuflw | F2 0F 70 /r ib | Vo Wo | | aligned
pinsrw | 66 0F C4 /r ib | Vo Ew
pextrw | 66 0F C5 /r ib | Gd Uo
pmovmskb | 66 0F D7 /r | Gd Uo
palignr | 66 0F 3A 0F /r ib | Vo Wo | | aligned
maskmovdqu | 66 0F F7 /r | Vo Uo | | di
movd | 66 0F 6E /r | Vo Ey | dq
movd | 66 0F 7E /r | Ey Vo | dq
movq | F3 0F 7E /r | Vo Wq
movq | 66 0F D6 /r | Wq Vo
movdqa | 66 0F 6F /r | Vo Wo | | aligned
movdqa | 66 0F 7F /r | Wo Vo | | aligned
movdqu | F3 0F 6F /r | Vo Wo
movdqu | F3 0F 7F /r | Wo Vo
movntdq | 66 0F E7 /r | Mo Vo | | aligned
lddqu | F2 0F F0 /r | Vo Mo
`,
);

/** SSE4.1 and SSE4.2 (crc32 and popcnt are with the integer forms). */
export const SSE4: Form[] = parseForms(
  'sse',
  `
pblendvb | 66 0F 38 10 /r | Vo Wo | | aligned
blendvps | 66 0F 38 14 /r | Vo Wo | | aligned
blendvpd | 66 0F 38 15 /r | Vo Wo | | aligned
ptest | 66 0F 38 17 /r | Vo Wo | | aligned
pmovsxbw | 66 0F 38 20 /r | Vo Wq
pmovsxbd | 66 0F 38 21 /r | Vo Wd
pmovsxbq | 66 0F 38 22 /r | Vo Ww
pmovsxwd | 66 0F 38 23 /r | Vo Wq
pmovsxwq | 66 0F 38 24 /r | Vo Wd
pmovsxdq | 66 0F 38 25 /r | Vo Wq
pmuldq | 66 0F 38 28 /r | Vo Wo | | aligned
pcmpeqq | 66 0F 38 29 /r | Vo Wo | | aligned
movntdqa | 66 0F 38 2A /r | Vo Mo | | aligned
packusdw | 66 0F 38 2B /r | Vo Wo | | aligned
pmovzxbw | 66 0F 38 30 /r | Vo Wq
pmovzxbd | 66 0F 38 31 /r | Vo Wd
pmovzxbq | 66 0F 38 32 /r | Vo Ww
pmovzxwd | 66 0F 38 33 /r | Vo Wq
pmovzxwq | 66 0F 38 34 /r | Vo Wd
pmovzxdq | 66 0F 38 35 /r | Vo Wq
pcmpgtq | 66 0F 38 37 /r | Vo Wo | | aligned
pminsb | 66 0F 38 38 /r | Vo Wo | | aligned
pminsd | 66 0F 38 39 /r | Vo Wo | | aligned
pminuw | 66 0F 38 3A /r | Vo Wo | | aligned
pminud | 66 0F 38 3B /r | Vo Wo | | aligned
pmaxsb | 66 0F 38 3C /r | Vo Wo | | aligned
pmaxsd | 66 0F 38 3D /r | Vo Wo | | aligned
pmaxuw | 66 0F 38 3E /r | Vo Wo | | aligned
pmaxud | 66 0F 38 3F /r | Vo Wo | | aligned
pmulld | 66 0F 38 40 /r | Vo Wo | | aligned
phminposuw | 66 0F 38 41 /r | Vo Wo | | aligned
roundps | 66 0F 3A 08 /r ib | Vo Wo | | aligned
roundpd | 66 0F 3A 09 /r ib | Vo Wo | | aligned
roundss | 66 0F 3A 0A /r ib | Vo Wd
roundsd | 66 0F 3A 0B /r ib | Vo Wq
blendps | 66 0F 3A 0C /r ib | Vo Wo | | aligned
blendpd | 66 0F 3A 0D /r ib | Vo Wo | | aligned
pblendw | 66 0F 3A 0E /r ib | Vo Wo | | aligned
pextrb | 66 0F 3A 14 /r ib | Eb Vo | | wideregister
pextrw | 66 0F 3A 15 /r ib | Ew Vo | | wideregister
pextrd | 66 0F 3A 16 /r ib | Ey Vo | dq
extractps | 66 0F 3A 17 /r ib | Ed Vo
pinsrb | 66 0F 3A 20 /r ib | Vo Eb | | wideregister
insertps | 66 0F 3A 21 /r ib | Vo Wd
pinsrd | 66 0F 3A 22 /r ib | Vo Ey | dq
dpps | 66 0F 3A 40 /r ib | Vo Wo | | aligned nan
dppd | 66 0F 3A 41 /r ib | Vo Wo | | aligned nan
mpsadbw | 66 0F 3A 42 /r ib | Vo Wo | | aligned
pcmpestrm | 66 0F 3A 60 /r ib | Vo Wo | dq | strings axdx
pcmpestri | 66 0F 3A 61 /r ib | Vo Wo | dq | strings axdx
pcmpistrm | 66 0F 3A 62 /r ib | Vo Wo | | strings
pcmpistri | 66 0F 3A 63 /r ib | Vo Wo | | strings axdx
`,
);
