export const x87HostOps: Record<string, (view: DataView, base: number) => void> = {};
