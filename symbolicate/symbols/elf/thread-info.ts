/**
 * Where a Zephyr firmware keeps its threads, by its own words: with CONFIG_DEBUG_THREAD_INFO it has an array of offsets for
 * debuggers (subsys/debug/thread_info.c; `openocd` in the names of older releases), each as wide as a size_t:
 *
 *   _kernel_thread_info_offsets   version (1), current thread and list of threads in the kernel's structure; in a thread's: entry, next
 *                                 thread, state, options, priority, stack pointer, name, arch; in arch: preempt float, coop float,
 *                                 [EXC_RETURN's byte, ...]. All ones: there is no such field. Further ones are only ever added.
 *   _kernel_thread_info_num_offsets, _kernel_thread_info_size_t_size (u8), _kernel
 *
 * Kept in the prepared form: width, address of _kernel in two words, then the offsets as u32.
 */
import { Cursor } from '../dwarf/cursor.ts'
import type { ThreadInfo } from '../source.ts'
import { NONE } from '../tables.ts'
import { SECTION, type ElfImage } from './elf.ts'

const PREFIXES = ['_kernel_thread_info', '_kernel_openocd'] as const
const MOST_SYMBOLS = 1_000_000
const MOST_OFFSETS = 64
/** Up to the stack pointer: version 0 has no more. */
const LEAST_OFFSETS = 9
const FIELD = { version: 0, currentThread: 1, threads: 2, nextThread: 4, stackPointer: 8, name: 9, arch: 10, exceptionReturn: 13 } as const
const HEADER = 3

interface Found { address: bigint; size: number }

/** Empty where no file is such a firmware. Throws InputError. */
export function readThreadInfo(images: readonly ElfImage[]): Uint32Array {
  for (const image of images) {
    const words = readFrom(image)
    if (words !== null) return words
  }
  return new Uint32Array()
}

function readFrom(image: ElfImage): Uint32Array | null {
  const symbols = kernelSymbols(image)
  const prefix = PREFIXES.find((name) => symbols.has(`${name}_offsets`))
  if (prefix === undefined) return null
  const offsets = symbols.get(`${prefix}_offsets`)!
  const width = wordAt(image, symbols.get(`${prefix}_size_t_size`), 1) ?? image.width
  if (width !== 4 && width !== 8) return null
  const count = wordAt(image, symbols.get(`${prefix}_num_offsets`), width) ?? Math.floor(offsets.size / width)
  if (count < LEAST_OFFSETS) return null
  const values: number[] = []
  for (let index = 0; index < Math.min(count, MOST_OFFSETS); index++) {
    const value = wordAt(image, { ...offsets, address: offsets.address + BigInt(index * width) }, width)
    if (value === null) return null
    values.push(value)
  }
  const kernel = symbols.get('_kernel')?.address ?? null
  return Uint32Array.of(width, kernel === null ? NONE : Number(kernel & 0xffff_ffffn), kernel === null ? NONE : Number(kernel >> 32n), ...values)
}

/** null when the words are not such a firmware's. */
export function threadInfoOf(words: Uint32Array): ThreadInfo | null {
  const [width, low, high] = words
  if ((width !== 4 && width !== 8) || words.length < HEADER + LEAST_OFFSETS) return null
  const field = (index: number): number | null => { const value = words[HEADER + index] ?? NONE; return value === NONE ? null : value }
  const [version, currentThread, threads, nextThread] = [field(FIELD.version), field(FIELD.currentThread), field(FIELD.threads), field(FIELD.nextThread)]
  if (version === null || version > 1 || currentThread === null || threads === null || nextThread === null) return null
  const [arch, exceptionReturn] = [field(FIELD.arch), field(FIELD.exceptionReturn)]
  return {
    kernel: low === NONE && high === NONE ? null : low! + high! * 0x1_0000_0000, width, currentThread, threads, nextThread, stackPointer: field(FIELD.stackPointer),
    name: version === 0 ? null : field(FIELD.name), exceptionReturn: arch === null || exceptionReturn === null ? null : arch + exceptionReturn,
  }
}

/** Nearly no file has them, so their names are looked for in the text of all names first. */
function kernelSymbols(image: ElfImage): Map<string, Found> {
  const found = new Map<string, Found>()
  const table = image.sections.find(({ type }) => type === SECTION.symtab) ?? null
  const texts = table && image.content(image.sections[table.link] ?? null)
  const entries = texts && PREFIXES.some((name) => Buffer.from(texts.buffer, texts.byteOffset, texts.length).includes(`${name}_offsets\0`)) ? image.content(table) : null
  if (texts === null || entries === null) return found
  const wide = image.width === 8
  const entrySize = wide ? 24 : 16
  const [cursor, names] = [new Cursor(entries, 'symbols'), new Cursor(texts, 'symbol names')]
  for (let index = 1; index < Math.min(Math.floor(entries.length / entrySize), MOST_SYMBOLS); index++) {
    const nameAt = cursor.seek(index * entrySize).u32()
    const name = nameAt > 0 && nameAt < texts.length ? names.textAt(nameAt) : ''
    if (name !== '_kernel' && !PREFIXES.some((prefix) => name.startsWith(prefix))) continue
    cursor.seek(index * entrySize + (wide ? 8 : 4))
    const address = BigInt(cursor.u32()) + (wide ? BigInt(cursor.u32()) << 32n : 0n)
    found.set(name, { address, size: cursor.u32() })
  }
  return found
}

/** What the file holds at an address, little-endian; more than 32 bits are all ones. */
function wordAt(image: ElfImage, symbol: Found | undefined, width: number): number | null {
  const section = symbol && image.sections.find(({ type, address, size }) => type !== SECTION.nobits && address > 0n && symbol.address >= address && symbol.address + BigInt(width) <= address + BigInt(size))
  const bytes = section && image.content(section)
  if (!bytes) return null
  let value = 0
  const at = Number(symbol.address - section.address)
  for (let index = width - 1; index >= 0; index--) value = value * 256 + (bytes[at + index] ?? 0)
  return Math.min(value, NONE)
}
