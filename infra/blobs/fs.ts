import { randomUUID } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { syncDirectory } from '../service/sync-directory.ts'
import type { Blobs } from './blobs.ts'
import { checkKey, checkPrefix } from './key.ts'
import { blobsBroken } from './outcome.ts'

/**
 * Blobs as files: the key is the path below the folder.
 *
 * Promise: put() resolves when file, name and new folders are synced. A blob is written beside its place and renamed
 * into it, so a reader sees the old bytes or the new ones and never a part, whatever is killed when.
 */
const UNFINISHED = '.unfinished'
/** What a killed process left half-written; older than any put takes. */
const ABANDONED_AFTER_MS = 24 * 3_600_000

export async function openFsBlobs({ directory }: { directory: string }): Promise<Blobs> {
  const root = resolve(directory)
  const unfinished = join(root, UNFINISHED)
  await world('open', () => mkdir(unfinished, { recursive: true }))
  await world('open', () => removeAbandoned(unfinished))
  const fileOf = (key: string): string => {
    checkKey(key)
    return join(root, key)
  }

  const put: Blobs['put'] = async (key, body) => {
    const file = fileOf(key)
    const draft = join(unfinished, randomUUID())
    // A stream may break while the file is being opened: the loop below throws its error, but one that nobody listens to ends the process.
    if (!(body instanceof Uint8Array)) body.on('error', () => undefined)
    let size = 0
    try {
      const handle = await world('write', () => open(draft, 'wx'))
      try {
        for await (const chunk of body instanceof Uint8Array ? [body] : body) {
          const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk as Uint8Array
          await world('write', () => handle.appendFile(bytes))
          size += bytes.byteLength
        }
        await world('sync', () => handle.sync())
      } finally {
        await handle.close()
      }
      await world('write', () => moveIntoPlace(root, draft, file))
    } catch (error) {
      await rm(draft, { force: true }).catch(() => undefined)
      throw error
    }
    return { size }
  }

  return {
    streamBytes: 0,
    put,

    async get(key, range) {
      const file = fileOf(key)
      const handle = await absentIsNull('read', () => open(file, 'r'))
      if (handle === null) return null
      try {
        return await absentIsNull('read', () => readRange(handle, range))
      } finally {
        await handle.close()
      }
    },

    async head(key) {
      const file = fileOf(key)
      const found = await absentIsNull('read', () => stat(file))
      return found?.isFile() ? { size: found.size, modifiedAt: found.mtimeMs } : null
    },

    async *list(prefix) {
      checkPrefix(prefix)
      const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
      for await (const key of walk(root, folder, prefix)) {
        const found = await absentIsNull('list', () => stat(join(root, key)))
        if (found) yield { key, size: found.size, modifiedAt: found.mtimeMs }
      }
    },

    async delete(key) {
      const file = fileOf(key)
      await world('delete', () => rm(file, { force: true }))
      await absentIsNull('sync', () => syncDirectory(dirname(file)))
    },

    async check() {
      const draft = join(unfinished, randomUUID())
      await world('check', async () => {
        const handle = await open(draft, 'wx')
        await handle.close()
        await rm(draft)
      })
    },
  }
}

async function moveIntoPlace(root: string, draft: string, file: string): Promise<void> {
  const created = await mkdir(dirname(file), { recursive: true })
  await rename(draft, file)
  const last = created === undefined ? dirname(file) : dirname(created)
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    await syncDirectory(folder)
    if (folder === last || folder === root) return
  }
}

async function readRange(handle: FileHandle, range: { start: number; end: number } | undefined): Promise<Uint8Array> {
  const { size } = await handle.stat()
  const start = Math.min(range?.start ?? 0, size)
  const bytes = Buffer.alloc(Math.max(0, Math.min(range?.end ?? size, size) - start))
  for (let read = 0; read < bytes.length;) {
    const { bytesRead } = await handle.read(bytes, read, bytes.length - read, start + read)
    if (bytesRead === 0) return bytes.subarray(0, read)
    read += bytesRead
  }
  return bytes
}

/** Keys in the order of their bytes, as S3 lists them: a folder sorts as its name with the slash. */
async function* walk(root: string, folder: string, prefix: string): AsyncGenerator<string> {
  const found = await absentIsNull('list', () => readdir(join(root, folder), { withFileTypes: true }))
  const names = (found ?? []).filter(({ name }) => !name.startsWith('.')).map((entry: Dirent) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
  for (const name of names.sort()) {
    const key = folder + name
    if (!key.startsWith(prefix) && !prefix.startsWith(key)) continue
    if (name.endsWith('/')) yield* walk(root, key, prefix)
    else if (key.startsWith(prefix)) yield key
  }
}

async function removeAbandoned(unfinished: string): Promise<void> {
  for (const name of await readdir(unfinished)) {
    const found = await stat(join(unfinished, name)).catch(() => null)
    if (found && Date.now() - found.mtimeMs > ABANDONED_AFTER_MS) await rm(join(unfinished, name), { force: true })
  }
}

const FULL = ['ENOSPC', 'EDQUOT', 'EFBIG']
const ABSENT = ['ENOENT', 'ENOTDIR', 'EISDIR']
const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

async function world<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw blobsBroken(FULL.includes(codeOf(error)) ? 'blobs-disk-full' : 'blobs-unreachable', what, error)
  }
}

const absentIsNull = <T>(what: string, work: () => Promise<T>): Promise<T | null> => world(what, async () => {
  try {
    return await work()
  } catch (error) {
    if (ABSENT.includes(codeOf(error))) return null
    throw error
  }
})
