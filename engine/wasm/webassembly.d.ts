// SPDX-License-Identifier: MIT
// The part of the WebAssembly JavaScript API that the engine uses: it is a standard of its own, in none of TypeScript's ES libraries.

declare namespace WebAssembly {
  interface MemoryDescriptor {
    initial: number;
    maximum?: number;
    shared?: boolean;
  }
  class Memory {
    constructor(descriptor: MemoryDescriptor);
    readonly buffer: ArrayBufferLike;
    grow(delta: number): number;
  }
  class Module {
    constructor(bytes: ArrayBufferView | ArrayBuffer);
  }
  interface TableDescriptor {
    element: 'anyfunc';
    initial: number;
    maximum?: number;
  }
  class Table {
    constructor(descriptor: TableDescriptor);
    readonly length: number;
    get(index: number): Function | null;
    set(index: number, value: Function | null): void;
    grow(delta: number): number;
  }
  class Global {
    constructor(descriptor: { value: 'i32'; mutable?: boolean }, value: number);
    readonly value: number;
  }
  type ExportValue = Function | Memory | Table;
  class Instance {
    constructor(module: Module, imports?: Record<string, Record<string, unknown>>);
    readonly exports: Record<string, ExportValue>;
  }
  function validate(bytes: ArrayBufferView | ArrayBuffer): boolean;
}
