/**
 * Makes one real x86-64 minidump into many that differ as devices differ: another program counter, fault address or
 * register, everything else as the crash handler wrote it. Only the exception stream is touched.
 * Layout: MINIDUMP_HEADER, MINIDUMP_DIRECTORY, MINIDUMP_EXCEPTION_STREAM and CONTEXT (AMD64) of winnt.h.
 */
export interface Variation {
  /** si_addr, as the handler reports it. */
  faultAddress?: bigint
  pc?: bigint
  rdi?: bigint
  rax?: bigint
}

const EXCEPTION_STREAM = 6
const EXCEPTION_ADDRESS = 24
const CONTEXT_LOCATION = 160
const AMD64 = { rax: 0x78, rdi: 0xb0, rip: 0xf8 }

export function varyMinidump(original: Uint8Array, variation: Variation): Uint8Array {
  const bytes = Uint8Array.from(original)
  const view = new DataView(bytes.buffer)
  const exception = findStream(view, EXCEPTION_STREAM)
  const context = view.getUint32(exception + CONTEXT_LOCATION + 4, true)
  if (variation.faultAddress !== undefined) view.setBigUint64(exception + EXCEPTION_ADDRESS, variation.faultAddress, true)
  if (variation.pc !== undefined) view.setBigUint64(context + AMD64.rip, variation.pc, true)
  if (variation.rdi !== undefined) view.setBigUint64(context + AMD64.rdi, variation.rdi, true)
  if (variation.rax !== undefined) view.setBigUint64(context + AMD64.rax, variation.rax, true)
  return bytes
}

function findStream(view: DataView, type: number): number {
  const count = view.getUint32(8, true)
  const directory = view.getUint32(12, true)
  for (let i = 0; i < count; i++) {
    if (view.getUint32(directory + i * 12, true) === type) return view.getUint32(directory + i * 12 + 8, true)
  }
  throw new Error(`minidump has no stream ${type}`)
}
