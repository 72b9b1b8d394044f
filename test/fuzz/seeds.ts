import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Real files to start from: the project's own, and those of the shared corpus where it is there. */
const OWN = join(import.meta.dirname, '../corpus')
const SHARED = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'))

/** Where it is absent, targets that start from it alone have nothing to start from. */
export const hasSharedCorpus = existsSync(SHARED)

export interface Wanted { match: RegExp; most?: number; largest?: number }

/** Files below `folder` of either corpus, in the order of their names; too large ones only slow the search down. */
export function seedsOf(folder: string, { match, most = 200, largest = 300_000 }: Wanted): Uint8Array[] {
  return [join(OWN, folder), join(SHARED, folder)].filter((root) => existsSync(root)).flatMap((root) => readdirSync(root, { recursive: true }).map(String).toSorted()
    .filter((file) => match.test(file) && statSync(join(root, file)).isFile() && statSync(join(root, file)).size <= largest)
    .map((file) => new Uint8Array(readFileSync(join(root, file)))))
    .slice(0, most)
}

const EMPTY_PAGE = Buffer.alloc(4096)

export const textSeeds = (texts: readonly string[]): Uint8Array[] => texts.map((text) => new TextEncoder().encode(text))

/**
 * A core file without its empty pages: most of a real one is a stack that was never used. Same header, same notes; of each
 * segment the first pages that hold something.
 */
export function shrinkCore(core: Uint8Array): Uint8Array {
  const wide = core[4] === 2
  const file = Buffer.from(core.buffer, core.byteOffset, core.length)
  const word = (at: number): number => (wide ? Number(file.readBigUInt64LE(at)) : file.readUInt32LE(at))
  const tableAt = word(wide ? 32 : 28)
  const entry = file.readUInt16LE(wide ? 54 : 42)
  const count = file.readUInt16LE(wide ? 56 : 44)
  // Type, offset, address and the two sizes lie differently in the two classes.
  const at = wide ? { offset: 8, address: 16, fileSize: 32, memorySize: 40 } : { offset: 4, address: 8, fileSize: 16, memorySize: 20 }
  const pieces: { head: Buffer; bytes: Uint8Array }[] = []
  for (let index = 0; index < count; index++) {
    const head = file.subarray(tableAt + index * entry, tableAt + (index + 1) * entry)
    const [offset, size] = [word(tableAt + index * entry + at.offset), word(tableAt + index * entry + at.fileSize)]
    const bytes = file.subarray(offset, offset + size)
    if (head.readUInt32LE(0) !== 1) { pieces.push({ head: Buffer.from(head), bytes }); continue }
    let kept = 0
    for (let page = 0; page < bytes.length && kept < 6; page += 4096) {
      const part = bytes.subarray(page, page + 4096)
      if (part.equals(EMPTY_PAGE.subarray(0, part.length))) continue
      kept++
      const piece = Buffer.from(head)
      const address = (wide ? file.readBigUInt64LE(tableAt + index * entry + at.address) : BigInt(file.readUInt32LE(tableAt + index * entry + at.address))) + BigInt(page)
      if (wide) piece.writeBigUInt64LE(address, at.address)
      else piece.writeUInt32LE(Number(address), at.address)
      for (const field of [at.fileSize, at.memorySize]) if (wide) piece.writeBigUInt64LE(BigInt(part.length), field); else piece.writeUInt32LE(part.length, field)
      pieces.push({ head: piece, bytes: part })
    }
  }
  const header = Buffer.from(file.subarray(0, wide ? 64 : 52))
  header.writeUInt16LE(pieces.length, wide ? 56 : 44)
  if (wide) header.writeBigUInt64LE(BigInt(header.length), 32)
  else header.writeUInt32LE(header.length, 28)
  let place = header.length + pieces.length * entry
  for (const { head, bytes } of pieces) {
    if (wide) head.writeBigUInt64LE(BigInt(place), at.offset)
    else head.writeUInt32LE(place, at.offset)
    place += bytes.length
  }
  return new Uint8Array(Buffer.concat([header, ...pieces.map(({ head }) => head), ...pieces.map(({ bytes }) => bytes)]))
}
