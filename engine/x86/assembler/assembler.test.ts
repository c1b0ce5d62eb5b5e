// SPDX-License-Identifier: MIT
// Checks every instruction form of the assembler against binutils: assembled bytes must disassemble to the text beside them.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Assembler } from './assembler.ts';
import type { BitMode } from './encoder.ts';
import * as op from './operands.ts';
import { addressOf, AssemblerError, cr, dr, mem, xmm } from './operands.ts';

const { rax, rbx, rcx, rdx, rsp, rbp, rsi, rdi, r8, r9, r12, r13, r14, r15 } = op;
const { eax, ebx, ecx, edx, esp, ebp, esi, edi, r8d, r9d, r10d, r15d } = op;
const { ax, bx, dx, r8w, al, bl, cl, dl, ah, bh, sil, bpl, r15b } = op;

type Case = readonly [string, (asm: Assembler) => void];

/** Disassembles with objdump: one line of Intel-syntax text per instruction, spaces collapsed. */
function disassemble(code: Uint8Array, bits: BitMode): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'paravane-asm-'));
  try {
    const file = join(directory, 'code.bin');
    writeFileSync(file, code);
    const machine = bits === 64 ? 'i386:x86-64' : 'i386';
    const options = ['-D', '-b', 'binary', '-m', machine, '-M', 'intel', '--no-show-raw-insn', file];
    const text = execFileSync('objdump', options, { encoding: 'utf8', maxBuffer: 1 << 24 });
    return text
      .split('\n')
      .filter((line) => /^ *[0-9a-f]+:\t/.test(line))
      .map((line) =>
        line
          .replace(/^ *[0-9a-f]+:\t/, '')
          .replace(/\s*#.*$/, '')
          .replace(/\s+/g, ' ')
          .trim(),
      );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function expectDisassembly(bits: BitMode, cases: readonly Case[]): void {
  const asm = new Assembler(bits);
  for (const [, emit] of cases) emit(asm);
  const text = asm.link(0n).sections[0];
  expect(disassemble(text?.bytes ?? new Uint8Array(), bits)).toEqual(cases.map(([expected]) => expected));
}

describe('64-bit instruction forms', () => {
  it('moves data', () => {
    expectDisassembly(64, [
      ['mov rax,rbx', (a) => a.mov(rax, rbx)],
      ['mov r15d,r8d', (a) => a.mov(r15d, r8d)],
      ['mov ax,r8w', (a) => a.mov(ax, r8w)],
      ['mov sil,bl', (a) => a.mov(sil, bl)],
      ['mov ah,bh', (a) => a.mov(ah, bh)],
      ['mov bpl,r15b', (a) => a.mov(bpl, r15b)],
      ['mov eax,0x12345678', (a) => a.mov(rax, 0x12345678)],
      ['mov r9d,0xffffffff', (a) => a.mov(r9, 0xffffffff)],
      ['mov rdx,0xfffffffffffffffe', (a) => a.mov(rdx, -2)],
      ['movabs rdx,0x123456789abcdef0', (a) => a.mov(rdx, 0x123456789abcdef0n)],
      ['mov edx,0xfffffffe', (a) => a.mov(edx, -2)],
      ['mov dx,0x1234', (a) => a.mov(dx, 0x1234)],
      ['mov al,0x7f', (a) => a.mov(al, 0x7f)],
      ['mov dl,0xff', (a) => a.mov(dl, 0xff)],
      ['mov QWORD PTR [rax],rcx', (a) => a.mov(mem({ base: rax }), rcx)],
      ['mov rcx,QWORD PTR [rsp]', (a) => a.mov(rcx, mem({ base: rsp }))],
      ['mov rcx,QWORD PTR [rbp+0x0]', (a) => a.mov(rcx, mem({ base: rbp }))],
      ['mov rcx,QWORD PTR [r12+0x8]', (a) => a.mov(rcx, mem({ base: r12, disp: 8 }))],
      ['mov rcx,QWORD PTR [r13-0x80]', (a) => a.mov(rcx, mem({ base: r13, disp: -128 }))],
      ['mov rcx,QWORD PTR [r14+0x80]', (a) => a.mov(rcx, mem({ base: r14, disp: 128 }))],
      ['mov r8d,DWORD PTR [rbx+r15*4+0x10]', (a) => a.mov(r8d, mem({ base: rbx, index: r15, scale: 4, disp: 16 }))],
      ['mov al,BYTE PTR [rax*8+0x0]', (a) => a.mov(al, mem({ index: rax, scale: 8 }))],
      ['mov ax,WORD PTR ds:0xfffffffffffff000', (a) => a.mov(ax, mem({ disp: -4096 }))],
      ['mov rax,QWORD PTR gs:0x28', (a) => a.mov(rax, mem({ disp: 0x28, seg: 'gs' }))],
      ['mov rax,QWORD PTR fs:[rdi]', (a) => a.mov(rax, mem({ base: rdi, seg: 'fs' }))],
      ['mov eax,DWORD PTR [edi]', (a) => a.mov(eax, mem({ base: edi }))],
      ['mov QWORD PTR [rsi+0x8],0xffffffffffffffff', (a) => a.mov(mem({ base: rsi, disp: 8, size: 8 }), -1)],
      ['mov BYTE PTR [rsi],0xff', (a) => a.mov(mem({ base: rsi, size: 1 }), 0xff)],
      ['mov WORD PTR [rsi],0xffff', (a) => a.mov(mem({ base: rsi, size: 2 }), 0xffff)],
      ['mov DWORD PTR [r8],0x80000000', (a) => a.mov(mem({ base: r8, size: 4 }), 0x80000000)],
      ['movzx eax,bl', (a) => a.movzx(eax, bl)],
      ['movzx rax,WORD PTR [rsi]', (a) => a.movzx(rax, mem({ base: rsi, size: 2 }))],
      ['movzx r9d,sil', (a) => a.movzx(r9d, sil)],
      ['movsx rax,bl', (a) => a.movsx(rax, bl)],
      ['movsx r8d,WORD PTR [rsi]', (a) => a.movsx(r8d, mem({ base: rsi, size: 2 }))],
      ['movsxd rax,ecx', (a) => a.movsx(rax, ecx)],
      ['lea rsi,[rdi+rdi*2]', (a) => a.lea(rsi, mem({ base: rdi, index: rdi, scale: 2 }))],
      ['lea eax,[rax+0x1]', (a) => a.lea(eax, mem({ base: rax, disp: 1 }))],
      ['push rbx', (a) => a.push(rbx)],
      ['push r12', (a) => a.push(r12)],
      ['push ax', (a) => a.push(ax)],
      ['push 0x7f', (a) => a.push(0x7f)],
      ['push 0xffffffffffffffff', (a) => a.push(-1)],
      ['push 0x12345', (a) => a.push(0x12345)],
      ['push QWORD PTR [rdi]', (a) => a.push(mem({ base: rdi }))],
      ['pop r15', (a) => a.pop(r15)],
      ['pop QWORD PTR [rsp+0x8]', (a) => a.pop(mem({ base: rsp, disp: 8, size: 8 }))],
      ['xchg rbx,rax', (a) => a.xchg(rbx, rax)],
      ['xchg BYTE PTR [rdi],al', (a) => a.xchg(mem({ base: rdi }), al)],
      ['bswap r9', (a) => a.bswap(r9)],
      ['bswap ebx', (a) => a.bswap(ebx)],
    ]);
  });

  it('computes', () => {
    const arithmetic = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'] as const;
    const shifts = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sar'] as const;
    const unary = ['inc', 'dec', 'not', 'neg', 'mul', 'div', 'idiv'] as const;
    const bits = ['bt', 'bts', 'btr', 'btc'] as const;
    expectDisassembly(64, [
      ...arithmetic.flatMap((name): Case[] => [
        [`${name} rax,r9`, (a) => a[name](rax, r9)],
        [`${name} al,bl`, (a) => a[name](al, bl)],
        [`${name} r8d,DWORD PTR [rsi]`, (a) => a[name](r8d, mem({ base: rsi }))],
        [`${name} WORD PTR [rsi],bx`, (a) => a[name](mem({ base: rsi }), bx)],
        [`${name} rcx,0x10`, (a) => a[name](rcx, 16)],
        [`${name} rcx,0x1000`, (a) => a[name](rcx, 4096)],
        [`${name} ecx,0xffffffff`, (a) => a[name](ecx, 0xffffffff)],
        [`${name} BYTE PTR [rdi+0x1],0x80`, (a) => a[name](mem({ base: rdi, disp: 1, size: 1 }), 0x80)],
        [`${name} WORD PTR [rdi],0x1234`, (a) => a[name](mem({ base: rdi, size: 2 }), 0x1234)],
      ]),
      ...shifts.flatMap((name): Case[] => [
        [`${name} rax,cl`, (a) => a[name](rax, cl)],
        [`${name} ebx,0x5`, (a) => a[name](ebx, 5)],
        [`${name} BYTE PTR [rsi],cl`, (a) => a[name](mem({ base: rsi, size: 1 }), cl)],
        [`${name} r8w,0x3`, (a) => a[name](r8w, 3)],
      ]),
      ['shl edx,1', (a) => a.shl(edx, 1)],
      ['sar QWORD PTR [rsi],1', (a) => a.sar(mem({ base: rsi, size: 8 }), 1)],
      ...unary.flatMap((name): Case[] => [
        [`${name} r10d`, (a) => a[name](r10d)],
        [`${name} bl`, (a) => a[name](bl)],
        [`${name} QWORD PTR [rbx]`, (a) => a[name](mem({ base: rbx, size: 8 }))],
      ]),
      ...bits.flatMap((name): Case[] => [
        [`${name} rax,rbx`, (a) => a[name](rax, rbx)],
        [`${name} DWORD PTR [rdi],ecx`, (a) => a[name](mem({ base: rdi }), ecx)],
        [`${name} QWORD PTR [rdi],0x3f`, (a) => a[name](mem({ base: rdi, size: 8 }), 63)],
      ]),
      ['test rax,rax', (a) => a.test(rax, rax)],
      ['test BYTE PTR [rdi],0x1', (a) => a.test(mem({ base: rdi, size: 1 }), 1)],
      ['test ecx,0x80000000', (a) => a.test(ecx, 0x80000000)],
      ['imul rbx', (a) => a.imul(rbx)],
      ['imul rax,rbx', (a) => a.imul(rax, rbx)],
      ['imul rax,QWORD PTR [rsi],0x10', (a) => a.imul(rax, mem({ base: rsi }), 16)],
      ['imul ebx,ecx,0x3e8', (a) => a.imul(ebx, ecx, 1000)],
      ['shld rax,rbx,0x4', (a) => a.shld(rax, rbx, 4)],
      ['shrd rax,rdx,cl', (a) => a.shrd(rax, rdx, cl)],
      ['bsf rax,rbx', (a) => a.bsf(rax, rbx)],
      ['bsr eax,DWORD PTR [rdi]', (a) => a.bsr(eax, mem({ base: rdi }))],
      ['popcnt r8,rbx', (a) => a.popcnt(r8, rbx)],
      ['popcnt ax,bx', (a) => a.popcnt(ax, bx)],
      ['lock xadd DWORD PTR [rdi],eax', (a) => a.lock().xadd(mem({ base: rdi }), eax)],
      ['lock cmpxchg QWORD PTR [rdi],r9', (a) => a.lock().cmpxchg(mem({ base: rdi }), r9)],
      ['cmpxchg bl,cl', (a) => a.cmpxchg(bl, cl)],
      ['cmpxchg8b QWORD PTR [rdi]', (a) => a.cmpxchg8b(mem({ base: rdi }))],
      ['lock cmpxchg16b OWORD PTR [r8]', (a) => a.lock().cmpxchg16b(mem({ base: r8 }))],
      ['cbw', (a) => a.signExtendAccumulator(2)],
      ['cwde', (a) => a.signExtendAccumulator(4)],
      ['cdqe', (a) => a.signExtendAccumulator(8)],
      ['cwd', (a) => a.signExtendToDx(2)],
      ['cdq', (a) => a.signExtendToDx(4)],
      ['cqo', (a) => a.signExtendToDx(8)],
    ]);
  });

  it('uses conditions', () => {
    const names = 'o no b ae e ne be a s ns p np l ge le g'.split(' ') as Parameters<Assembler['set']>[0][];
    expectDisassembly(64, [
      ...names.map((name): Case => [`set${name} al`, (a) => a.set(name, al)]),
      ...names.map((name): Case => [`cmov${name} rax,r8`, (a) => a.cmov(name, rax, r8)]),
      ['setb BYTE PTR [rdi]', (a) => a.set('c', mem({ base: rdi }))],
      ['sete sil', (a) => a.set('z', sil)],
    ]);
    const jumps = new Assembler();
    jumps.label('start');
    for (const name of names) jumps.j(name, 'start');
    expect(disassemble(jumps.link(0n).sections[0]?.bytes ?? new Uint8Array(), 64)).toEqual(
      names.map((name) => `j${name} 0x0`),
    );
  });

  it('moves strings', () => {
    expectDisassembly(64, [
      ['rep movs BYTE PTR es:[rdi],BYTE PTR ds:[rsi]', (a) => a.rep().movs(1)],
      ['rep movs QWORD PTR es:[rdi],QWORD PTR ds:[rsi]', (a) => a.rep().movs(8)],
      ['movs WORD PTR es:[rdi],WORD PTR ds:[rsi]', (a) => a.movs(2)],
      ['rep stos QWORD PTR es:[rdi],rax', (a) => a.rep().stos(8)],
      ['stos BYTE PTR es:[rdi],al', (a) => a.stos(1)],
      ['lods eax,DWORD PTR ds:[rsi]', (a) => a.lods(4)],
      ['repnz scas al,BYTE PTR es:[rdi]', (a) => a.repne().scas(1)],
      ['repz cmps BYTE PTR ds:[rsi],BYTE PTR es:[rdi]', (a) => a.rep().cmps(1)],
      ['ins BYTE PTR es:[rdi],dx', (a) => a.ins(1)],
      ['rep outs dx,DWORD PTR ds:[rsi]', (a) => a.rep().outs(4)],
    ]);
  });

  it('transfers control', () => {
    expectDisassembly(64, [
      ['jmp rax', (a) => a.jmp(rax)],
      ['jmp QWORD PTR [rbx+rcx*8]', (a) => a.jmp(mem({ base: rbx, index: rcx, scale: 8 }))],
      ['call r12', (a) => a.call(r12)],
      ['call QWORD PTR [rdi]', (a) => a.call(mem({ base: rdi }))],
      ['ret', (a) => a.ret()],
      ['ret 0x10', (a) => a.ret(16)],
      ['leave', (a) => a.leave()],
      ['jmp FWORD PTR [rax]', (a) => a.jmpFar(mem({ base: rax }))],
      ['rex.W call FWORD PTR [rax]', (a) => a.callFar(mem({ base: rax, size: 8 }))],
      ['retfq', (a) => a.lret()],
      ['nop', (a) => a.nop()],
      ['pause', (a) => a.pause()],
      ['clc', (a) => a.clc()],
      ['stc', (a) => a.stc()],
      ['cmc', (a) => a.cmc()],
      ['cld', (a) => a.cld()],
      ['std', (a) => a.std()],
      ['lahf', (a) => a.lahf()],
      ['sahf', (a) => a.sahf()],
      ['pushf', (a) => a.pushf()],
      ['popf', (a) => a.popf()],
    ]);
  });

  it('reaches the system', () => {
    expectDisassembly(64, [
      ['syscall', (a) => a.syscall()],
      ['sysenter', (a) => a.sysenter()],
      ['sysretq', (a) => a.sysret()],
      ['iretq', (a) => a.iret()],
      ['int 0x80', (a) => a.int(0x80)],
      ['int3', (a) => a.int3()],
      ['int1', (a) => a.int1()],
      ['ud2', (a) => a.ud2()],
      ['hlt', (a) => a.hlt()],
      ['cli', (a) => a.cli()],
      ['sti', (a) => a.sti()],
      ['in al,0x80', (a) => a.in(al, 0x80)],
      ['in eax,dx', (a) => a.in(eax, 'dx')],
      ['in ax,dx', (a) => a.in(ax, 'dx')],
      ['out 0x80,al', (a) => a.out(0x80, al)],
      ['out dx,eax', (a) => a.out('dx', eax)],
      ['mov rax,cr0', (a) => a.movFrom(rax, cr(0))],
      ['mov r9,cr8', (a) => a.movFrom(r9, cr(8))],
      ['mov cr3,rbx', (a) => a.movTo(cr(3), rbx)],
      ['mov rax,dr7', (a) => a.movFrom(rax, dr(7))],
      ['mov dr6,rax', (a) => a.movTo(dr(6), rax)],
      ['mov eax,ds', (a) => a.movFromSegment(eax, op.ds)],
      ['mov rcx,gs', (a) => a.movFromSegment(rcx, op.gs)],
      ['mov WORD PTR [rdi],cs', (a) => a.movFromSegment(mem({ base: rdi }), op.cs)],
      ['mov ss,eax', (a) => a.movToSegment(op.ss, eax)],
      ['mov fs,WORD PTR [rdi]', (a) => a.movToSegment(op.fs, mem({ base: rdi }))],
      ['push fs', (a) => a.pushSegment(op.fs)],
      ['pop gs', (a) => a.popSegment(op.gs)],
      ['clts', (a) => a.clts()],
      ['smsw eax', (a) => a.smsw(eax)],
      ['lmsw bx', (a) => a.lmsw(ebx)],
      ['rdmsr', (a) => a.rdmsr()],
      ['wrmsr', (a) => a.wrmsr()],
      ['rdtsc', (a) => a.rdtsc()],
      ['rdrand rcx', (a) => a.rdrand(rcx)],
      ['rdseed r8w', (a) => a.rdseed(r8w)],
      ['rdtscp', (a) => a.rdtscp()],
      ['rdpmc', (a) => a.rdpmc()],
      ['cpuid', (a) => a.cpuid()],
      ['swapgs', (a) => a.swapgs()],
      ['xgetbv', (a) => a.xgetbv()],
      ['xsetbv', (a) => a.xsetbv()],
      ['invlpg BYTE PTR [rdi]', (a) => a.invlpg(mem({ base: rdi }))],
      ['wbinvd', (a) => a.wbinvd()],
      ['invd', (a) => a.invd()],
      ['lgdt [rax]', (a) => a.lgdt(mem({ base: rax }))],
      ['lidt [rax]', (a) => a.lidt(mem({ base: rax }))],
      ['sgdt [rax]', (a) => a.sgdt(mem({ base: rax }))],
      ['sidt [rax]', (a) => a.sidt(mem({ base: rax }))],
      ['lldt ax', (a) => a.lldt(eax)],
      ['ltr cx', (a) => a.ltr(ecx)],
      ['rdfsbase rax', (a) => a.rdfsbase(rax)],
      ['rdgsbase ebx', (a) => a.rdgsbase(ebx)],
      ['wrfsbase r9', (a) => a.wrfsbase(r9)],
      ['wrgsbase rdx', (a) => a.wrgsbase(rdx)],
      ['lfence', (a) => a.lfence()],
      ['mfence', (a) => a.mfence()],
      ['sfence', (a) => a.sfence()],
    ]);
  });

  it('uses SSE and x87', () => {
    expectDisassembly(64, [
      ['movaps xmm1,xmm9', (a) => a.movaps(xmm(1), xmm(9))],
      ['movups XMMWORD PTR [rdi],xmm3', (a) => a.movups(mem({ base: rdi }), xmm(3))],
      ['movdqa xmm0,XMMWORD PTR [r8]', (a) => a.movdqa(xmm(0), mem({ base: r8 }))],
      ['movdqu XMMWORD PTR [rsi],xmm15', (a) => a.movdqu(mem({ base: rsi }), xmm(15))],
      ['movsd xmm2,QWORD PTR [rax]', (a) => a.movsd(xmm(2), mem({ base: rax }))],
      ['movq xmm2,rax', (a) => a.movToXmm(xmm(2), rax)],
      ['movd xmm9,ecx', (a) => a.movToXmm(xmm(9), ecx)],
      ['movq r9,xmm2', (a) => a.movFromXmm(r9, xmm(2))],
      ['addps xmm1,xmm2', (a) => a.addps(xmm(1), xmm(2))],
      ['xorps xmm1,xmm1', (a) => a.xorps(xmm(1), xmm(1))],
      ['addsd xmm1,xmm2', (a) => a.addsd(xmm(1), xmm(2))],
      ['subsd xmm1,QWORD PTR [rdi]', (a) => a.subsd(xmm(1), mem({ base: rdi }))],
      ['mulsd xmm1,xmm2', (a) => a.mulsd(xmm(1), xmm(2))],
      ['divsd xmm1,xmm8', (a) => a.divsd(xmm(1), xmm(8))],
      ['sqrtsd xmm1,xmm2', (a) => a.sqrtsd(xmm(1), xmm(2))],
      ['cvtsi2sd xmm1,rax', (a) => a.cvtsi2sd(xmm(1), rax)],
      ['cvttsd2si eax,xmm1', (a) => a.cvttsd2si(eax, xmm(1))],
      ['cvttsd2si r8,xmm1', (a) => a.cvttsd2si(r8, xmm(1))],
      ['pxor xmm4,xmm4', (a) => a.pxor(xmm(4), xmm(4))],
      ['paddq xmm4,XMMWORD PTR [rdi]', (a) => a.paddq(xmm(4), mem({ base: rdi }))],
      ['ldmxcsr DWORD PTR [rdi]', (a) => a.ldmxcsr(mem({ base: rdi }))],
      ['stmxcsr DWORD PTR [rdi]', (a) => a.stmxcsr(mem({ base: rdi }))],
      ['fxsave [rdi]', (a) => a.fxsave(mem({ base: rdi }))],
      ['fxrstor [rdi]', (a) => a.fxrstor(mem({ base: rdi }))],
      ['fninit', (a) => a.fninit()],
      ['fld1', (a) => a.fld1()],
      ['fldz', (a) => a.fldz()],
      ['faddp st(1),st', (a) => a.faddp()],
      ['fdivp st(1),st', (a) => a.fdivp()],
      ['fistp QWORD PTR [rdi]', (a) => a.fistp(mem({ base: rdi }))],
      ['fldcw WORD PTR [rdi]', (a) => a.fldcw(mem({ base: rdi }))],
      ['fnstcw WORD PTR [rdi]', (a) => a.fnstcw(mem({ base: rdi }))],
      ['fwait', (a) => a.fwait()],
    ]);
  });
});

describe('32-bit instruction forms', () => {
  it('has no REX and absolute labels', () => {
    expectDisassembly(32, [
      ['mov eax,ebx', (a) => a.mov(eax, ebx)],
      ['mov ecx,0xffffffff', (a) => a.mov(ecx, 0xffffffff)],
      ['mov eax,DWORD PTR ds:0x1000', (a) => a.mov(eax, mem({ disp: 0x1000 }))],
      ['mov ax,WORD PTR [esi+0x2]', (a) => a.mov(ax, mem({ base: esi, disp: 2 }))],
      ['push ebp', (a) => a.push(ebp)],
      ['push DWORD PTR [edi]', (a) => a.push(mem({ base: edi }))],
      ['pop esp', (a) => a.pop(esp)],
      ['add edx,0x10', (a) => a.add(edx, 16)],
      ['call eax', (a) => a.call(eax)],
      ['int 0x82', (a) => a.int(0x82)],
      ['iret', (a) => a.iret()],
      ['retf', (a) => a.lret()],
      ['into', (a) => a.into()],
      ['mov gs,eax', (a) => a.movToSegment(op.gs, eax)],
    ]);
    expect(() => new Assembler(32).mov(rax, rbx)).toThrow(AssemblerError);
  });

  it('refers to labels absolutely', () => {
    const asm = new Assembler(32);
    asm
      .label('start')
      .mov(mem({ label: 'start', disp: 4 }), ecx)
      .push(addressOf('start'));
    expect(disassemble(asm.link(0x100000n).sections[0]?.bytes ?? new Uint8Array(), 32)).toEqual([
      'mov DWORD PTR ds:0x100004,ecx',
      'push 0x100000',
    ]);
  });
});

describe('labels and sections', () => {
  it('resolves references in both directions and across sections', () => {
    const asm = new Assembler();
    asm.label('start');
    asm.jmp('end');
    asm.lea(rsi, mem({ label: 'message' }));
    asm.cmp(mem({ label: 'counter', size: 4 }), 0x12345);
    asm.mov(rdi, addressOf('table', 8));
    asm.mov(rax, mem({ index: rcx, scale: 8, label: 'table' }));
    asm.label('end');
    asm.jmp('start');
    asm.section('data').label('message').asciz('hi').align(8).label('table').dq(addressOf('end'), 5);
    asm.section('bss').label('counter').reserve(8).align(4096).label('page').reserve(4096);
    const image = asm.link(0xffffffff80100000n);
    const [text, data, bss] = image.sections;
    expect(disassemble(text?.bytes ?? new Uint8Array(), 64)).toEqual([
      'jmp 0x28',
      'lea rsi,[rip+0xff4]',
      'cmp DWORD PTR [rip+0x1fea],0x12345',
      'movabs rdi,0xffffffff80101010',
      'mov rax,QWORD PTR [rcx*8-0x7fefeff8]',
      'jmp 0x0',
    ]);
    expect(data?.address).toBe(0xffffffff80101000n);
    expect(bss).toMatchObject({ address: 0xffffffff80102000n, memorySize: 8192 });
    expect(image.symbols.get('page')).toBe(0xffffffff80103000n);
    const table = new DataView(data?.bytes.buffer ?? new ArrayBuffer(0)).getBigUint64(8, true);
    expect(table).toBe(image.symbols.get('end'));
  });

  it('keeps RIP-relative references right when an immediate follows', () => {
    const asm = new Assembler();
    asm.mov(mem({ label: 'here', size: 1 }), 1);
    asm.mov(mem({ label: 'here', size: 8 }), 1);
    asm.label('here');
    const text = asm.link(0n).sections[0]?.bytes ?? new Uint8Array();
    expect(disassemble(text, 64)).toEqual(['mov BYTE PTR [rip+0xb],0x1', 'mov QWORD PTR [rip+0x0],0x1']);
  });

  it('chooses short jumps backwards and obeys an explicit distance', () => {
    const asm = new Assembler();
    asm.label('top').j('ne', 'top').j('ne', 'top', 'near').jmp('next', 'short').label('next').loop('top').jrcxz('top');
    expect(asm.link(0n).sections[0]?.memorySize).toBe(2 + 6 + 2 + 2 + 2);
    const far = new Assembler();
    far.label('top').reserve(200).jmp('top');
    expect(far.link(0n).sections[0]?.memorySize).toBe(205);
  });

  it('refuses mistakes', () => {
    expect(() => new Assembler().jmp('nowhere').link(0n)).toThrow('label nowhere is not defined');
    expect(() => new Assembler().label('a').label('a')).toThrow('label a is defined twice');
    expect(() => new Assembler().jmp('a', 'short').reserve(200).label('a').link(0n)).toThrow('too far away');
    expect(() => new Assembler().mov(rax, ebx)).toThrow('different sizes');
    expect(() => new Assembler().inc(mem({ base: rax }))).toThrow('operand size unknown');
    expect(() => new Assembler().mov(al, 256)).toThrow('does not fit');
    expect(() => new Assembler().mov(ah, sil)).toThrow('REX');
    expect(() => new Assembler().add(rax, 0x1_0000_0000)).toThrow('does not fit');
    expect(() => mem({ index: rsp })).toThrow('rsp');
    expect(() => new Assembler().section('bss').bytes([1])).toThrow('reserve');
  });
});
