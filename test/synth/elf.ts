/**
 * Draws ELF64 shared objects and DWARF 4 for tests, field by field as gABI chapter 4 and DWARF 4 section 7 list them; it
 * shares no layout with the reader.
 */
export interface DrawnElf { machine?: number; sections: Record<string, { bytes: Uint8Array; address?: number; type?: number; flags?: number }> }

export function drawElf({ machine = 62, sections }: DrawnElf): Uint8Array {
  const list = Object.entries(sections)
  const names = Buffer.from(`\0${[...list.map(([name]) => name), '.shstrtab'].join('\0')}\0`)
  const pieces: Buffer[] = []
  let place = 64 + 56
  const headers = [Buffer.alloc(64)]
  for (const [name, { bytes, address = 0, type = 1, flags = 0 }] of [...list, ['.shstrtab', { bytes: names, type: 3 } as DrawnElf['sections'][string]] as const]) {
    const header = Buffer.alloc(64)
    header.writeUInt32LE(names.indexOf(`\0${name}\0`) + 1, 0)
    header.writeUInt32LE(type, 4)
    header.writeBigUInt64LE(BigInt(flags), 8)
    header.writeBigUInt64LE(BigInt(address), 16)
    header.writeBigUInt64LE(BigInt(place), 24)
    header.writeBigUInt64LE(BigInt(bytes.length), 32)
    header.writeBigUInt64LE(1n, 48)
    headers.push(header)
    pieces.push(Buffer.from(bytes))
    place += bytes.length
  }
  const head = Buffer.alloc(64)
  head.write('\x7fELF\x02\x01\x01', 'latin1')
  head.writeUInt16LE(3, 16)
  head.writeUInt16LE(machine, 18)
  head.writeUInt32LE(1, 20)
  head.writeBigUInt64LE(64n, 32)
  head.writeBigUInt64LE(BigInt(place), 40)
  head.writeUInt16LE(64, 52)
  head.writeUInt16LE(56, 54)
  head.writeUInt16LE(1, 56)
  head.writeUInt16LE(64, 58)
  head.writeUInt16LE(headers.length, 60)
  head.writeUInt16LE(headers.length - 1, 62)
  const load = Buffer.alloc(56)
  load.writeUInt32LE(1, 0)
  load.writeUInt32LE(5, 4)
  load.writeBigUInt64LE(BigInt(place), 32)
  load.writeBigUInt64LE(0x10_0000n, 40)
  return new Uint8Array(Buffer.concat([head, load, ...pieces, ...headers]))
}

export function uleb(value: number): number[] {
  const out: number[] = []
  do {
    const byte = value % 128
    value = Math.floor(value / 128)
    out.push(value > 0 ? byte | 0x80 : byte)
  } while (value > 0)
  return out
}

export const u32 = (value: number): number[] => [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]
export const u64 = (value: number): number[] => [...u32(value >>> 0), ...u32(Math.floor(value / 2 ** 32))]
export const cstring = (text: string): number[] => [...Buffer.from(text), 0]

/** Code, tag, has children, attribute and form pairs. */
export const abbreviation = (code: number, tag: number, children: boolean, attributes: [attribute: number, form: number][]): number[] =>
  [...uleb(code), ...uleb(tag), children ? 1 : 0, ...attributes.flatMap(([attribute, form]) => [...uleb(attribute), ...uleb(form)]), 0, 0]

/** One compilation unit of DWARF 4 around entries; the first entry starts at offset 11. */
export const unit = (entries: Uint8Array | number[]): Uint8Array =>
  new Uint8Array(Buffer.concat([Buffer.from([...u32(7 + entries.length), 4, 0, ...u32(0), 8]), Buffer.from(entries)]))
