/**
 * What is fuzzed: each parser through the door that hostile bytes take in production, with production's budgets. A target
 * throws when a promise is broken: an outcome that is none of ours, an answer that the sandbox's parent would refuse, text
 * from outside of the input, two readings of one symbol file that differ.
 */
import { zstdDecompressSync } from 'node:zlib'
import { analyse } from '../../symbolicate/analyse.ts'
import { messageOf } from '../../infra/service/errors.ts'
import { parseJsStack } from '../../symbolicate/formats/js-stack.ts'
import { checkAnswer } from '../../symbolicate/sandbox/answers.ts'
import { prepare } from '../../symbolicate/sandbox/prepare.ts'
import { createFrameReader, frame } from '../../symbolicate/sandbox/wire.ts'
import { demangle } from '../../symbolicate/symbols/demangle.ts'
import { openPrepared, type PreparedSymbols } from '../../symbolicate/symbols/prepared.ts'
import { mapFrames } from '../../symbolicate/symbols/source-map.ts'
import type { SymbolSource } from '../../symbolicate/symbols/source.ts'
import { normaliseName } from '../../symbolicate/signature/normalise.ts'
import type { AcceptedCrash } from '../../ingest/contract.ts'
import { ESP_PANICS, MANGLED, JS_STACKS, SOURCE_MAPS, MAP_ID } from './texts.ts'
import { seedsOf, shrinkCore, textSeeds } from './seeds.ts'

export interface Target {
  name: string
  text: boolean
  /** Bytes at the front that mostly stay. */
  keep: number
  seeds(): Uint8Array[]
  run(bytes: Uint8Array): Promise<void> | void
}

export const TARGETS: readonly Target[] = [
  dump('minidump', 'application/x-minidump', { keep: 4, seeds: () => seedsOf('minidump', { match: /\.dmp$/ }).concat(seedsOf('crashpad-x64', { match: /\.dmp$/ })).filter((bytes) => bytes[0] === 0x4d) }),
  dump('microdump', 'text/plain', { text: true, seeds: () => seedsOf('minidump/breakpad', { match: /^microdump-.*\.dmp$/ }) }),
  dump('sanitizer', 'text/plain', { text: true, seeds: () => seedsOf('text/clusterfuzz', { match: /\.txt$/, largest: 60_000, most: 400 }) }),
  dump('js-stack', 'application/vnd.overrun.js-stack+json', { text: true, seeds: () => textSeeds(JS_STACKS) }),
  dump('elf-core', 'application/x-elf-core', { keep: 7, seeds: () => seedsOf('elf-core', { match: /\.core\.zst$/ }).map((bytes) => shrinkCore(zstdDecompressSync(bytes))), program: 'elf-core/programs' }),
  dump('zephyr', 'application/x-zephyr-coredump', { text: true, seeds: () => seedsOf('mcu', { match: /\.log$/ }), program: 'mcu/cortex-m' }),
  dump('zephyr-binary', 'application/x-zephyr-coredump', { keep: 4, seeds: () => seedsOf('mcu', { match: /\.log$/ }).flatMap(binaryOfLog), program: 'mcu/cortex-m' }),
  dump('esp-base64', 'application/x-esp-coredump', { text: true, seeds: () => seedsOf('mcu/esp-idf', { match: /\.b64$/ }), program: 'mcu/esp-idf' }),
  dump('esp-binary', 'application/x-esp-coredump', { keep: 4, seeds: () => seedsOf('mcu/esp-idf', { match: /\.b64$/ }).map(fromBase64Lines), program: 'mcu/esp-idf' }),
  dump('esp-panic', 'text/plain', { text: true, seeds: () => textSeeds(ESP_PANICS), program: 'mcu/esp-idf' }),
  dump('text', 'text/plain', { text: true, seeds: () => seedsOf('text/syzkaller', { match: /\d$|\.txt$/, largest: 40_000, most: 300 }).concat(seedsOf('mcu', { match: /\.log$/ })) }),
  { name: 'source-map', text: true, keep: 0, seeds: () => textSeeds(SOURCE_MAPS), run: runSourceMap },
  { name: 'breakpad-sym', text: true, keep: 7, seeds: () => seedsOf('minidump/symbols', { match: /\.sym$/, largest: 60_000 }).concat(seedsOf('minidump/breakpad', { match: /\.sym$/, largest: 60_000 }), seedsOf('symbols', { match: /\.sym$/, largest: 60_000 })), run: runPrepare },
  { name: 'elf-dwarf', text: false, keep: 7, seeds: () => [...seedsOf('elf-core/programs', { match: /^sensord/, largest: 60_000 }), ...seedsOf('mcu', { match: /\.elf$/, largest: 120_000 })], run: runPrepare },
  { name: 'prepared', text: false, keep: 0, seeds: preparedSeeds, run: runPrepared },
  { name: 'demangle', text: true, keep: 0, seeds: () => textSeeds(MANGLED), run: runDemangle },
]

export const targetOf = (name: string): Target | undefined => TARGETS.find((target) => target.name === name)

/** Bytes that lie beside the input in memory: nothing may ever show them. */
export const MARGIN_TEXT = 'BEYONDTHEEND'

interface DumpTarget { text?: boolean; keep?: number; seeds(): Uint8Array[]; /** Folder with an ELF file whose symbols every module gets. */ program?: string }

function dump(name: string, contentType: AcceptedCrash['contentType'], { text = false, keep = 0, seeds, program }: DumpTarget): Target {
  const symbols = anySymbols(program)
  return {
    name, text, keep, seeds,
    async run(bytes) {
      const analysis = await analyse({ bytes, contentType, claims: {}, annotations: {} }, { symbols, maps: { find: async () => null } })
      const answer = frame({ t: 'analysis', analysis })
      if (answer.length > ANSWER_BYTES) throw new Error(`an answer of ${answer.length} bytes`)
      refuseMargin(checkAnswer(createFrameReader(ANSWER_BYTES).push(answer)[0]))
    },
  }
}

/** Of the sandbox's settings. */
const ANSWER_BYTES = 4 * 1024 * 1024

/** Symbols of one program for every module: rules and lines that fit nothing are asked all the same. */
function anySymbols(program: string | undefined): SymbolSource {
  let symbols: PreparedSymbols | null = null
  return {
    async find({ debugId, elfSha256 }) {
      if (debugId === null && elfSha256 == null) return { status: 'no-id', reason: 'none' }
      symbols ??= openPrepared(program === undefined ? preparedSeeds()[0]! : preparedProgram(program))!
      return { status: 'found', symbols }
    },
  }
}

function preparedProgram(folder: string): Uint8Array {
  const [program] = seedsOf(folder, { match: /^(?:sensord-nofp|fw-1-ssp\.elf|esp32\.elf)$/, largest: 4_000_000 })
  const answer = program && prepare(program, 'program')
  if (answer?.t !== 'prepared' || !('bytes' in answer.prepared)) throw new Error(`no program in ${folder}`)
  return answer.prepared.bytes
}

/** `#CD:5a4502...` lines to the bytes that they spell. */
function binaryOfLog(log: Uint8Array): Uint8Array[] {
  const digits = [...Buffer.from(log).toString('latin1').matchAll(/#CD:((?:[0-9a-f]{2})+)\s*$/gm)].map(([, line]) => line).join('')
  return digits === '' ? [] : [new Uint8Array(Buffer.from(digits, 'hex'))]
}

const fromBase64Lines = (text: Uint8Array): Uint8Array => new Uint8Array(Buffer.concat(Buffer.from(text).toString('latin1').split('\n').map((line) => Buffer.from(line.trim(), 'base64'))))

function preparedSeeds(): Uint8Array[] {
  return seedsOf('symbols/sensord', { match: /\.sym$/ }).concat(seedsOf('symbols/bpdaemon', { match: /\.sym$/ })).map((bytes) => {
    const answer = prepare(bytes, 'seed.sym')
    if (answer.t !== 'prepared' || answer.prepared.kind !== 'breakpad-sym') throw new Error('a seed is no symbol file')
    return answer.prepared.bytes
  })
}

function runPrepare(bytes: Uint8Array): void {
  const answer = prepare(bytes, 'input')
  if (answer.t === 'unusable') { refuseMargin(answer.reason); return }
  if (!('bytes' in answer.prepared)) return
  const opened = openPrepared(answer.prepared.bytes)
  if (opened === null) throw new Error('what was prepared can not be opened')
  ask(opened)
}

/** A cache file that a disk or a person has changed. */
function runPrepared(bytes: Uint8Array): void {
  const opened = openPrepared(bytes)
  if (opened !== null) ask(opened)
}

const PLACES = [0, 1, 0x1000, 0x1234, 0x13e6, 0x146a, 0x1640, 0x2000, 0x3fff, 0x10_0000, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER]

function ask({ lookup, cfi, windowsFrame, identity }: PreparedSymbols): void {
  const answers = PLACES.map((offset) => {
    const hit = lookup(offset)
    if (hit !== null && (hit.functionOffset > offset || hit.inlines.length > 128)) throw new Error(`look-up of ${offset} gives a function at ${hit.functionOffset} with ${hit.inlines.length} inlines`)
    return [hit, [...cfi(offset) ?? []], windowsFrame?.(offset)]
  })
  refuseMargin([identity, answers])
}

async function runSourceMap(bytes: Uint8Array): Promise<void> {
  const answer = prepare(bytes, 'input.map')
  refuseMargin(answer)
  const stack = parseJsStack(new TextEncoder().encode(JS_STACKS[0]!))
  if ('slug' in stack) throw new Error('the stack that maps are tried on is none')
  const files = new Map([...new Set(stack.frames.map(({ file }) => file))].flatMap((file) => (file === null ? [] : [[file, MAP_ID] as const])))
  const { frames, statuses } = await mapFrames(stack.frames, files, { find: async () => bytes })
  if (frames.length !== stack.frames.length) throw new Error(`${stack.frames.length} frames became ${frames.length}`)
  for (const { status } of statuses.values()) if (!['found', 'corrupt', 'mismatched', 'missing'].includes(status)) throw new Error(`status ${status}`)
  refuseMargin(frames)
}

function runDemangle(bytes: Uint8Array): void {
  const name = new TextDecoder().decode(bytes)
  const plain = demangle(name)
  if (plain.length > Math.max(name.length, 16_384)) throw new Error(`${name.length} characters became ${plain.length}`)
  refuseMargin([plain, normaliseName(name)])
}

function refuseMargin(value: unknown): void {
  const text = JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? inner.toString(16) : inner))
  if (text.includes(MARGIN_TEXT)) throw new Error('something behind the end of the input is in the answer')
}

export const describeError = (error: unknown): string => (error instanceof Error ? `${error.name}: ${messageOf(error)} ${error.stack?.split('\n')[1]?.trim() ?? ''}` : String(error)).slice(0, 500)
