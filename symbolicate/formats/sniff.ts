/**
 * Which format the bytes are, by magic first and by the claimed content type only where the bytes can't tell.
 * A device's claim never overrules a magic number: a wrong claim must not hide a dump from its parser.
 */
import { fromBase64, isEspImage } from './esp-coredump.ts'
import { ESP_PANIC } from './esp-panic.ts'
import { MICRODUMP_BEGIN } from './microdump.ts'
import { ZEPHYR_LINE } from './zephyr-coredump.ts'

export type Format =
  | 'minidump' | 'microdump' | 'elf-core' | 'zephyr-coredump' | 'esp-coredump' | 'esp-panic' | 'sanitizer' | 'js-stack' | 'text' | 'empty' | 'unknown'

/** Enough for every marker below; a sanitizer report may have a page of log before it. */
const TEXT_WINDOW = 64 * 1024

export function sniff(bytes: Uint8Array, claimedContentType: string): Format {
  if (bytes.length === 0) return 'empty'
  const magic = latin1(bytes, 0, 4)
  if (magic === 'MDMP' || magic === 'PMDM') return 'minidump'
  if (magic === '\x7fELF') return isEspCore(bytes) ? 'esp-coredump' : 'elf-core'
  if (magic.startsWith('ZE') && (bytes[2] === 1 || bytes[2] === 2) && bytes[3] === 0) return 'zephyr-coredump'
  if (isEspImage(bytes)) return 'esp-coredump'
  // A serial log may be long before it crashes, and begin with noise.
  if (find(bytes, `${ZEPHYR_LINE}BEGIN#`)) return 'zephyr-coredump'
  if (find(bytes, 'CORE DUMP START')) return 'esp-coredump'
  if (find(bytes, 'Guru Meditation Error: ')) return 'esp-panic'
  if (looksLikeText(bytes)) return sniffText(latin1(bytes, 0, TEXT_WINDOW), claimedContentType)
  return 'unknown'
}

// ==123==ERROR: AddressSanitizer: ...   file.c:3:5: runtime error: ...   WARNING: ThreadSanitizer: data race
const SANITIZER = /(?:ERROR|WARNING): (?:\w+Sanitizer|libFuzzer)\b|\bruntime error: |\bGWP-ASan detected a memory error\b|SUMMARY: \w+Sanitizer:/
// V8: "    at fn (file.js:1:2)".  Hermes and JavaScriptCore: "fn@address at main.jsbundle:1:2", "fn@file.js:1:2".
const JS_STACK = /^\s+at (?:.+ \()?[^()\n]+:\d+:\d+\)?\s*$|^[^\s@]*@[^\s]+:\d+:\d+\s*$/m

function sniffText(text: string, claimedContentType: string): Format {
  if (text.includes(MICRODUMP_BEGIN)) return 'microdump'
  if (SANITIZER.test(text)) return 'sanitizer'
  if (ESP_PANIC.test(text)) return 'esp-panic'
  if (fromBase64(firstLines(text)) !== null) return 'esp-coredump'
  if (/json/i.test(claimedContentType) ? /"(?:stack|stacktrace)"/.test(text) || JS_STACK.test(text) : JS_STACK.test(text)) return 'js-stack'
  return 'text'
}

/** The header of a coredump is the first line that the UART wrote, or the first two. */
const firstLines = (text: string): string => text.slice(0, 256).split('\n', 2).join('\n')

const find = (bytes: Uint8Array, text: string): boolean => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(text, 0, 'latin1')

const MACHINE_XTENSA = 94
const MACHINE_RISCV = 243

/** ESP-IDF's core without its envelope: no Linux runs on an Xtensa, and on RISC-V its own notes tell. */
function isEspCore(bytes: Uint8Array): boolean {
  const machine = (bytes[18] ?? 0) | ((bytes[19] ?? 0) << 8)
  return machine === MACHINE_XTENSA || (machine === MACHINE_RISCV && bytes[4] === 1 && find(bytes, 'ESP_CORE_DUMP_INFO'))
}

/** No NUL and few control characters in the first kilobyte. */
function looksLikeText(bytes: Uint8Array): boolean {
  const window = bytes.subarray(0, 1024)
  let control = 0
  for (const byte of window) {
    if (byte === 0) return false
    if (byte < 0x20 && byte !== 9 && byte !== 10 && byte !== 13 && byte !== 0x1b) control++
  }
  return control * 20 <= window.length
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1', from, Math.min(to, bytes.length))
}
