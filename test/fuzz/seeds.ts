import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Real files to start from: the project's own, and those of the shared corpus where it is there. */
const OWN = join(import.meta.dirname, '../corpus')
const SHARED = resolve(process.env.OVERRUN_CORPUS ?? resolve(import.meta.dirname, '../../../shared/corpus'))

export interface Wanted { match: RegExp; most?: number; largest?: number }

/** Files below `folder` of either corpus, in the order of their names; too large ones only slow the search down. */
export function seedsOf(folder: string, { match, most = 200, largest = 300_000 }: Wanted): Uint8Array[] {
  return [join(OWN, folder), join(SHARED, folder)].filter((root) => existsSync(root)).flatMap((root) => readdirSync(root, { recursive: true }).map(String).toSorted()
    .filter((file) => match.test(file) && statSync(join(root, file)).isFile() && statSync(join(root, file)).size <= largest)
    .map((file) => new Uint8Array(readFileSync(join(root, file)))))
    .slice(0, most)
}

export const textSeeds = (texts: readonly string[]): Uint8Array[] => texts.map((text) => new TextEncoder().encode(text))
