// SPDX-License-Identifier: MIT
// x87 instructions, every encoding (SDM vol. 2; vol. 1 chapter 8).

import { parseForms } from './form.ts';
import type { Form } from './form.ts';

/** Trait xcc: condition codes C0, C2, C3 undefined afterwards; C1 says how the result was rounded. */
export const X87: Form[] = parseForms(
  'x87',
  `
fadd | D8 /0 | Md | | xcc
fadd | DC /0 | Mq | | xcc
fadd | D8 C0+i | | | xcc
fadd | DC C0+i | | | xcc
faddp | DE C0+i | | | xcc
fiadd | DA /0 | Md | | xcc
fiadd | DE /0 | Mw | | xcc
fmul | D8 /1 | Md | | xcc
fmul | DC /1 | Mq | | xcc
fmul | D8 C8+i | | | xcc
fmul | DC C8+i | | | xcc
fmulp | DE C8+i | | | xcc
fimul | DA /1 | Md | | xcc
fimul | DE /1 | Mw | | xcc
fcom | D8 /2 | Md
fcom | DC /2 | Mq
fcom | D8 D0+i
ficom | DA /2 | Md
ficom | DE /2 | Mw
fcomp | D8 /3 | Md
fcomp | DC /3 | Mq
fcomp | D8 D8+i
ficomp | DA /3 | Md
ficomp | DE /3 | Mw
fsub | D8 /4 | Md | | xcc
fsub | DC /4 | Mq | | xcc
fsub | D8 E0+i | | | xcc
fsubr | DC E0+i | | | xcc
fsubrp | DE E0+i | | | xcc
fisub | DA /4 | Md | | xcc
fisub | DE /4 | Mw | | xcc
fsubr | D8 /5 | Md | | xcc
fsubr | DC /5 | Mq | | xcc
fsubr | D8 E8+i | | | xcc
fsub | DC E8+i | | | xcc
fsubp | DE E8+i | | | xcc
fisubr | DA /5 | Md | | xcc
fisubr | DE /5 | Mw | | xcc
fdiv | D8 /6 | Md | | xcc
fdiv | DC /6 | Mq | | xcc
fdiv | D8 F0+i | | | xcc
fdivr | DC F0+i | | | xcc
fdivrp | DE F0+i | | | xcc
fidiv | DA /6 | Md | | xcc
fidiv | DE /6 | Mw | | xcc
fdivr | D8 /7 | Md | | xcc
fdivr | DC /7 | Mq | | xcc
fdivr | D8 F8+i | | | xcc
fdiv | DC F8+i | | | xcc
fdivp | DE F8+i | | | xcc
fidivr | DA /7 | Md | | xcc
fidivr | DE /7 | Mw | | xcc
fcompp | DE D9
fucom | DD E0+i
fucomp | DD E8+i
fucompp | DA E9
fcomi | DB F0+i
fcomip | DF F0+i
fucomi | DB E8+i
fucomip | DF E8+i
fcom | DC D0+i | | | alias
fcomp | DC D8+i | | | alias
fcomp | DE D0+i | | | alias
fxch | DD C8+i | | | xcc alias
fxch | DF C8+i | | | xcc alias
fstp | D9 D8+i | | | xcc alias
fstp | DF D0+i | | | xcc alias
fstp | DF D8+i | | | xcc alias
ffreep | DF C0+i | | | xcc alias
fld | D9 /0 | Md | | xcc
fld | DD /0 | Mq | | xcc
fld | DB /5 | Mt | | xcc
fld | D9 C0+i | | | xcc
fst | D9 /2 | Md | | xcc
fst | DD /2 | Mq | | xcc
fst | DD D0+i | | | xcc
fstp | D9 /3 | Md | | xcc
fstp | DD /3 | Mq | | xcc
fstp | DB /7 | Mt | | xcc
fstp | DD D8+i | | | xcc
fild | DF /0 | Mw | | xcc
fild | DB /0 | Md | | xcc
fild | DF /5 | Mq | | xcc
fist | DF /2 | Mw | | xcc
fist | DB /2 | Md | | xcc
fistp | DF /3 | Mw | | xcc
fistp | DB /3 | Md | | xcc
fistp | DF /7 | Mq | | xcc
fisttp | DF /1 | Mw | | xcc
fisttp | DB /1 | Md | | xcc
fisttp | DD /1 | Mq | | xcc
fbld | DF /4 | Mt | | xcc
fbstp | DF /6 | Mt | | xcc
fxch | D9 C8+i | | | xcc
ffree | DD C0+i | | | xcc
fincstp | D9 F7 | | | xcc
fdecstp | D9 F6 | | | xcc
fnop | D9 D0 | | | xcc
fchs | D9 E0 | | | xcc
fabs | D9 E1 | | | xcc
ftst | D9 E4
fxam | D9 E5
fld1 | D9 E8 | | | xcc
fldl2t | D9 E9 | | | xcc
fldl2e | D9 EA | | | xcc
fldpi | D9 EB | | | xcc
fldlg2 | D9 EC | | | xcc
fldln2 | D9 ED | | | xcc
fldz | D9 EE | | | xcc
frndint | D9 FC | | | xcc
fsqrt | D9 FA | | | xcc
fscale | D9 FD | | | xcc
fprem | D9 F8 | | | partial
fprem1 | D9 F5 | | | partial
fxtract | D9 F4 | | | xcc
f2xm1 | D9 F0 | | | xcc transcendental
fyl2x | D9 F1 | | | xcc transcendental
fptan | D9 F2 | | | xcc transcendental
fpatan | D9 F3 | | | xcc transcendental
fyl2xp1 | D9 F9 | | | xcc transcendental
fsincos | D9 FB | | | xcc transcendental
fsin | D9 FE | | | xcc transcendental
fcos | D9 FF | | | xcc transcendental
fcmovb | DA C0+i | | | xcc
fcmove | DA C8+i | | | xcc
fcmovbe | DA D0+i | | | xcc
fcmovu | DA D8+i | | | xcc
fcmovnb | DB C0+i | | | xcc
fcmovne | DB C8+i | | | xcc
fcmovnbe | DB D0+i | | | xcc
fcmovnu | DB D8+i | | | xcc
fninit | DB E3
fnclex | DB E2 | | | xcc
fwait | 9B | | | xcc
fldcw | D9 /5 | Mw | | xcc fcw
fnstcw | D9 /7 | Mw | | xcc
fnstsw | DD /7 | Mw | | readsxcc
fnstsw | DF E0 | | | readsxcc axdx
fldenv | D9 /4 | Me | | fenv
fnstenv | D9 /6 | Me | | fixed readsxcc fenv
frstor | DD /4 | Ms | | fenv
fnsave | DD /6 | Ms | | fixed readsxcc fenv
fneni | DB E0 | | | xcc alias
fndisi | DB E1 | | | xcc alias
fnsetpm | DB E4 | | | xcc alias
`,
);

/** State images and the SSE control register. */
export const FP_STATE: Form[] = parseForms(
  'sse',
  `
fxsave | 0F AE /0 | Mx | dq | fixed aligned readsxcc fxsave
fxrstor | 0F AE /1 | Mx | dq | aligned fxrstor
ldmxcsr | 0F AE /2 | Md | | mxcsr
stmxcsr | 0F AE /3 | Md
clflush | 0F AE /7 | Mb
`,
);
