import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { z } from 'zod'
import { syncDirectory } from '../infra/service/sync-directory.ts'
import type { BodyReader } from './body.ts'
import type { UploadLimits } from './config.ts'
import { isRefusal, refuse, type Refusal } from './outcome.ts'

/**
 * Dumps that arrive in pieces, on disk until they are whole.
 *
 *   DIRECTORY/TOKEN.json   who sends what: written beside, synced and renamed before the upload is told
 *   DIRECTORY/TOKEN.part   the first bytes of the dump, as many as have come
 *
 * Promise: an offset is told only after the bytes below it are synced, and never falls. The token is the only key to an
 * upload and is guessed by nobody; whoever had it could spoil the upload and no more, since the signed digest decides.
 * Bounded: so many uploads, so many of one device, so many bytes as were signed for, and one upload for one report
 * (a newer one takes its place: the device has forgotten the token of the older).
 */
export interface Upload extends Facts {
  readonly token: string
  /** Bytes that are there; synced when told (sync). */
  offset: number
}

const factsSchema = z.object({
  fleet: z.string(),
  deviceId: z.string(),
  /** The crash id of the report. */
  report: z.string(),
  /** Bytes of the whole dump, as signed. */
  size: z.int().nonnegative(),
  createdAt: z.int().nonnegative(),
  /** base64 */
  manifest: z.string(),
})
export type Facts = z.infer<typeof factsSchema>

export interface Uploads {
  /** Reads what is on disk; to be awaited once, before anything else. */
  load(): Promise<void>
  create(facts: Facts): Promise<Upload | Refusal>
  /** Null once it has expired. */
  find(token: string, now: number): Promise<Upload | null>
  /** Appends the body up to the signed size, and syncs what came even if the rest doesn't. */
  append(upload: Upload, body: BodyReader): Promise<Refusal | undefined>
  /** After it the offset may be told. */
  sync(upload: Upload): Promise<void>
  read(upload: Upload): Readable
  remove(upload: Upload): Promise<void>
  count(): number
}

const TOKEN = /^[0-9a-f]{32}$/

export function createUploads({ directory, limits }: { directory: string; limits: UploadLimits }): Uploads {
  const uploads = new Map<string, Upload>()
  const part = (token: string) => join(directory, `${token}.part`)
  const facts = (token: string) => join(directory, `${token}.json`)

  async function load(): Promise<void> {
    await mkdir(directory, { recursive: true })
    const files = await readdir(directory)
    for (const token of files.flatMap((file) => (file.endsWith('.json') ? [file.slice(0, -5)] : []))) {
      const read = factsSchema.safeParse(parseJson(await readFile(facts(token), 'utf8')))
      const there = await stat(part(token)).catch(() => null)
      if (read.success && there !== null) uploads.set(token, { ...read.data, token, offset: Math.min(there.size, read.data.size) })
    }
    for (const file of files) if (!uploads.has(file.replace(/\..*$/, ''))) await rm(join(directory, file), { force: true })
  }

  async function remove({ token }: Upload): Promise<void> {
    uploads.delete(token)
    await rm(facts(token), { force: true })
    await rm(part(token), { force: true })
  }

  async function withFile<T>({ token }: Upload, work: (file: FileHandle) => Promise<T>): Promise<T> {
    const file = await open(part(token), 'r+')
    try {
      return await work(file)
    } finally {
      await file.close()
    }
  }

  return {
    load,
    remove,
    count: () => uploads.size,
    async create(said) {
      for (const upload of [...uploads.values()]) {
        const replaced = upload.report === said.report && upload.fleet === said.fleet
        if (replaced || said.createdAt - upload.createdAt >= limits.expiryMs) await remove(upload)
      }
      const open = [...uploads.values()]
      const own = open.filter(({ fleet, deviceId }) => fleet === said.fleet && deviceId === said.deviceId)
      const bytes = open.reduce((sum, { size }) => sum + size, said.size)
      if (own.length >= limits.perDevice) return refuse('overloaded', `the device has ${own.length} uploads under way`)
      if (open.length >= limits.most || bytes > limits.bytes) return refuse('overloaded', 'too many uploads are under way')
      const upload: Upload = { ...said, token: randomBytes(16).toString('hex'), offset: 0 }
      uploads.set(upload.token, upload)
      await write(part(upload.token), '')
      await write(`${facts(upload.token)}.new`, JSON.stringify(said))
      await rename(`${facts(upload.token)}.new`, facts(upload.token))
      await syncDirectory(directory)
      return upload
    },
    async find(token, now) {
      const upload = TOKEN.test(token) ? uploads.get(token) : undefined
      if (upload === undefined) return null
      if (now - upload.createdAt < limits.expiryMs) return upload
      await remove(upload)
      return null
    },
    append: (upload, body) => withFile(upload, async (file) => {
      try {
        for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) {
          if (isRefusal(chunk)) return chunk
          if (upload.offset + chunk.length > upload.size) return refuse('trailing-bytes', `upload: goes on behind the ${upload.size} bytes that the manifest signs`)
          await file.write(chunk, 0, chunk.length, upload.offset)
          upload.offset += chunk.length
        }
        return undefined
      } finally {
        await file.datasync()
      }
    }),
    sync: (upload) => withFile(upload, (file) => file.datasync()),
    read: ({ token, size }) => createReadStream(part(token), { end: Math.max(0, size - 1) }),
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function write(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}
