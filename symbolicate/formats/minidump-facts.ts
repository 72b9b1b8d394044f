/**
 * The small streams of a minidump: what it says about the machine and the process beside threads and memory.
 *
 *   misc info (15)              size u32, flags u32, [0] process id u32, [1] create time u32, user and kernel time u32
 *   Breakpad info (0x47670001)  validity u32 (bit 0: writer, bit 1: requester), both threads u32
 *   assertion (0x47670002)      expression, function and file as u16[128] each, line u32, type u32
 *   cpuinfo, lsb-release (0x47670003, 5)   the text files of Linux
 *   macOS crash info (0x4d7a0001), boot arguments (0x4d7a0002)   Mozilla's and Crashpad's, see below
 *
 * A client also writes its command line, environment and auxiliary vector (0x47670006 to 8). They are left where they are:
 * the first two hold what people type and tokens, and nothing here is found by the third.
 */
import { InputError, type Reader } from '../reader.ts'
import type { Cpu, Distribution, MacCrashRecord } from './dump.ts'
import { utf16, utf16String, utf8 } from './minidump-text.ts'

export interface Location { rva: number; size: number }

/** Family, model and stepping as rust-minidump prints them; 12 bytes of vendor where the CPU is an x86. */
export function cpuInfo(file: Reader, rva: number, cpu: Cpu): { cpuInfo: string | null; cpuCount: number } {
  const level = file.seek(rva + 2).u16()
  const revision = file.u16()
  const cpuCount = file.u8()
  const numbers = `family ${level} model ${revision >>> 8} stepping ${revision & 0xff}`
  if (cpu === 'x86') return { cpuCount, cpuInfo: `${utf8(file.slice(rva + 32, 12, 'vendor')).replace(/[^\x20-\x7e]/g, '')} ${numbers}`.trim() }
  return { cpuCount, cpuInfo: cpu === 'x86-64' ? numbers : cpu === 'arm' ? `ARMv${level}` : null }
}

export function readMisc(file: Reader): { pid: number | null; startedAt: number | null } {
  const flags = file.skip(4).u32()
  const pid = file.u32()
  return { pid: flags & 1 ? pid : null, startedAt: flags & 2 ? file.u32() || null : null }
}

export function readBreakpad(file: Reader): { writer: number | null; requester: number | null } {
  const validity = file.u32()
  const writer = file.u32()
  const requester = file.u32()
  return { writer: validity & 1 ? writer : null, requester: validity & 2 ? requester : null }
}

export function readAssertion(file: Reader, { rva }: Location): string | null {
  file.need(rva, 776, 'assertion')
  const text = (at: number): string => utf16(file.slice(at, 256, 'assertion'), file.littleEndian)
  const [expression, where, source] = [text(rva), text(rva + 256), text(rva + 512)]
  const line = file.seek(rva + 768).u32()
  const place = [where && `in ${where}`, source && `at ${source}:${line}`].filter(Boolean).join(' ')
  return [expression, place].filter(Boolean).join(' ') || null
}

/** `microcode\t: 0x2b`, the same for all cores. */
export const microcode = (cpuinfo: Uint8Array): string | null => /^microcode\s*:\s*(0x[0-9a-f]{1,16})\s*$/m.exec(utf8(cpuinfo))?.[1] ?? null

/** `DISTRIB_ID=Ubuntu` of /etc/lsb-release, `ID="debian"` of /etc/os-release. */
export function distribution(file: Uint8Array): Distribution {
  const values = new Map([...utf8(file).matchAll(/^([A-Z_]{1,40})=(.{0,500})$/gm)].map(([, name, value]) => [name!, value!.trim().replace(/^(["'])(.*)\1$/, '$2')]))
  const first = (...names: string[]): string => names.map((name) => values.get(name)).find((value) => value !== undefined) ?? ''
  return {
    id: first('DISTRIB_ID', 'ID'), release: first('DISTRIB_RELEASE', 'VERSION_ID'), codename: first('DISTRIB_CODENAME', 'VERSION_CODENAME'),
    description: first('DISTRIB_DESCRIPTION', 'PRETTY_NAME'),
  }
}

const MOST_RECORDS = 20
const LONGEST_CRASH_TEXT = 8192
const STRINGS = ['module', 'message', 'signature_string', 'backtrace', 'message2'] as const

/**
 * What libraries left in their `__DATA,__crash_info` sections (CrashReporterClient.h).
 *
 *   header: stream type u32, count u32, size of a record's fixed part u32, then 20 x {size u32, rva u32}
 *   record: stream type u64, version u64, [4] thread u64, dialog mode u64, [5] abort cause u64; behind the fixed part the
 *           strings of version 4, each ended by NUL
 */
export function readMacCrashInfo(file: Reader, { rva }: Location): MacCrashRecord[] {
  const claimed = file.seek(rva + 4).u32()
  const fixed = file.u32()
  const records: MacCrashRecord[] = []
  for (let index = 0; index < Math.min(claimed, MOST_RECORDS); index++) {
    const size = file.seek(rva + 12 + index * 8).u32()
    const record = file.part(file.u32(), size, 'macOS crash info').seek(8)
    const version = record.u64()
    if (version < 4n) continue
    const [thread, dialogMode] = [record.u64(), record.u64()]
    records.push({ thread, dialogMode, abortCause: version < 5n ? 0n : record.u64(), ...crashStrings(record, fixed) })
  }
  return records
}

function crashStrings(record: Reader, from: number): Record<(typeof STRINGS)[number], string> {
  let at = from
  const texts = STRINGS.map((name) => {
    record.need(at, 1, name)
    const bytes = record.bytes.subarray(at, at + LONGEST_CRASH_TEXT)
    const end = bytes.indexOf(0)
    if (end < 0) throw new InputError('dump-malformed', `macOS crash info: ${name} doesn't end within ${bytes.length} bytes`)
    at += end + 1
    return [name, utf8(bytes.subarray(0, end))] as const
  })
  return Object.fromEntries(texts) as Record<(typeof STRINGS)[number], string>
}

/** Stream type u32, then the offset of a string as u64 without padding. */
export const readBootArguments = (file: Reader): string | null => utf16String(file, file.skip(4).size64('boot arguments'))
