/**
 * Strings and small Linux text files inside a minidump. All of it is hostile text: lengths are claims, UTF-16 may be
 * broken (replaced, never thrown), and nothing longer than a limit is kept.
 */
import type { MemoryRegion } from './dump.ts'
import type { Reader } from '../reader.ts'

/** A path, a thread's name, an annotation: longer is no name. */
const LONGEST_STRING = 16 * 1024
const MOST_REGIONS = 65_536

const UTF8 = new TextDecoder('utf-8')
const UTF16 = { little: new TextDecoder('utf-16le'), big: new TextDecoder('utf-16be') }

/** MINIDUMP_STRING: length in bytes (u32), then UTF-16. Offset 0 means none. */
export function utf16String(file: Reader, rva: number): string | null {
  if (rva === 0) return null
  const length = file.seek(rva).u32()
  return utf16(file.text(rva + 4, Math.min(length, LONGEST_STRING) & ~1, 'string'), file.littleEndian)
}

export function utf16(bytes: Uint8Array, littleEndian: boolean): string {
  const text = (littleEndian ? UTF16.little : UTF16.big).decode(bytes)
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** MinidumpUTF8String of Crashpad: length in bytes (u32), then UTF-8. */
export function utf8String(file: Reader, rva: number): string {
  const length = file.seek(rva).u32()
  return utf8(file.text(rva + 4, Math.min(length, LONGEST_STRING), 'string'))
}

export function utf8(bytes: Uint8Array): string {
  const text = UTF8.decode(bytes)
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** `/proc/self/maps`: `55d0c0a00000-55d0c0a21000 r-xp 00002000 fd:00 123 /usr/bin/x`; lines that aren't are left out. */
export function linuxMaps(bytes: Uint8Array): MemoryRegion[] {
  const regions: MemoryRegion[] = []
  for (const line of utf8(bytes).split('\n', MOST_REGIONS)) {
    const match = /^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-])([w-])([x-])[sp-]\s+\S+\s+\S+\s+\d+\s*(.*)$/.exec(line)
    if (!match) continue
    const base = BigInt(`0x${match[1]}`)
    const end = BigInt(`0x${match[2]}`)
    if (end <= base) continue
    regions.push({ base, size: end - base, read: match[3] === 'r', write: match[4] === 'w', execute: match[5] === 'x', name: match[6] || null })
  }
  return regions
}

/** `Pid:\t123` of /proc/self/status. */
export function linuxPid(bytes: Uint8Array): number | null {
  const match = /^Pid:\s*(\d{1,10})\s*$/m.exec(utf8(bytes))
  return match ? Number(match[1]) : null
}
