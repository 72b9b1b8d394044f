/**
 * Modules of a minidump and what identifies their build.
 *
 *   MINIDUMP_MODULE (108 bytes): base u64, size u32, checksum u32, time stamp u32, name rva u32, VS_FIXEDFILEINFO (52),
 *     CodeView record {size u32, rva u32}, misc record {size u32, rva u32}, reserved u64 x 2
 *   CodeView: 'RSDS' guid(16) age(u32) path\0      PDB 7.0; Breakpad writes it for Mach-O and, in old clients, ELF too
 *             'BpEL' build id to the end           ELF
 *             'NB10' offset(u32) stamp(u32) age(u32) path\0    PDB 2.0
 */
import type { Module, Note, Os } from './dump.ts'
import type { Reader } from '../reader.ts'
import { utf16String, utf8 } from './minidump-text.ts'

export const MODULE_SIZE = 108
const LONGEST_BUILD_ID = 64
const VERSION_SIGNATURE = 0xfeef04bd
const VERSION_STRUCTURE = 0x10000
const SIGNATURE = { RSDS: 0x53445352, BpEL: 0x4270454c, NB10: 0x3031424e }

/** One entry at the file's absolute offset `at`. */
export function readModule(file: Reader, at: number, os: Os): Module {
  file.need(at, MODULE_SIZE, 'module')
  file.seek(at)
  const base = file.u64()
  const size = file.u32()
  file.skip(4)
  const stamp = file.u32()
  const nameRva = file.u32()
  const version = readVersion(file, os)
  const cvSize = file.seek(at + 76).u32()
  const cvRva = file.u32()
  const name = utf16String(file, nameRva) ?? ''
  const identity = cvSize > 0 ? readCodeView(file, cvRva, cvSize, name, os) : NO_IDENTITY
  const codeId = os === 'windows' ? `${stamp.toString(16).padStart(8, '0')}${size.toString(16)}` : identity.codeId
  return { base, size, name, version, codeId, debugId: identity.debugId, debugFile: identity.debugFile }
}

/** MINIDUMP_UNLOADED_MODULE: base u64, size u32, checksum u32, time stamp u32, name rva u32. */
export const UNLOADED_SIZE = 24
export function readUnloadedModule(file: Reader, at: number): Module {
  file.need(at, UNLOADED_SIZE, 'unloaded module')
  file.seek(at)
  const base = file.u64()
  const size = file.u32()
  file.skip(4)
  const stamp = file.u32()
  const nameRva = file.u32()
  const codeId = `${stamp.toString(16).padStart(8, '0')}${size.toString(16)}`
  return { base, size, name: utf16String(file, nameRva) ?? '', codeId, debugId: null, debugFile: null, version: null }
}

/**
 * Sorted by base and free of overlaps, so that an address has one answer. `order[i]` is where the file's i-th module went
 * (-1: dropped), because other streams name modules by the file's index.
 */
export function arrangeModules(modules: Module[], notes: Note[]): { modules: Module[]; order: number[] } {
  const order = new Array<number>(modules.length).fill(-1)
  const arranged: Module[] = []
  let dropped = 0
  const byBase = modules.map((module, index) => ({ module, index })).sort((a, b) => (a.module.base < b.module.base ? -1 : a.module.base > b.module.base ? 1 : a.index - b.index))
  for (const { module, index } of byBase) {
    const last = arranged.at(-1)
    if (module.size === 0 || (last && module.base < last.base + BigInt(last.size))) {
      dropped++
      continue
    }
    order[index] = arranged.length
    arranged.push(module)
  }
  if (dropped > 0) notes.push({ slug: 'modules-dropped', text: `${dropped} modules are empty or overlap another and were left out` })
  return { modules: arranged, order }
}

interface Identity { codeId: string | null; debugId: string | null; debugFile: string | null }
const NO_IDENTITY: Identity = { codeId: null, debugId: null, debugFile: null }

function readCodeView(file: Reader, rva: number, size: number, name: string, os: Os): Identity {
  const record = file.part(rva, size, 'CodeView record')
  if (record.length < 4) return NO_IDENTITY
  switch (record.u32()) {
    case SIGNATURE.RSDS: {
      if (record.length < 24) return NO_IDENTITY
      const guid = record.bytes.subarray(4, 20)
      if (guid.every((byte) => byte === 0)) return NO_IDENTITY
      const age = record.seek(20).u32()
      // Old Breakpad copies an ELF build id into the GUID as it is; a Mach-O UUID goes through the GUID's fields.
      const codeId = hex(os === 'linux' || os === 'android' ? guid : uuidOrder(guid, file.littleEndian))
      return { codeId, debugId: debugId(guid, age, file.littleEndian), debugFile: utf8(record.bytes.subarray(24)) || name }
    }
    case SIGNATURE.BpEL: {
      const buildId = record.bytes.subarray(4, 4 + LONGEST_BUILD_ID)
      if (buildId.length === 0 || buildId.every((byte) => byte === 0)) return NO_IDENTITY
      const padded = new Uint8Array(16)
      padded.set(buildId.subarray(0, 16))
      return { codeId: hex(buildId), debugId: debugId(padded, 0, true), debugFile: name }
    }
    case SIGNATURE.NB10: {
      if (record.length < 16) return NO_IDENTITY
      const stamp = record.seek(8).u32()
      const age = record.u32()
      return { codeId: null, debugId: `${stamp.toString(16).toUpperCase().padStart(8, '0')}${age.toString(16)}`, debugFile: utf8(record.bytes.subarray(16)) || name }
    }
    default:
      return NO_IDENTITY
  }
}

/** Breakpad prints a GUID as its fields (u32, u16, u16, bytes), then the age. */
function debugId(guid: Uint8Array, age: number, littleEndian: boolean): string {
  return `${hex(littleEndian ? uuidOrder(guid, true) : guid).toUpperCase()}${age.toString(16)}`
}

function uuidOrder(guid: Uint8Array, littleEndian: boolean): Uint8Array {
  if (!littleEndian) return guid
  const swapped = new Uint8Array(guid)
  for (const [from, to] of [[0, 4], [4, 6], [6, 8]]) swapped.subarray(from, to).reverse()
  return swapped
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')

/**
 * VS_FIXEDFILEINFO: signature, structure version, file version high and low, product version high and low. Windows packs two
 * numbers into a word; rust-minidump's writer on Linux writes one a word, from the numbers behind `.so`.
 */
function readVersion(file: Reader, os: Os): string | null {
  const signature = file.u32()
  const structure = file.u32()
  const words = [file.u32(), file.u32(), file.u32(), file.u32()]
  if (signature !== VERSION_SIGNATURE || structure !== VERSION_STRUCTURE) return null
  if (os === 'linux' || os === 'android') return words.join('.')
  return words.slice(0, 2).map((word) => `${word >>> 16}.${word & 0xffff}`).join('.')
}
