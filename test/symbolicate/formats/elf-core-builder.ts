/** Draws ELF cores from what they should say: offsets are counted while writing, nothing is shared with the parser. */
type Bits = 32 | 64
export interface Drawn {
  bits: Bits
  machine: number
  bigEndian?: boolean
  /** General registers of each thread, in the kernel's order. */
  threads: { id: number; signal?: number; registers: bigint[] }[]
  siginfo?: { signal: number; code: number; address: bigint }
  process?: { pid: number; name: string; command: string }
  auxv?: [number, bigint][]
  files?: { start: bigint; end: bigint; page: bigint; path: string }[]
  memory: { address: bigint; flags: number; bytes: Uint8Array; size?: bigint }[]
}

export function drawCore({ bits, machine, bigEndian = false, threads, siginfo, process, auxv, files, memory }: Drawn): Buffer {
  const le = !bigEndian
  const out = {
    u16: (value: number) => number(2, (b) => (le ? b.writeUInt16LE(value) : b.writeUInt16BE(value))),
    u32: (value: number) => number(4, (b) => (le ? b.writeUInt32LE(value >>> 0) : b.writeUInt32BE(value >>> 0))),
    word: (value: bigint | number) => (bits === 64 ? number(8, (b) => (le ? b.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value))) : b.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value))))) : out.u32(Number(BigInt.asUintN(32, BigInt(value))))),
  }
  const notes = Buffer.concat([
    ...threads.map((thread) => note(1, [
      out.u32(0), out.u32(0), out.u32(0), out.u16(thread.signal ?? 0), out.u16(0), out.word(0), out.word(0),
      out.u32(thread.id), out.u32(0), out.u32(0), out.u32(0), ...Array.from({ length: 8 }, () => out.word(0)), ...thread.registers.map(out.word), out.word(0),
    ])),
    ...(process ? [note(3, [Buffer.alloc(bits === 64 ? 24 : 12), out.u32(process.pid), Buffer.alloc(12), padded(process.name, 16), padded(process.command, 80)])] : []),
    ...(siginfo ? [note(0x53494749, [out.u32(siginfo.signal), out.u32(0), out.u32(siginfo.code), ...(bits === 64 ? [out.u32(0)] : []), out.word(siginfo.address), Buffer.alloc(64)])] : []),
    ...(auxv ? [note(6, [...auxv, [0, 0n] as [number, bigint]].flatMap(([type, value]) => [out.word(type), out.word(value)]))] : []),
    ...(files ? [note(0x46494c45, [out.word(files.length), out.word(4096), ...files.flatMap(({ start, end, page }) => [out.word(start), out.word(end), out.word(page)]), ...files.map(({ path }) => Buffer.from(`${path}\0`))])] : []),
  ])
  const headerSize = bits === 64 ? 64 : 52
  const entry = bits === 64 ? 56 : 32
  let at = headerSize + entry * (memory.length + 1)
  const segment = (type: number, flags: number, address: bigint, fileSize: number, memorySize: bigint): Buffer => {
    const parts = bits === 64
      ? [out.u32(type), out.u32(flags), out.word(at), out.word(address), out.word(0), out.word(fileSize), out.word(memorySize), out.word(1)]
      : [out.u32(type), out.word(at), out.word(address), out.word(0), out.word(fileSize), out.word(memorySize), out.u32(flags), out.word(1)]
    at += fileSize
    return Buffer.concat(parts)
  }
  const segments = [segment(4, 0, 0n, notes.length, 0n), ...memory.map(({ address, flags, bytes, size }) => segment(1, flags, address, bytes.length, size ?? BigInt(bytes.length)))]
  const header = Buffer.concat([
    Buffer.from([0x7f, 0x45, 0x4c, 0x46, bits / 32, le ? 1 : 2, 1]), Buffer.alloc(9), out.u16(4), out.u16(machine), out.u32(1), out.word(0), out.word(headerSize), out.word(0), out.u32(0),
    out.u16(headerSize), out.u16(entry), out.u16(segments.length), out.u16(0), out.u16(0), out.u16(0),
  ])
  return Buffer.concat([header, ...segments, notes, ...memory.map(({ bytes }) => bytes)])

  function number(size: number, write: (bytes: Buffer) => void): Buffer {
    const bytes = Buffer.alloc(size)
    write(bytes)
    return bytes
  }
  function note(type: number, parts: Buffer[]): Buffer {
    const content = Buffer.concat(parts)
    return Buffer.concat([out.u32(5), out.u32(content.length), out.u32(type), Buffer.from('CORE\0\0\0\0'), content, Buffer.alloc((4 - (content.length % 4)) % 4)])
  }
  function padded(text: string, size: number): Buffer {
    return Buffer.concat([Buffer.from(text).subarray(0, size), Buffer.alloc(Math.max(0, size - Buffer.byteLength(text)))])
  }
}

/** The first page of a small ELF program: its headers and a build id. */
export function drawImage(bits: Bits, buildId: Uint8Array): Buffer {
  const page = Buffer.alloc(4096)
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]).copy(page)
  const word = (value: number, at: number): void => void (bits === 64 ? page.writeBigUInt64LE(BigInt(value), at) : page.writeUInt32LE(value, at))
  page.writeUInt16LE(3, 16)
  const wide = bits === 64
  word(wide ? 64 : 52, wide ? 32 : 28)
  page.writeUInt16LE(wide ? 56 : 32, wide ? 54 : 42)
  page.writeUInt16LE(2, wide ? 56 : 44)
  const segment = (at: number, type: number, offset: number, size: number): void => {
    page.writeUInt32LE(type, at)
    word(offset, at + (wide ? 8 : 4))
    word(offset, at + (wide ? 16 : 8))
    word(size, at + (wide ? 32 : 16))
    word(size, at + (wide ? 40 : 20))
  }
  segment(wide ? 64 : 52, 1, 0, 4096)
  segment(wide ? 120 : 84, 4, 512, 16 + buildId.length)
  Buffer.concat([Buffer.from([4, 0, 0, 0, buildId.length, 0, 0, 0, 3, 0, 0, 0]), Buffer.from('GNU\0'), buildId]).copy(page, 512)
  return page
}
