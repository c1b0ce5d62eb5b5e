// SPDX-License-Identifier: MIT
// Guest code for the two rings every domain has: xenstore messages and console bytes (xen/include/public/io).
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  al,
  eax,
  ecx,
  edx,
  mem,
  r12,
  r13,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  type Memory,
} from '../../../../engine/x86/assembler/operands.ts';
import { latin1 } from '../../../../engine/x86/assembler/sections.ts';
import { emitHypercall } from '../../../../main/demo-guest/hypercall.ts';
import { CONSOLE_RING, EVTCHN_OP, SCHED_OP, START_INFO, STORE_RING } from '../../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './guest.ts';

/** Message types of xenstore. */
export const XS = {
  directory: 1,
  read: 2,
  getPerms: 3,
  watch: 4,
  unwatch: 5,
  transactionStart: 6,
  transactionEnd: 7,
  getDomainPath: 10,
  write: 11,
  mkdir: 12,
  rm: 13,
  setPerms: 14,
  watchEvent: 15,
  error: 16,
  isDomainIntroduced: 17,
  resetWatches: 21,
  directoryPart: 22,
} as const;

/** Emits ring access for xenstore: `rt_store_open`, `rt_store_exchange`, `rt_store_drain`. */
export function emitStoreRoutines(asm: Assembler): void {
  const at = (disp: number): Memory => mem({ base: rbx, disp });
  emitRingOpen(asm, 'rt_store_open', START_INFO.storeMfn, 'rt_store_ring');

  // rt_store_exchange: sends the message at rsi (rcx bytes) and waits for its reply in rt_store_reply; watch events
  // that come before it are counted and kept.
  const copyOut = asm.unique('copy_out');
  const answer = asm.unique('answer');
  asm
    .label('rt_store_exchange')
    .mov(rbx, mem({ label: 'rt_store_ring' }))
    .mov(edx, at(STORE_RING.requestProducer));
  asm
    .label(copyOut)
    .mov(al, mem({ base: rsi }))
    .mov(rdi, rdx)
    .and(rdi, STORE_RING.size - 1);
  asm
    .mov(mem({ base: rbx, index: rdi }), al)
    .inc(rsi)
    .inc(edx)
    .dec(rcx)
    .j('nz', copyOut);
  asm.mov(at(STORE_RING.requestProducer), edx).call('rt_store_notify');
  asm
    .label(answer)
    .call('rt_store_receive')
    .cmp(mem({ label: 'rt_store_reply', size: 4 }), XS.watchEvent)
    .j('e', answer);
  asm.ret();

  // rt_store_drain: takes the watch events that have already arrived.
  const drained = asm.unique('drained');
  asm
    .label('rt_store_drain')
    .mov(rbx, mem({ label: 'rt_store_ring' }))
    .mov(eax, at(STORE_RING.responseProducer));
  asm.cmp(eax, at(STORE_RING.responseConsumer)).j('e', drained).call('rt_store_receive').jmp('rt_store_drain');
  asm.label(drained).ret();

  // rt_store_receive: one message into rt_store_reply; a watch event also into rt_store_event.
  const noEvent = asm.unique('no_event');
  asm
    .label('rt_store_receive')
    .lea(r12, mem({ label: 'rt_store_reply' }))
    .mov(r13, 16)
    .call('rt_store_take');
  asm.mov({ ...r13, name: 'r13d', size: 4 }, mem({ label: 'rt_store_reply', disp: 12 }));
  asm
    .lea(r12, mem({ label: 'rt_store_reply', disp: 16 }))
    .call('rt_store_take')
    .mov(mem({ base: r12, size: 1 }), 0);
  asm.cmp(mem({ label: 'rt_store_reply', size: 4 }), XS.watchEvent).j('ne', noEvent);
  asm.inc(mem({ label: 'rt_store_events', size: 8 }));
  asm
    .cld()
    .lea(rsi, mem({ label: 'rt_store_reply' }))
    .lea(rdi, mem({ label: 'rt_store_event' }))
    .mov(ecx, 256)
    .rep()
    .movs(1);
  asm.label(noEvent).ret();

  // rt_store_take: r13 bytes of the response ring to r12, which moves on; waits for them.
  const byte = asm.unique('byte');
  const wait = asm.unique('wait');
  const done = asm.unique('done');
  asm.label('rt_store_take').mov(rbx, mem({ label: 'rt_store_ring' }));
  asm.label(byte).test(r13, r13).j('z', done);
  asm.label(wait).mov(ecx, at(STORE_RING.responseConsumer)).cmp(ecx, at(STORE_RING.responseProducer));
  const ready = asm.unique('ready');
  asm.j('ne', ready);
  emitHypercall(asm, 'sched_op', SCHED_OP.yield, 0);
  asm
    .jmp(wait)
    .label(ready)
    .mov(edx, ecx)
    .and(edx, STORE_RING.size - 1);
  asm.mov(al, mem({ base: rbx, index: rdx, disp: STORE_RING.response })).mov(mem({ base: r12 }), al);
  asm.inc(ecx).mov(at(STORE_RING.responseConsumer), ecx).inc(r12).dec(r13).jmp(byte);
  asm.label(done).call('rt_store_notify').ret();

  asm
    .label('rt_store_notify')
    .mov(rax, mem({ label: 'rt_start_info' }))
    .mov(eax, mem({ base: rax, disp: START_INFO.storePort }));
  asm.mov(mem({ label: 'rt_store_port' }), eax);
  emitHypercall(asm, 'event_channel_op', EVTCHN_OP.send, addressOf('rt_store_port'));
  asm.ret();

  // rt_store_number: eax = the decimal number in the payload of the last reply.
  const digit = asm.unique('digit');
  const end = asm.unique('end');
  asm
    .label('rt_store_number')
    .lea(rsi, mem({ label: 'rt_store_reply', disp: 16 }))
    .mov(eax, 0);
  asm
    .label(digit)
    .movzx(ecx, mem({ base: rsi, size: 1 }))
    .sub(ecx, 0x30)
    .cmp(ecx, 9)
    .j('a', end);
  asm.imul(eax, eax, 10).add(eax, ecx).inc(rsi).jmp(digit).label(end).ret();

  // rt_equal: rax = 0 if rcx bytes at rsi and rdi are equal, else 1.
  asm.label('rt_equal').cld().mov(eax, 0).cmp(rcx, 0).rep().cmps(1).set('ne', al).ret();

  asm.section('data').align(8).label('rt_store_ring').dq(0).label('rt_store_port').dq(0).label('rt_store_events').dq(0);
  asm
    .section('bss')
    .align(8)
    .label('rt_store_reply')
    .reserve(4200)
    .label('rt_store_event')
    .reserve(256)
    .section('text');
}

/** Stores the virtual address of a ring, found from its frame number in start_info, at `target`. */
function emitRingOpen(asm: Assembler, label: string, field: number, target: string): void {
  asm
    .label(label)
    .mov(rax, mem({ label: 'rt_start_info' }))
    .mov(rax, mem({ base: rax, disp: field }))
    .shl(rax, 12);
  asm
    .call('rt_frame_to_virt')
    .mov(mem({ label: target }), rax)
    .ret();
}

/** Emits `rt_console_open`, `rt_console_write` (rsi, rcx bytes), `rt_console_read` (al, CF clear if there was none). */
export function emitConsoleRoutines(asm: Assembler): void {
  const at = (disp: number): Memory => mem({ base: rbx, disp });
  emitRingOpen(asm, 'rt_console_open', START_INFO.consoleMfn, 'rt_console_ring');

  const byte = asm.unique('byte');
  const room = asm.unique('room');
  asm
    .label('rt_console_write')
    .mov(rbx, mem({ label: 'rt_console_ring' }))
    .mov(r12, rsi)
    .mov(r13, rcx);
  asm.label(byte).mov(edx, at(CONSOLE_RING.outputProducer)).mov(eax, edx).sub(eax, at(CONSOLE_RING.outputConsumer));
  asm.cmp(eax, CONSOLE_RING.outputSize).j('b', room);
  asm.call('rt_console_notify');
  emitHypercall(asm, 'sched_op', SCHED_OP.yield, 0);
  asm.jmp(byte);
  asm
    .label(room)
    .mov(al, mem({ base: r12 }))
    .mov(ecx, edx)
    .and(ecx, CONSOLE_RING.outputSize - 1);
  asm.mov(mem({ base: rbx, index: rcx, disp: CONSOLE_RING.output }), al).inc(edx);
  asm.mov(at(CONSOLE_RING.outputProducer), edx).inc(r12).dec(r13).j('nz', byte);
  asm.call('rt_console_notify').ret();

  asm.label('rt_console_notify').mov(rax, mem({ label: 'rt_start_info' }));
  asm.mov(eax, mem({ base: rax, disp: START_INFO.consolePort })).mov(mem({ label: 'rt_console_port' }), eax);
  emitHypercall(asm, 'event_channel_op', EVTCHN_OP.send, addressOf('rt_console_port'));
  asm.ret();

  const none = asm.unique('none');
  asm
    .label('rt_console_read')
    .mov(rbx, mem({ label: 'rt_console_ring' }))
    .mov(ecx, at(CONSOLE_RING.inputConsumer));
  asm
    .cmp(ecx, at(CONSOLE_RING.inputProducer))
    .j('e', none)
    .mov(edx, ecx)
    .and(edx, CONSOLE_RING.inputSize - 1);
  asm
    .mov(al, mem({ base: rbx, index: rdx, disp: CONSOLE_RING.input }))
    .inc(ecx)
    .mov(at(CONSOLE_RING.inputConsumer), ecx);
  asm.push(rax).call('rt_console_notify').pop(rax).stc().ret();
  asm.label(none).clc().ret();

  asm.section('data').align(8).label('rt_console_ring').dq(0).label('rt_console_port').dq(0).section('text');
}

/** Words for xenstore in the body of a guest. */
export class StoreLib {
  readonly #lib: GuestLib;

  constructor(lib: GuestLib) {
    this.#lib = lib;
    lib.asm.call('rt_store_open');
  }

  /** Sends a request and waits for the reply. `transaction` is a label of 4 bytes holding the id. */
  request(type: number, payload: string, transaction?: string): void {
    const { asm } = this.#lib;
    const message = this.#lib.data((a) => a.dd(type, 0x5ee, 0, payload.length).ascii(payload));
    if (transaction !== undefined) {
      asm.mov(eax, mem({ label: transaction })).mov(mem({ label: message.label, disp: 8 }), eax);
    }
    asm
      .lea(rsi, mem({ label: message.label }))
      .mov(ecx, 16 + payload.length)
      .call('rt_store_exchange');
  }

  /** Checks type and payload of the last reply. */
  expectReply(check: string, type: number, payload: string): void {
    this.#lib.expectMemory(`${check}: type of the reply`, mem({ label: 'rt_store_reply', size: 4 }), type);
    this.#lib.expectMemory(`${check}: id of the request`, mem({ label: 'rt_store_reply', disp: 4, size: 4 }), 0x5ee);
    this.#expectPayload(check, 'rt_store_reply', payload);
  }

  /** Checks the last watch event. */
  expectEvent(check: string, payload: string): void {
    this.#expectPayload(check, 'rt_store_event', payload);
  }

  #expectPayload(check: string, buffer: string, payload: string): void {
    const { asm } = this.#lib;
    this.#lib.expectMemory(`${check}: length`, mem({ label: buffer, disp: 12, size: 4 }), payload.length);
    const expected = this.#lib.data((a) => a.bytes(latin1(payload)));
    asm
      .lea(rdi, mem({ label: buffer, disp: 16 }))
      .lea(rsi, mem({ label: expected.label }))
      .mov(ecx, payload.length);
    asm.call('rt_equal');
    this.#lib.expect(`${check}: payload`, 0);
  }

  /** Request and reply in one: an error is given by its name. */
  exchange(
    check: string,
    type: number,
    payload: string,
    reply: string | { error: string },
    transaction?: string,
  ): void {
    this.request(type, payload, transaction);
    if (typeof reply === 'string') this.expectReply(check, type, reply);
    else this.expectReply(check, XS.error, `${reply.error}\0`);
  }

  /** Begins a transaction; returns the label of its id. */
  begin(check: string): string {
    const { asm } = this.#lib;
    const id = this.#lib.data((a) => a.dq(0)).label;
    this.request(XS.transactionStart, '\0');
    this.#lib.expectMemory(
      `${check}: type of the reply`,
      mem({ label: 'rt_store_reply', size: 4 }),
      XS.transactionStart,
    );
    asm
      .call('rt_store_number')
      .mov(mem({ label: id }), eax)
      .test(eax, eax);
    this.#lib.expectCondition(`${check}: an id`, 'nz');
    return id;
  }

  /** Checks how many watch events have come since the last such check, those waiting in the ring included. */
  expectEvents(check: string, count: number): void {
    const { asm } = this.#lib;
    asm.call('rt_store_drain');
    this.#lib.expectMemory(check, mem({ label: 'rt_store_events', size: 8 }), count);
    asm.mov(mem({ label: 'rt_store_events', size: 8 }), 0);
  }
}
