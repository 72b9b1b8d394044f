/**
 * Breakpad's microdump: what its client for small devices writes into the system log where no file can be kept.
 *
 *   log     = line*                      prefixes of logcat or syslog up to `google-breakpad...: ` are skipped
 *   dump    = '-----BEGIN BREAKPAD MICRODUMP-----' record* '-----END BREAKPAD MICRODUMP-----'
 *   record  = 'V ' product ':' version
 *           | 'O ' ('A' | 'L') ' ' cpu ' ' count ' ' machine ' ' os version
 *           | 'P ' process type
 *           | 'R ' signal ' ' name ' ' address           since Chromium 62; older clients don't say what went wrong
 *           | 'G ' gpu | 'H ' heap statistics
 *           | 'S 0 ' sp ' ' start ' ' length             one, then the stack in pieces:
 *           | 'S ' address ' ' bytes
 *           | 'C ' bytes                                 the CPU's context as in a minidump
 *           | 'M ' start ' ' file offset ' ' size ' ' debug id ' ' name
 *
 * Numbers are hexadecimal. Source: Breakpad's client/linux/microdump_writer and processor/microdump.h. The first dump of a
 * log is read; what is cut off leaves a note. Linear in the bytes.
 */
import { InputError, Reader } from '../reader.ts'
import type { Cpu, Dump, Exception, Module, Note, Os } from './dump.ts'
import { createMemory, type MemoryPiece } from './memory.ts'
import { readContext } from './minidump-context.ts'
import { arrangeModules } from './minidump-modules.ts'
import { linesOf, TEXT_BUDGET, type TextBudget } from './text/lines.ts'

export const MICRODUMP_BEGIN = '-----BEGIN BREAKPAD MICRODUMP-----'
const MICRODUMP_END = '-----END BREAKPAD MICRODUMP-----'

export type MicrodumpResult = { dump: Dump } | { slug: 'dump-empty' | 'dump-truncated' | 'dump-malformed'; reason: string }

/** A context is below 2 KiB; lines of stack are as long as the client's log allows. */
export const MICRODUMP_BUDGET: TextBudget = { ...TEXT_BUDGET, lineLength: 16 * 1024 }
const MOST_MODULES = 8192
const MOST_ANNOTATION = 1024

export function parseMicrodump(bytes: Uint8Array, budget: TextBudget = MICRODUMP_BUDGET): MicrodumpResult {
  if (bytes.length === 0) return { slug: 'dump-empty', reason: 'microdump: no bytes' }
  const { lines, notes } = linesOf(bytes, budget)
  const begin = lines.findIndex((line) => line.includes(MICRODUMP_BEGIN))
  if (begin < 0) return { slug: 'dump-malformed', reason: `microdump: no ${MICRODUMP_BEGIN} in ${lines.length} lines` }
  const length = lines.slice(begin + 1).findIndex((line) => line.includes(MICRODUMP_END))
  if (length < 0) notes.push({ slug: 'stream-truncated', text: 'microdump: the log ends before its end marker' })
  const records = readRecords(lines.slice(begin + 1, length < 0 ? undefined : begin + 1 + length), notes)
  if (records.context === null) {
    const reason = 'microdump: no CPU context (C record)'
    return length < 0 ? { slug: 'dump-truncated', reason } : { slug: 'dump-malformed', reason }
  }
  return { dump: dumpOf(records, records.context, notes) }
}

interface Records {
  os: Os
  osVersion: string | null
  cpu: Cpu
  exception: Exception | null
  /** Stack pointer as the client saw it, and where the stack lies. */
  stack: { base: bigint; size: number } | null
  pieces: MemoryPiece[]
  context: Uint8Array | null
  modules: Module[]
  annotations: Record<string, string>
}

function readRecords(lines: string[], notes: Note[]): Records {
  const records: Records = { os: 'unknown', osVersion: null, cpu: 'unknown', exception: null, stack: null, pieces: [], context: null, modules: [], annotations: {} }
  let unread = 0
  for (const line of lines) {
    const record = recordOf(line)
    if (record !== null && !readRecord(record.type, record.text, records)) unread++
  }
  if (unread > 0) notes.push({ slug: 'stream-malformed', text: `microdump: ${unread} lines could not be read` })
  return records
}

/** What stands behind the log's own prefix; null for lines of other programs. */
function recordOf(line: string): { type: string; text: string } | null {
  const key = line.indexOf('google-breakpad')
  const from = key < 0 ? 0 : line.indexOf(': ', key) + 2
  if (key >= 0 && from < 2) return null
  const match = /^([VOPRGHSCM])(?: (.*))?$/.exec(line.slice(from).trimEnd())
  return match && { type: match[1]!, text: match[2] ?? '' }
}

/** False when the record isn't as its grammar says. */
function readRecord(type: string, text: string, into: Records): boolean {
  switch (type) {
    case 'O': return readSystem(text, into)
    case 'R': return readReason(text, into)
    case 'S': return readStack(text, into)
    case 'C':
      into.context ??= hexBytes(text)
      return into.context !== null
    case 'M': return readModule(text, into)
    case 'V': case 'P': case 'G':
      into.annotations[{ V: 'version', P: 'process-type', G: 'gpu' }[type]] = text.slice(0, MOST_ANNOTATION)
      return true
    default:
      return true
  }
}

const SYSTEMS: Record<string, Os> = { A: 'android', L: 'linux' }
const CPUS: Record<string, Cpu> = { arm: 'arm', arm64: 'arm64', x86: 'x86', x86_64: 'x86-64', mips: 'mips', mips64: 'mips64', riscv32: 'riscv32', riscv64: 'riscv64' }

function readSystem(text: string, into: Records): boolean {
  const match = /^([A-Z]) (\w{1,16}) [0-9A-Fa-f]{1,8}(?: \S+)?(?: (.{1,512}))?/.exec(text)
  if (!match) return false
  into.os = SYSTEMS[match[1]!] ?? 'unknown'
  into.cpu = CPUS[match[2]!] ?? 'unknown'
  into.osVersion = match[3]?.trim() ?? null
  return true
}

function readReason(text: string, into: Records): boolean {
  const match = /^([0-9A-Fa-f]{1,8}) (\S{1,64}) ([0-9A-Fa-f]{1,16})$/.exec(text)
  if (!match) return false
  into.exception = { type: match[2]!, code: Number.parseInt(match[1]!, 16), subcode: null, address: BigInt(`0x${match[3]}`), access: 'unknown' }
  return true
}

function readStack(text: string, into: Records): boolean {
  const first = /^0 [0-9A-Fa-f]{1,16} ([0-9A-Fa-f]{1,16}) 0{0,8}([0-9A-Fa-f]{1,8})$/.exec(text)
  if (first) {
    into.stack ??= { base: BigInt(`0x${first[1]}`), size: Number.parseInt(first[2]!, 16) }
    return true
  }
  const piece = /^([0-9A-Fa-f]{1,16}) ([0-9A-Fa-f]+)$/.exec(text)
  const bytes = piece && hexBytes(piece[2]!)
  if (!piece || !bytes) return false
  into.pieces.push({ base: BigInt(`0x${piece[1]}`), bytes })
  return true
}

function readModule(text: string, into: Records): boolean {
  const match = /^([0-9A-Fa-f]{1,16}) [0-9A-Fa-f]{1,16} 0{0,8}([0-9A-Fa-f]{1,8}) ([0-9A-Fa-f]{32,40}) (.{1,1024})$/.exec(text)
  if (!match) return false
  const [, base, size, id, name] = match as unknown as [string, string, string, string, string]
  const debugId = /^0+$/.test(id) ? null : id.toUpperCase()
  if (into.modules.length < MOST_MODULES) into.modules.push({ base: BigInt(`0x${base}`), size: Number.parseInt(size, 16), name, codeId: null, debugId, debugFile: name, version: null })
  return true
}

function hexBytes(text: string): Uint8Array | null {
  return text.length % 2 === 0 && text !== '' && /^[0-9A-Fa-f]+$/.test(text) ? Buffer.from(text, 'hex') : null
}

function dumpOf({ os, osVersion, cpu, exception, stack, pieces, modules: listed, annotations }: Records, context: Uint8Array, notes: Note[]): Dump {
  const { modules, order } = arrangeModules(listed, notes)
  const memory = createMemory(joined(pieces))
  let registers: Map<string, bigint> | null = null
  try {
    registers = readContext(new Reader(context), cpu)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    notes.push({ slug: 'registers-missing', text: `microdump: ${error.message}` })
  }
  const range = stack === null ? undefined : memory.ranges().find(({ base, size }) => base <= stack.base && base + BigInt(size) > stack.base)
  const held = range === undefined || stack === null ? 0 : Math.min(stack.size, Number(range.base + BigInt(range.size) - stack.base))
  if (stack !== null && held < stack.size) notes.push({ slug: 'memory-truncated', text: `microdump: stack 0x${stack.base.toString(16)}+${stack.size} has ${stack.size - held} bytes missing` })
  return {
    format: 'microdump', os, osVersion, cpu, exception, crashingThread: 0,
    threads: [{ id: 0, name: null, registers, stack: stack === null || held === 0 ? null : { base: stack.base, size: held }, frames: null }],
    modules, mainModule: order[0] !== undefined && order[0] >= 0 ? order[0] : null, unloadedModules: [], memory, regions: [], annotations, abortMessage: null, pid: null, createdAt: null, notes,
  }
}

/** The stack comes in lines; words lie across their ends. */
function joined(pieces: MemoryPiece[]): MemoryPiece[] {
  const runs: { base: bigint; end: bigint; parts: Uint8Array[] }[] = []
  for (const { base, bytes } of pieces) {
    const last = runs.at(-1)
    if (last && last.end === base) {
      last.parts.push(bytes)
      last.end += BigInt(bytes.length)
    } else runs.push({ base, end: base + BigInt(bytes.length), parts: [bytes] })
  }
  return runs.map(({ base, parts }) => ({ base, bytes: Buffer.concat(parts) }))
}
