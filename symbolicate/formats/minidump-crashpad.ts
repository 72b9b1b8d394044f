/**
 * Crashpad's own stream (minidump_extensions.h): what the client said about itself, per process and per module.
 *
 *   MinidumpCrashpadInfo: version u32, report id 16, client id 16, simple annotations {size,rva}, module list {size,rva}
 *   simple annotations:   count u32, then {key rva, value rva} of MinidumpUTF8String
 *   module list:          count u32, then {index u32, size, rva} of MinidumpModuleCrashpadInfo:
 *                           version u32, list annotations {size,rva}, simple annotations {size,rva}, annotation objects {size,rva}
 *   annotation objects:   count u32, then {name rva u32, type u16, reserved u16, value rva u32}; type 1 is text
 *
 * Crashpad sets no limit to annotations; here a dump keeps at most MOST_ANNOTATIONS.
 */
import type { Reader } from '../reader.ts'
import { utf8, utf8String } from './minidump-text.ts'

const MOST_ANNOTATIONS = 1024
const MOST_MODULES = 4096
const LONGEST_VALUE = 64 * 1024
const STRING_TYPE = 1

interface Location { size: number; rva: number }

export function readCrashpadAnnotations(file: Reader, rva: number, size: number): Map<string, string> {
  const annotations = new Map<string, string>()
  const info = file.part(rva, size, 'Crashpad info').seek(36)
  const simple = location(info)
  const modules = location(info)
  readSimple(file, simple, annotations)
  if (modules.size < 4) return annotations
  const count = file.seek(modules.rva).u32()
  const fits = file.count(count, 12, MOST_MODULES)
  for (let index = 0; index < fits; index++) {
    const module = location(file.seek(modules.rva + 4 + index * 12 + 4))
    if (module.size < 28) continue
    file.seek(module.rva + 4)
    const list = location(file)
    const moduleSimple = location(file)
    const objects = location(file)
    readList(file, list, annotations)
    readSimple(file, moduleSimple, annotations)
    readObjects(file, objects, annotations)
  }
  return annotations
}

const location = (reader: Reader): Location => ({ size: reader.u32(), rva: reader.u32() })

function readSimple(file: Reader, { size, rva }: Location, into: Map<string, string>): void {
  for (const at of entries(file, { size, rva }, 8)) {
    file.seek(at)
    const keyRva = file.u32()
    const valueRva = file.u32()
    keep(into, utf8String(file, keyRva), utf8String(file, valueRva))
  }
}

/** Messages without a name, e.g. what dyld leaves on macOS. */
function readList(file: Reader, list: Location, into: Map<string, string>): void {
  let index = 0
  for (const at of entries(file, list, 4)) keep(into, `message-${index++}`, utf8String(file, file.seek(at).u32()))
}

function readObjects(file: Reader, objects: Location, into: Map<string, string>): void {
  for (const at of entries(file, objects, 12)) {
    file.seek(at)
    const nameRva = file.u32()
    const type = file.u16()
    const valueRva = file.skip(2).u32()
    if (type !== STRING_TYPE) continue
    const length = file.seek(valueRva).u32()
    keep(into, utf8String(file, nameRva), utf8(file.text(valueRva + 4, Math.min(length, LONGEST_VALUE), 'annotation')))
  }
}

function* entries(file: Reader, { size, rva }: Location, entrySize: number): Generator<number> {
  if (size < 4) return
  const claimed = file.seek(rva).u32()
  const fits = file.count(claimed, entrySize, MOST_ANNOTATIONS)
  for (let index = 0; index < fits; index++) yield rva + 4 + index * entrySize
}

/** The process's own annotations come first and stay. */
function keep(into: Map<string, string>, key: string, value: string): void {
  if (into.size < MOST_ANNOTATIONS && !into.has(key)) into.set(key, value)
}
