/** Draws ELF files, DWARF and symbol tables byte by byte, for parsers that must not agree with themselves. */
import { createHash } from 'node:crypto'

export interface DrawnSection { name: string; type?: number; flags?: number; address?: number; bytes: Uint8Array; link?: string; size?: number }
export interface DrawnElf { bits?: 32 | 64; machine?: number; type?: number; bigEndian?: boolean; sections: DrawnSection[]; loads?: { address: number; size: number; flags?: number }[] }

export const NOBITS = 8
export const CODE = 6

export function drawElf({ bits = 64, machine = 62, type = 2, bigEndian = false, sections, loads = [] }: DrawnElf): Buffer {
  const wide = bits === 64
  const word = (value: number | bigint): Buffer => (wide ? u64(value) : u32(Number(value)))
  const headerSize = wide ? 64 : 52
  const all: DrawnSection[] = [{ name: '', type: 0, bytes: Buffer.alloc(0) }, ...sections, { name: '.shstrtab', type: 3, bytes: Buffer.alloc(0) }]
  const names = Buffer.from(`\0${all.slice(1).map(({ name }) => `${name}\0`).join('')}`, 'latin1')
  all.at(-1)!.bytes = names
  const phSize = wide ? 56 : 32
  let at = headerSize + loads.length * phSize
  const offsets = all.map(({ bytes, type: kind }) => {
    const offset = at
    if (kind !== NOBITS) at += bytes.length
    return offset
  })
  const headers = all.map((section, index) => {
    const { name, type: kind = 1, flags = 0, address = 0, bytes, link, size = bytes.length } = section
    const nameAt = name === '' ? 0 : names.indexOf(`\0${name}\0`, 0, 'latin1') + 1
    const linked = link === undefined ? 0 : all.findIndex((one) => one.name === link)
    return Buffer.concat([u32(nameAt), u32(index === 0 ? 0 : kind), word(flags), word(address), word(offsets[index]!), word(size), u32(linked), u32(0), word(1), word(kind === 2 ? (wide ? 24 : 16) : 0)])
  })
  const segments = loads.map(({ address, size, flags = 5 }) => (wide
    ? Buffer.concat([u32(1), u32(flags), u64(0), u64(address), u64(address), u64(size), u64(size), u64(4096)])
    : Buffer.concat([u32(1), u32(0), u32(address), u32(address), u32(size), u32(size), u32(flags), u32(4096)])))
  const header = Buffer.concat([
    Buffer.from([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, bigEndian ? 2 : 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), u16(type), u16(machine), u32(1), word(0), word(loads.length > 0 ? headerSize : 0), word(at),
    u32(0), u16(headerSize), u16(phSize), u16(loads.length), u16(wide ? 64 : 40), u16(all.length), u16(all.length - 1),
  ])
  return Buffer.concat([header, ...segments, ...all.filter(({ type: kind }) => kind !== NOBITS).map(({ bytes }) => bytes), ...headers])
}

export interface DrawnSymbol { name: string; value: number; size?: number; type?: number; bind?: number }

/** .symtab and its .strtab; symbols are of section 1. */
export function drawSymbols(symbols: DrawnSymbol[], bits: 32 | 64 = 64): DrawnSection[] {
  const names = Buffer.from(`\0${symbols.map(({ name }) => `${name}\0`).join('')}`, 'latin1')
  const entries = symbols.map(({ name, value, size = 0, type = 2, bind = 1 }) => {
    const at = u32(names.indexOf(`\0${name}\0`, 0, 'latin1') + 1)
    const info = Buffer.from([(bind << 4) | type, 0])
    return bits === 64 ? Buffer.concat([at, info, u16(1), u64(value), u64(size)]) : Buffer.concat([at, u32(value), u32(size), info, u16(1)])
  })
  const empty = Buffer.alloc(bits === 64 ? 24 : 16)
  return [{ name: '.symtab', type: 2, bytes: Buffer.concat([empty, ...entries]), link: '.strtab' }, { name: '.strtab', type: 3, bytes: names }]
}

export const drawText = (address: number, size: number): DrawnSection => ({ name: '.text', flags: CODE, address, bytes: Buffer.alloc(size, 0x90) })

export function drawBuildId(hex: string): DrawnSection {
  const id = Buffer.from(hex, 'hex')
  return { name: '.note.gnu.build-id', type: 7, flags: 2, bytes: Buffer.concat([u32(4), u32(id.length), u32(3), Buffer.from('GNU\0'), id]) }
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export const u8 = (...values: number[]): Buffer => Buffer.from(values.map((value) => value & 255))
export const u16 = (value: number): Buffer => Buffer.from([value & 255, (value >> 8) & 255])
export const u32 = (value: number): Buffer => { const out = Buffer.alloc(4); out.writeUInt32LE(value >>> 0); return out }
export const u64 = (value: number | bigint): Buffer => { const out = Buffer.alloc(8); out.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value))); return out }
export const text = (value: string): Buffer => Buffer.from(`${value}\0`, 'latin1')

export function uleb(value: number): Buffer {
  const out: number[] = []
  do {
    out.push(value % 128 + (value >= 128 ? 128 : 0))
    value = Math.floor(value / 128)
  } while (value > 0)
  return Buffer.from(out)
}

/** With its length in front, as units and programs of DWARF have it. */
export const measured = (...parts: Uint8Array[]): Buffer => { const body = Buffer.concat(parts); return Buffer.concat([u32(body.length), body]) }
