// SPDX-License-Identifier: MIT
// Assembles functions into a binary WebAssembly module (core specification 2.0, section 5.5).

import { ByteSink } from './bytes.ts';
import { FunctionBuilder, type Callee } from './function.ts';
import { valTypeCode, type ValType } from './opcodes.ts';

export interface MemoryImport {
  readonly module: string;
  readonly name: string;
  readonly initialPages: number;
  readonly maximumPages: number;
  readonly shared: boolean;
}

/** A function of the module under construction: callable at once, filled in later. */
export interface ModuleFunction extends Callee {
  readonly body: FunctionBuilder;
}

export class ModuleBuilder {
  private readonly types: string[] = [];
  private readonly typeBytes: Uint8Array[] = [];
  private readonly imports: { module: string; name: string; type: number }[] = [];
  private readonly functions: { type: number; body: FunctionBuilder; exportName?: string }[] = [];
  private memory: MemoryImport | undefined;
  private table: readonly ModuleFunction[] = [];
  private importedTable: { module: string; name: string } | undefined;

  private typeIndex(params: readonly ValType[], results: readonly ValType[]): number {
    const key = `${params.join()}>${results.join()}`;
    const known = this.types.indexOf(key);
    if (known >= 0) return known;
    const out = new ByteSink();
    out.byte(0x60);
    for (const list of [params, results]) {
      out.u32(list.length);
      for (const t of list) out.byte(valTypeCode[t]);
    }
    this.typeBytes.push(out.bytes());
    return this.types.push(key) - 1;
  }

  importMemory(memory: MemoryImport): void {
    this.memory = memory;
  }

  /** Imports come before every function: call this first. */
  importFunction(module: string, name: string, params: readonly ValType[], results: readonly ValType[]): Callee {
    if (this.functions.length) throw new Error('imports must precede functions');
    const index = this.imports.push({ module, name, type: this.typeIndex(params, results) }) - 1;
    return { index, params, results };
  }

  function(params: readonly ValType[], results: readonly ValType[], exportName?: string): ModuleFunction {
    const body = new FunctionBuilder(params, results);
    const entry = { type: this.typeIndex(params, results), body, ...(exportName === undefined ? {} : { exportName }) };
    const index = this.imports.length + this.functions.push(entry) - 1;
    return { index, params, results, body };
  }

  /** Imports a table of functions: it is table 0, and `setTable`'s own one becomes table 1. */
  importTable(module: string, name: string): void {
    this.importedTable = { module, name };
  }

  /** Fills the module's own table with functions, for `FunctionBuilder.callIndirect`. */
  setTable(functions: readonly ModuleFunction[]): void {
    this.table = functions;
  }

  /** Number of a function type, for `FunctionBuilder.callIndirect`. */
  typeOf(params: readonly ValType[], results: readonly ValType[]): number {
    return this.typeIndex(params, results);
  }

  /** The module's bytes. */
  encode(): Uint8Array {
    const out = new ByteSink();
    const s = new ByteSink();
    out.raw([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    const section = (id: number, fill: (s: ByteSink) => void) => {
      s.clear();
      fill(s);
      out.byte(id);
      out.u32(s.length);
      out.append(s);
    };
    section(1, (s) => {
      s.u32(this.typeBytes.length);
      for (const t of this.typeBytes) s.raw(t);
    });
    section(2, (s) => {
      s.u32(this.imports.length + (this.memory ? 1 : 0) + (this.importedTable ? 1 : 0));
      for (const i of this.imports) {
        s.name(i.module);
        s.name(i.name);
        s.byte(0);
        s.u32(i.type);
      }
      if (this.memory) {
        s.name(this.memory.module);
        s.name(this.memory.name);
        s.byte(2);
        s.byte(this.memory.shared ? 3 : 1);
        s.u32(this.memory.initialPages);
        s.u32(this.memory.maximumPages);
      }
      if (this.importedTable) {
        s.name(this.importedTable.module);
        s.name(this.importedTable.name);
        s.byte(1);
        s.byte(0x70);
        s.byte(0);
        s.u32(0);
      }
    });
    section(3, (s) => {
      s.u32(this.functions.length);
      for (const f of this.functions) s.u32(f.type);
    });
    if (this.table.length) {
      section(4, (s) => {
        s.u32(1);
        s.byte(0x70);
        s.byte(1);
        s.u32(this.table.length);
        s.u32(this.table.length);
      });
    }
    section(7, (s) => {
      const exported = this.functions.map((f, i) => ({ f, i })).filter(({ f }) => f.exportName !== undefined);
      s.u32(exported.length);
      for (const { f, i } of exported) {
        s.name(f.exportName!);
        s.byte(0);
        s.u32(this.imports.length + i);
      }
    });
    if (this.table.length) {
      section(9, (s) => {
        s.u32(1);
        if (this.importedTable) {
          // Active segment of table 1, function indices.
          s.byte(2);
          s.u32(1);
        } else s.byte(0);
        s.byte(0x41);
        s.s32(0);
        s.byte(0x0b);
        if (this.importedTable) s.byte(0);
        s.u32(this.table.length);
        for (const f of this.table) s.u32(f.index);
      });
    }
    const bodies = this.functions.map((f) => f.body.encode());
    const hinted = this.functions
      .map((f, i) => ({ index: this.imports.length + i, offsets: f.body.unlikelyOffsets() }))
      .filter((h) => h.offsets.length > 0);
    if (hinted.length) {
      // Custom section of the branch-hinting proposal: per function, (offset, size 1, 0 = unlikely).
      section(0, (s) => {
        s.name('metadata.code.branch_hint');
        s.u32(hinted.length);
        for (const { index, offsets } of hinted) {
          s.u32(index);
          s.u32(offsets.length);
          for (const at of offsets) {
            s.u32(at);
            s.byte(1);
            s.byte(0);
          }
        }
      });
    }
    section(10, (s) => {
      s.u32(this.functions.length);
      for (const body of bodies) {
        s.u32(body.length);
        s.append(body);
      }
    });
    return out.bytes();
  }
}
