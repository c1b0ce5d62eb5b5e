// SPDX-License-Identifier: MIT
// MMX instructions, SSSE3 and SSE additions to MMX included, and conversions between MMX and XMM (SDM vol. 2).

import { parseForms } from './form.ts';
import type { Form } from './form.ts';

/** Every encoding; memory operands need no alignment. */
export const MMX: Form[] = parseForms(
  'mmx',
  `
punpcklbw | 0F 60 /r | Pq Qd
punpcklwd | 0F 61 /r | Pq Qd
punpckldq | 0F 62 /r | Pq Qd
packsswb | 0F 63 /r | Pq Qq
pcmpgtb | 0F 64 /r | Pq Qq
pcmpgtw | 0F 65 /r | Pq Qq
pcmpgtd | 0F 66 /r | Pq Qq
packuswb | 0F 67 /r | Pq Qq
punpckhbw | 0F 68 /r | Pq Qq
punpckhwd | 0F 69 /r | Pq Qq
punpckhdq | 0F 6A /r | Pq Qq
packssdw | 0F 6B /r | Pq Qq
pcmpeqb | 0F 74 /r | Pq Qq
pcmpeqw | 0F 75 /r | Pq Qq
pcmpeqd | 0F 76 /r | Pq Qq
psrlw | 0F D1 /r | Pq Qq | | shift
psrld | 0F D2 /r | Pq Qq | | shift
psrlq | 0F D3 /r | Pq Qq | | shift
paddq | 0F D4 /r | Pq Qq
pmullw | 0F D5 /r | Pq Qq
psubusb | 0F D8 /r | Pq Qq
psubusw | 0F D9 /r | Pq Qq
pminub | 0F DA /r | Pq Qq
pand | 0F DB /r | Pq Qq
paddusb | 0F DC /r | Pq Qq
paddusw | 0F DD /r | Pq Qq
pmaxub | 0F DE /r | Pq Qq
pandn | 0F DF /r | Pq Qq
pavgb | 0F E0 /r | Pq Qq
psraw | 0F E1 /r | Pq Qq | | shift
psrad | 0F E2 /r | Pq Qq | | shift
pavgw | 0F E3 /r | Pq Qq
pmulhuw | 0F E4 /r | Pq Qq
pmulhw | 0F E5 /r | Pq Qq
psubsb | 0F E8 /r | Pq Qq
psubsw | 0F E9 /r | Pq Qq
pminsw | 0F EA /r | Pq Qq
por | 0F EB /r | Pq Qq
paddsb | 0F EC /r | Pq Qq
paddsw | 0F ED /r | Pq Qq
pmaxsw | 0F EE /r | Pq Qq
pxor | 0F EF /r | Pq Qq
psllw | 0F F1 /r | Pq Qq | | shift
pslld | 0F F2 /r | Pq Qq | | shift
psllq | 0F F3 /r | Pq Qq | | shift
pmuludq | 0F F4 /r | Pq Qq
pmaddwd | 0F F5 /r | Pq Qq
psadbw | 0F F6 /r | Pq Qq
psubb | 0F F8 /r | Pq Qq
psubw | 0F F9 /r | Pq Qq
psubd | 0F FA /r | Pq Qq
psubq | 0F FB /r | Pq Qq
paddb | 0F FC /r | Pq Qq
paddw | 0F FD /r | Pq Qq
paddd | 0F FE /r | Pq Qq
pshufb | 0F 38 00 /r | Pq Qq
phaddw | 0F 38 01 /r | Pq Qq
phaddd | 0F 38 02 /r | Pq Qq
phaddsw | 0F 38 03 /r | Pq Qq
pmaddubsw | 0F 38 04 /r | Pq Qq
phsubw | 0F 38 05 /r | Pq Qq
phsubd | 0F 38 06 /r | Pq Qq
phsubsw | 0F 38 07 /r | Pq Qq
psignb | 0F 38 08 /r | Pq Qq
psignw | 0F 38 09 /r | Pq Qq
psignd | 0F 38 0A /r | Pq Qq
pmulhrsw | 0F 38 0B /r | Pq Qq
pabsb | 0F 38 1C /r | Pq Qq
pabsw | 0F 38 1D /r | Pq Qq
pabsd | 0F 38 1E /r | Pq Qq
psrlw | 0F 71 /2 ib | Nq | | shift
psraw | 0F 71 /4 ib | Nq | | shift
psllw | 0F 71 /6 ib | Nq | | shift
psrld | 0F 72 /2 ib | Nq | | shift
psrad | 0F 72 /4 ib | Nq | | shift
pslld | 0F 72 /6 ib | Nq | | shift
psrlq | 0F 73 /2 ib | Nq | | shift
psllq | 0F 73 /6 ib | Nq | | shift
palignr | 0F 3A 0F /r ib | Pq Qq
movd | 0F 6E /r | Pq Ey | dq
movd | 0F 7E /r | Ey Pq | dq | mmxfirst
movq | 0F 6F /r | Pq Qq
movq | 0F 7F /r | Qq Pq | | mmxfirst
pshufw | 0F 70 /r ib | Pq Qq
pinsrw | 0F C4 /r ib | Pq Ew
pextrw | 0F C5 /r ib | Gd Nq
pmovmskb | 0F D7 /r | Gd Nq
maskmovq | 0F F7 /r | Pq Nq | | di
movntq | 0F E7 /r | Mq Pq | | mmxfirst
emms | 0F 77
cvtpi2ps | 0F 2A /r | Vo Qq | | mmxfirst
cvttps2pi | 0F 2C /r | Pq Wq
cvtps2pi | 0F 2D /r | Pq Wq
cvtpi2pd | 66 0F 2A /r | Vo Qq
cvttpd2pi | 66 0F 2C /r | Pq Wo | | aligned
cvtpd2pi | 66 0F 2D /r | Pq Wo | | aligned
movq2dq | F3 0F D6 /r | Vo Nq
movdq2q | F2 0F D6 /r | Pq Uo
`,
);
