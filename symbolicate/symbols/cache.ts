import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { open, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'

/**
 * Prepared symbols as files in one folder, the only one beside the code that a parser's child may read.
 *
 * A file is complete or not there (written aside, then renamed), named by the content that it was made from, and never
 * changed. The folder holds at most `maxBytes`: the least recently used go first, but never one that was handed out
 * within the last minute, since a child may be about to open it. Losing the folder costs time and nothing else.
 */
export interface FileCache {
  /** Path of the file, now the most recently used; null when it is not there. */
  use(name: string): Promise<string | null>
  put(name: string, bytes: Uint8Array): Promise<string>
  readonly bytes: number
}

const HELD_MS = 60_000
/** A file that was there so recently is not looked at again: each dump of a busy second asks for the same few. */
const FRESH_MS = 1_000

export function openFileCache({ directory, maxBytes }: { directory: string; maxBytes: number }): FileCache {
  mkdirSync(directory, { recursive: true })
  /** In the order of use, the least recent first. */
  const files = new Map<string, { size: number; usedAt: number }>()
  let bytes = 0

  const found = readdirSync(directory).map((name) => ({ name, ...pick(statSync(join(directory, name))) }))
  for (const { name, size, usedAt } of found.toSorted((a, b) => a.usedAt - b.usedAt)) note(name, size, usedAt)

  function note(name: string, size: number, usedAt: number) {
    bytes += size - (files.get(name)?.size ?? 0)
    files.delete(name)
    files.set(name, { size, usedAt })
  }

  function forget(name: string) {
    bytes -= files.get(name)?.size ?? 0
    files.delete(name)
  }

  async function evict(now: number) {
    for (const [name, { usedAt }] of files) {
      if (bytes <= maxBytes || now - usedAt < HELD_MS) return
      forget(name)
      await rm(join(directory, name), { force: true })
    }
  }

  return {
    get bytes() { return bytes },
    async use(name) {
      const path = join(directory, name)
      const last = files.get(name)
      if (last !== undefined && Date.now() - last.usedAt < FRESH_MS) return path
      const known = await stat(path).catch(() => null)
      if (known === null) {
        forget(name)
        return null
      }
      const now = new Date()
      note(name, known.size, now.getTime())
      await utimes(path, now, now)
      return path
    },
    async put(name, content) {
      const path = join(directory, name)
      const aside = join(directory, `.${name}.${randomBytes(6).toString('hex')}`)
      const handle = await open(aside, 'wx', 0o600)
      try {
        await handle.writeFile(content)
      } finally {
        await handle.close()
      }
      await rename(aside, path)
      const now = Date.now()
      note(name, content.length, now)
      await evict(now)
      return path
    },
  }
}

const pick = ({ size, mtimeMs }: { size: number; mtimeMs: number }) => ({ size, usedAt: mtimeMs })
